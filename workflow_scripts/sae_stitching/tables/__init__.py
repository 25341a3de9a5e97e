"""Tables of a study, the paper's published numbers beside them, the pages of its report."""
