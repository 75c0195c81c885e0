"""Fitting of codecs made for this material."""
