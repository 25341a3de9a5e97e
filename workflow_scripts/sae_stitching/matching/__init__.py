"""Which latents of two dictionaries belong together."""
