"""Environment of all tests."""

import os

# make sets MAKELEVEL, and errors then name options as typed there; tests call the commands directly.
os.environ.pop("MAKELEVEL", None)
