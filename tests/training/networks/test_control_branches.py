"""Control branches: where they start, what they read, when they act."""

import pytest
import torch

from data_specs.controls import CONTROLS
from tests.training.small_networks import LAYOUT, SMALL, perturbed
from training.networks import build_network
from training.networks.control.condconv import CondConv, CondConvConfig
from training.networks.control.cross_attention import rotated
from training.networks.control.local import LocalBranch, LocalConfig, control_rows, triangular_basis


@pytest.mark.parametrize("kind", ["local", "global", "film_local", "cross_attention", "condconv"])
@pytest.mark.parametrize("shape", [(3, 32), (2, 8, 32)])
def test_controls_change_the_output(shape: tuple[int, ...], kind: str) -> None:
    network = perturbed(build_network(SMALL | {"controls": {kind: {}}}, shape, LAYOUT))
    x, c_noise = torch.randn(1, *shape), torch.zeros(1)
    unconditioned = network(x, c_noise, torch.full((1, 5, 32), -1.0))
    assert torch.equal(network(x, c_noise), unconditioned)
    assert (network(x, c_noise, torch.ones(1, 5, 32)) - unconditioned).abs().max() > 1e-3


def test_local_control_acts_where_it_is_drawn() -> None:
    """Normalisation spreads any change a little, but a curve must act most at its own time."""
    network = perturbed(
        build_network(SMALL | {"factors": [1], "controls": {"local": {"channels": 16}}}, (3, 64), LAYOUT)
    )
    x, controls = torch.randn(1, 3, 64), torch.zeros(1, 5, 64)
    changed = controls.clone()
    changed[..., 40:44] = 3
    change = (network(x, torch.zeros(1), changed) - network(x, torch.zeros(1), controls)).abs().sum(1)[0]
    assert 34 <= int(change.argmax()) < 50
    assert change[:20].max() < 0.5 * change.max()


def test_triangular_basis_separates_pitch_classes() -> None:
    """Twelve steps: a pitch class activates one step, a value in between two, -1 none."""
    values = torch.tensor([[0.0, 1 / 11, 1.0, 0.5, -1.0]])[None]
    found = triangular_basis(values, (12,))
    assert found.shape == (1, 12, 5)
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 1, 11]), 12).T.float()
    torch.testing.assert_close(found[0, :, :3], one_hot, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, :, 3] @ torch.arange(12.0), torch.tensor(5.5))
    assert found[0, :, 3].count_nonzero() == 2
    assert not found[0, :, 4].any()
    two_rows = triangular_basis(torch.cat([values, 1 - values], dim=1), (12, 3))
    assert torch.equal(two_rows[:, :12], found)
    assert torch.equal(two_rows[0, 12:, 3], torch.tensor([0.0, 1.0, 0.0]))


def test_resolution_by_control_is_that_of_the_registry() -> None:
    assert control_rows(LAYOUT, 3)[1] == (3,) * 5
    assert control_rows(LAYOUT, "control")[1] == tuple(
        CONTROLS[name].encoding for name in ("velocity", "chroma", "instruments", "instruments", "instruments")
    )


def test_local_encodings_halve_in_length_with_each_level() -> None:
    branch = LocalBranch(LocalConfig(channels=8, resolution=12), LAYOUT, (16, 16), (16,))
    encoded = branch.encode(torch.full((2, LAYOUT.total, 8), -1.0), torch.float32)
    assert [level.shape for level in encoded] == [(2, 8, 1, 8), (2, 8, 1, 4)]


@pytest.mark.parametrize("kind", ["film_local", "cross_attention", "condconv"])
def test_added_ways_of_control_start_neutral(kind: str) -> None:
    """A network with a fresh branch equals one without, whose other weights are the same."""
    table = SMALL | {"controls": {kind: {"channels": 4}}}
    network = build_network(table, (3, 16), LAYOUT)
    branch = network.branches[kind]
    fresh = {key: value.clone() for key, value in branch.state_dict().items()}
    perturbed(network)
    branch.load_state_dict(fresh)
    plain = build_network(SMALL | {"controls": {}}, (3, 16), LAYOUT)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("branches.")})
    x, c_noise = torch.randn(2, 3, 16), torch.tensor([0.1, -0.3])
    torch.testing.assert_close(network(x, c_noise, torch.rand(2, 5, 16)), plain(x, c_noise))


@pytest.mark.parametrize("shape", [(3, 64), (2, 8, 64)])
@pytest.mark.parametrize("level", [0, 1])
def test_cross_attention_acts_within_its_reach(shape: tuple[int, ...], level: int) -> None:
    """A control at frames 40 to 43 is one key with middle 41.5, which frames up to 6 away attend to."""
    table = SMALL | {"controls": {"cross_attention": {"channels": 8, "stride": 4, "reach": 6}}}
    branch = perturbed(build_network(table, shape, LAYOUT)).branches["cross_attention"]
    controls = torch.rand(1, 5, 64)
    changed = controls.clone()
    changed[..., 41] = 3
    step = 2**level
    times = torch.arange(64 // step) * step + (step - 1) / 2
    for inject, layers in ((branch.inject, branch.attentions), (branch.inject_up, branch.up_attentions)):
        width, bins = layers[level].norm.weight.numel(), 1 if len(shape) == 2 else shape[1]
        x = torch.randn(1, width, bins, 64 // step)
        before, after = (inject(level, x, branch.encode(given, torch.float32)[level]) for given in (controls, changed))
        moved = (after - before).abs().amax((0, 1, 2)) > 0
        assert torch.equal(moved, (times - 41.5).abs() <= 6)


def test_cross_attention_depends_on_time_differences_only() -> None:
    """Rotated queries and keys: their products are the same at times shifted alike, and change with the distance."""
    q, k = torch.randn(2, 1, 8).double()
    times = torch.tensor([0.0, 5.0, 12.5]).double()
    scores = [float(rotated(q, times[:1] + t) @ rotated(k, times[1:2] + t).T) for t in times.tolist()]
    assert scores == pytest.approx([scores[0]] * 3)
    assert abs(float(rotated(q, times[:1]) @ rotated(k, times[2:]).T) - scores[0]) > 1e-3


def test_condconv_is_a_convolution_with_the_weighted_sum_of_its_kernels() -> None:
    """Routing weights constant over time give one kernel for the clip (eq. 1 of the paper)."""
    layer = perturbed(CondConv(CondConvConfig(channels=4, experts=3), 6))
    x, encoded = torch.randn(1, 6, 1, 20), torch.randn(1, 4, 1, 1).expand(-1, -1, -1, 20)
    weights = torch.sigmoid(layer.routing(torch.nn.functional.silu(encoded)))[0, :, 0, 0]
    kernel, bias = ((weights.view(3, *(1,) * (p.ndim)) * p.unflatten(0, (3, 6))).sum(0)
                    for p in (layer.experts.weight, layer.experts.bias))  # fmt: skip
    expected = x + torch.nn.functional.conv1d(x[:, :, 0], kernel, bias, padding=1)[:, :, None]
    torch.testing.assert_close(layer(x, encoded), expected, atol=1e-5, rtol=1e-4)


def test_condconv_changes_its_kernel_at_each_frame() -> None:
    layer = perturbed(CondConv(CondConvConfig(channels=4, experts=3), 6))
    x, encoded = torch.randn(1, 6, 1, 20), torch.randn(1, 4, 1, 20)
    changed = encoded.clone()
    changed[..., 7] += 2
    assert ((layer(x, changed) - layer(x, encoded)).abs().amax((0, 1, 2)) > 0).nonzero().tolist() == [[7]]


def test_global_control_reads_its_features_only() -> None:
    network = perturbed(build_network(SMALL | {"controls": {"global": {"features": ["instruments"]}}}, (3, 16), LAYOUT))
    x, controls = torch.randn(1, 3, 16), torch.rand(1, 5, 16)
    other = controls.clone()
    other[:, :2] = 0.9
    assert torch.equal(network(x, torch.zeros(1), controls), network(x, torch.zeros(1), other))


def test_global_control_starts_neutral() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL | {"controls": {"global": {}}}, (3, 16), LAYOUT)
    branch = network.branches["global"]
    x = torch.randn(2, 8, 1, 16)
    assert torch.allclose(branch.inject(0, x, branch.encode(torch.rand(2, 5, 16), torch.float32)[0]), x)


@pytest.mark.parametrize("order", [["local", "global"], ["global", "local"]])
def test_control_branches_combine_in_any_order(order: list[str]) -> None:
    tables = {"local": {"channels": 4}, "global": {}}
    network = build_network(SMALL | {"controls": {kind: tables[kind] for kind in order}}, (3, 16), LAYOUT)
    assert network(torch.randn(2, 3, 16), torch.zeros(2), torch.rand(2, 5, 16)).shape == (2, 3, 16)


def test_networks_do_not_depend_on_the_order_of_their_branches() -> None:
    def shapes(*names: str) -> dict[str, torch.Size]:
        network = build_network(SMALL | {"controls": {name: {} for name in names}}, (3, 16), LAYOUT)
        return {key: value.shape for key, value in network.state_dict().items()}

    assert shapes("local", "film_local") == shapes("film_local", "local")
