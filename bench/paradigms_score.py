"""Choice of sampling options, and scores, of one entry of the comparison of paradigms."""

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from data_specs.io.files import Json
from data_specs.rates import SAMPLE_RATE
from training.evaluation.adherence import average
from training.evaluation.evaluate import describe_model, generate, scores
from training.evaluation.evaluator import Evaluator
from training.model import load_model
from training.sampling.sampling import SamplingConfig

EMBEDDER = "pvt-net"  # of the FAD by which options are chosen
JUDGES = ("musicnn", "crepe")


def prepare(data: Path, length: float, clips: int) -> Evaluator:
    """Return an evaluator with JUDGES for clips of `length` seconds, with `clips` clips for ceiling and floor.

    `data` is the folder of the datasets.
    """
    return Evaluator.prepare(data, round(length * SAMPLE_RATE), anchor_clips=clips, judges=JUDGES)


def choose(
    run: Path, evaluator: Evaluator, steps: Sequence[int], guidance: Sequence[float], first: int, count: int
) -> Json:
    """Return the `steps` and `guidance` of the least FAD over `count` clips, and that `fad` and `chroma`.

    All combinations are tried with the controls of `count` valid clips from number `first` on; `tried` has the four
    values of each.
    """
    model = load_model(run)
    evaluator = replace(evaluator, judges=None)  # the choice is by FAD alone
    tried = []
    for number, weight in product(steps, guidance):
        config = SamplingConfig(number, weight, seed=1)
        metrics = evaluator.measure(generate(model, evaluator, config, count, start=first))
        fad = evaluator.fad(metrics.embeddings)[EMBEDDER]["train"]["value"]
        tried.append({"steps": number, "guidance": weight, "fad": fad, "chroma": average(metrics.ratios)["chroma"]})
    return {**min(tried, key=lambda one: one["fad"]), "tried": tried}


def score(run: Path, evaluator: Evaluator, choice: Json, clips: int) -> Json:
    """Return properties of the model of a run, scores of `clips` generated clips, and cost of sampling, for one row.

    `choice` has `steps` and `guidance`. `sampling_seconds_a_clip` is in processor seconds, `memory_mb` is the peak
    memory of this process in MiB.
    """
    model = load_model(run)
    config = SamplingConfig(choice["steps"], choice["guidance"])
    start = time.process_time()
    batches = list(generate(model, evaluator, config, clips))
    seconds = time.process_time() - start
    metrics = evaluator.measure(iter(batches))
    return {
        **describe_model(run.name, run, model),
        **scores(metrics, evaluator),
        "choice": choice,
        "sampling_seconds_a_clip": seconds / clips,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
