"""Analysis of audio: pitch and frame descriptors."""

SHARPNESS = 0.8  # default of curves from recordings: 0 for smooth curves to 1 for every frame
YIN = "yin"  # default pitch tracker
