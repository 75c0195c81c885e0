"""Defaults of sampling are the same in commands, Python and the studio."""

import inspect
import re
from pathlib import Path

import training
from pvt.studio.requests import Generation
from training.evaluation.evaluate import Options
from training.model import TrainedModel
from training.options import parse_guidance
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.sampling import SamplingConfig


def test_one_default_of_guidance():
    page = (Path(training.__file__).parents[1] / "pvt/studio/assets/index.html").read_text(encoding="utf-8")
    shown = re.search(r'id="guidance" [^>]*value="([\d.]+)"', page)
    found = {
        parse_guidance(None),
        SamplingConfig().guidance,
        Options(data=Path()).guidance,
        inspect.signature(TrainedModel.sample).parameters["guidance"].default,
        Generation(curves={}).guidance,
        shown and float(shown[1]),
    }
    assert found == {DEFAULT_GUIDANCE}
