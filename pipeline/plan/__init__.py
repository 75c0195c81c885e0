"""From the index of candidate windows to the one plan of a dataset."""
