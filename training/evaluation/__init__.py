"""How near generated audio is to real audio, and how well it follows its controls."""
