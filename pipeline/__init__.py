"""From MIDI to shards: melodies, rendering, representations, TFRecord."""
