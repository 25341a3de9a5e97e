"""A language model run up to the hook, and the activations that it leaves in shards."""
