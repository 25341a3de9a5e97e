"""A study as the user writes it, checked and with all its values."""
