"""Studio: a local web page to draw curves, generate audio from them, and compare it with what was drawn."""
