"""Recordings as a source of clips: listing, reading in a child process, cutting by activity, labels and groups."""
