"""Figures, spectrograms and self-contained HTML pages."""
