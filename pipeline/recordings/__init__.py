"""Recordings as a source of clips: found, read in a sandbox, cut by activity, labelled and grouped."""
