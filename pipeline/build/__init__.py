"""The build of a dataset: jobs, shards, their folder and the manifest."""
