"""The command line: published SAEs looked up, and studies of them written."""
