"""Files: atomic writing, locks, digests and downloads."""
