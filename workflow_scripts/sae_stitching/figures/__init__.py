"""The paper's figures, each from a table of the numbers that it shows."""
