"""The browser of the tests."""

import os
import shutil

import pytest


def chromium() -> str:
    """Return the path of Chromium; its absence is an error where CI is set, else the test is skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing; apt-get install chromium")
        pytest.skip("chromium is missing")
    return path
