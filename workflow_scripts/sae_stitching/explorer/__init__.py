"""The explorer: a page on which every latent can be looked up."""
