"""Commands beside the build: validate, report, doctor, lakh, curves from MIDI."""
