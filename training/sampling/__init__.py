"""From drawn curves to audio."""
