"""Notes to audio by FluidSynth."""
