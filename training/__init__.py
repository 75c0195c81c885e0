"""From shards to models, audio and numbers."""
