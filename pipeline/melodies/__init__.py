"""Songs to melodies, windows and the one plan of a dataset."""
