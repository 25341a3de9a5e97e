"""What happens to a reconstruction when latents of one SAE are put into another."""
