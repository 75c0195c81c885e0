"""Files beside the shards are independent of the order of the shards."""

from data_specs.representations import Statistics
from pipeline.build.manifest import train_statistics
from pipeline.build.shards import Receipt


def receipt(split: str, number: int, total: float) -> Receipt:
    statistics = {"count": 1, "total": [[total]], "squares": [[total * total]]}
    return Receipt(
        split=split,
        number=number,
        start=number,
        stop=number + 1,
        clips=1,
        bytes=1,
        sha256="",
        machine="here",
        levels_dbfs={},
        faults=(),
        statistics=statistics,
    )


def test_statistics_are_summed_in_the_order_of_the_shards_and_of_train_alone():
    """Sums of floats depend on their order: (1 + 1e16) - 1e16 is 0, (-1e16 + 1e16) + 1 is 1."""
    values = (1.0, 1e16, -1e16)
    made = {("train", number): receipt("train", number, total) for number, total in enumerate(values)}
    made["valid", 0] = receipt("valid", 0, 5.0)
    merged = [train_statistics({key: made[key] for key in order}) for order in (sorted(made), sorted(made)[::-1])]
    assert merged[0] == merged[1]
    found = Statistics.from_json(merged[0])
    assert (found.count, found.total.item()) == (3, 0.0)
