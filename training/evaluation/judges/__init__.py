"""External judges: networks trained by others, whose weights come from packages of the Python package index."""
