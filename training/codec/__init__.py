"""Fitting of codecs in closed form, and training of codecs by gradient descent."""
