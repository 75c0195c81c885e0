import numpy as np
import pytest

from training.evaluation.memorization import find_copies, nearest


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((count, 3, 4)) for count in (30, 200, 40)]


def test_nearest_agrees_with_every_distance(sets):
    one, other = (x.reshape(len(x), -1) for x in sets[:2])
    distances = np.linalg.norm(one[:, None] - other[None], axis=-1)
    found, which = nearest(one, other)
    np.testing.assert_allclose(found, distances.min(1))
    np.testing.assert_array_equal(which, distances.argmin(1))
    np.fill_diagonal(itself := np.linalg.norm(one[:, None] - one[None], axis=-1), np.inf)
    np.testing.assert_allclose(nearest(one, one, same=True)[0], itself.min(1))


def test_new_clips_are_no_suspects(sets):
    found = find_copies(*sets, seed=0)
    assert found.suspects <= 2
    assert 0.2 < found.nearer_to_train < 0.8
    assert 0.2 < found.nearer_to_train_real < 0.8


def test_copies_are_found_and_named(sets):
    generated, train, valid = sets
    generated[:12] = train[50:62] + 0.01
    found = find_copies(generated, train, valid, seed=0)
    assert found.suspects >= 12
    assert {(pair["clip"], pair["train"]) for pair in found.nearest} <= {(i, i + 50) for i in range(12)}


def test_a_model_that_copies_is_nearer_to_train(sets):
    _, train, valid = sets
    train = train[:39]  # as many as the valid clips it is compared with
    found = find_copies(train[:30] + 0.3, train, valid, seed=0)
    assert found.nearer_to_train > 0.95
    assert found.nearer_to_train_real < 0.7


def test_too_few_real_clips_give_no_answer(sets):
    assert find_copies(sets[0], sets[1][:1], sets[2], seed=0) is None
