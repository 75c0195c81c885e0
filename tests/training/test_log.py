"""The log is continued where the state is, and a meter's means are those of its steps."""

import json
import time

import pytest

from data_specs.errors import UserError
from training.log import Meter, RunLog, due, read_log


def test_lines_beyond_the_state_are_made_again(tmp_path):
    with RunLog(tmp_path, 0, 10, main=True) as log:
        log.scalars(0, valid_loss=2.0)
        for step in range(1, 6):
            log.scalars(step, loss=float(step))
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"step": 6, "lo')
    with RunLog(tmp_path, 3, 10, main=True) as log:
        log.scalars(4, loss=40.0)
    assert [(line["step"], line.get("loss")) for line in read_log(tmp_path)] == [
        (0, None),
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]
    with RunLog(tmp_path, 0, 10, main=True):  # no state: everything is made again
        pass
    assert read_log(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"5", b'{"loss": 1.0}', b'{"step": "3"}', b'{"step": Infinity}', b'{"step": true}', b"[" * 100_000],
    ids=lambda line: line[:15].decode(errors="replace"),
)
def test_a_line_of_another_hand_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"log\.jsonl has a damaged line"):
        read_log(tmp_path)


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no space is left to write .*log\.jsonl"):
        with RunLog(tmp_path, 0, 10, main=True) as log:
            log._file.close()
            log._file = open("/dev/full", "ab")  # noqa: SIM115 (closed by the log)
            log.scalars(1, loss=1.0)


def test_the_duration_of_the_run_is_estimated_once_from_steps_after_the_first(tmp_path, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("training.log.time.perf_counter", lambda: now[0])
    with RunLog(tmp_path, 100, 3710, main=True) as log:
        for seconds in (60.0, *[0.5] * 20):  # the first step compiles
            now[0] += seconds
            log.advance()
    assert capsys.readouterr().out == "0.5 s per step: about 30 min to step 3710\n"


def test_other_ranks_write_nothing(tmp_path):
    with RunLog(tmp_path, 0, 10, main=False) as log:
        log.scalars(1, loss=1.0)
        log.advance()
        log.print("hello")
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_become_null(tmp_path):
    with RunLog(tmp_path, 0, 10, main=True) as log:
        log.scalars(1, loss=None, valid_loss=float("nan"), norm=float("inf"), skipped=2)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line == {"step": 1, "loss": None, "valid_loss": None, "norm": None, "skipped": 2}


def test_tensorboard_holds_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, 0, 10, main=True) as log:
        for step in range(1, 6):
            log.scalars(step, loss=float(step))
    second = int(time.time())
    while int(time.time()) == second:  # TensorBoard reads files in the order of the seconds in their names
        time.sleep(0.02)
    with RunLog(tmp_path, 3, 10, main=True) as log:
        log.scalars(4, loss=40.0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_meter_averages_and_counts():
    meter = Meter()
    for loss in (1.0, None, 3.0):
        meter.update(loss, 2.0, 0.5)
    assert meter.pop_means(4) == {"loss": 2.0, "skipped": 1, "clips_per_second": 2.0, "wait_share": 0.25}
    assert (meter.step, meter.train_seconds, meter.skipped_in_a_row) == (3, 6.0, 0)
    meter.update(None, 0.0, 0.0)
    assert meter.pop_means(4)["loss"] is None
    assert meter.skipped_in_a_row == 1
    assert meter.pop_means(4) == {"loss": None, "skipped": 0, "clips_per_second": None, "wait_share": None}


def test_meter_state_round_trip():
    meter, other = Meter(), Meter()
    meter.update(1.5, 2.0, 0.5)
    other.load_state_dict(meter.state_dict())
    assert other == meter


def test_when_things_are_due():
    assert [step for step in range(1, 8) if due(step, 3)] == [3, 6]
    assert not any(due(step, 0) for step in range(8))
