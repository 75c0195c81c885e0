"""From the plan to shards and a finished dataset."""
