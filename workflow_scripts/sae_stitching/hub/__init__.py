"""The Hugging Face hub: which commit, which files, and how to ask it patiently."""
