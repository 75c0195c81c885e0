"""Songs to melodies, windows and clips."""
