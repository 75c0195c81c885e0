"""Building, checking and exporting of datasets: sources, melodies, plan, rendering, shards."""
