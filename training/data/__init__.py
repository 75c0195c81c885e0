"""Dataset reader, shuffle order and batch loader."""
