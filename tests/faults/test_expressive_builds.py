"""Datasets with expression have the same bytes for one and two workers, and after a kill."""

import json
import shutil
from dataclasses import replace

import pytest

from data_specs.spec import load_spec
from pipeline.cluster.workers import LocalWorkers, RemoteWorkers
from pipeline.tools.report_data import finished_datasets, notes_of
from pipeline.tools.validate import validate
from tests.faults.conftest import CLIPS, Order, toml
from tests.faults.test_kills import PATIENCE_SECONDS, count, when
from tests.pipeline.made_songs import contents


@pytest.fixture(scope="module")
def expressive(order, tmp_path_factory):
    """The order with the controls and the expression of `expressive`."""
    like = load_spec("expressive")
    spec = order.request.spec.model_copy(update={"controls": like.controls, "expression": like.expression})
    path = tmp_path_factory.mktemp("expressive") / "spec.toml"
    path.write_text(toml(spec.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    return Order(replace(order.request, spec=load_spec(str(path))), path, order.midi)


@pytest.fixture(scope="module")
def one(expressive, tmp_path_factory):
    """A build by one worker."""
    out = tmp_path_factory.mktemp("one")
    assert expressive.build(out, LocalWorkers(1)) == 0
    return out


def test_bytes_do_not_depend_on_workers_or_kills(expressive, one, site, tmp_path):
    two, killed = tmp_path / "two", tmp_path / "killed"
    assert expressive.build(two, RemoteWorkers(site.address)) == 0
    client = expressive.start(killed, site.address)
    when(killed, count(one) // 2, 0.0, client.kill)
    client.wait(PATIENCE_SECONDS)
    assert expressive.build(killed, RemoteWorkers(site.address)) == 0
    assert contents(one) == contents(two) == contents(killed)
    assert validate(one, None) == 0
    manifest = json.loads((one / "PVT-audio" / "dataset.json").read_bytes())
    assert sum(split["clips"] for split in manifest["splits"].values()) == sum(map(int, CLIPS.split(":")))
    assert all(0 <= deviation < 0.2 for deviation in manifest["velocity_law_db"].values())
    assert set(manifest["velocity_law_db"]) == {"piano", "violin", "trumpet"}


def test_notes_are_counted_alike_with_and_without_the_plan(one, tmp_path):
    planned = notes_of(finished_datasets(one)[0])
    shutil.copytree(one / "PVT-audio", tmp_path / "PVT-audio")  # without the index
    counted = notes_of(finished_datasets(tmp_path)[0])
    assert planned.exact
    assert not counted.exact
    assert len(counted.pitch) == pytest.approx(len(planned.pitch), rel=0.05)  # octaves merge


def test_datasets_without_expression_have_no_law_of_velocity(reference):
    assert "velocity_law_db" not in json.loads((reference / "PVT-audio" / "dataset.json").read_bytes())
