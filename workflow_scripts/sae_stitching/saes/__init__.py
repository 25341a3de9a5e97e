"""Sparse autoencoders: the five architectures, their training, their codes, what they lose."""
