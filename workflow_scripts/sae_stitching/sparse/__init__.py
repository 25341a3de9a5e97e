"""Sparse codes: which latents are active, and products that cost as much as those."""
