"""The plan to shards: stages, the tasks made of them, and the workers that run them."""
