"""Rendering of notes to audio with FluidSynth, and checks of SoundFont presets."""
