"""Backbones: sizes, shapes, every config at width 8 with every paradigm, and what controls may and may not change."""

import tomllib
from pathlib import Path

import pytest
import torch

from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.diffusion import PARADIGMS, PerClipNoise, build_paradigm
from training.networks import NETWORKS, build_network, parameter_count
from training.networks.control.local import LocalBranch, LocalConfig, hats
from training.networks.layers import folded, padded, unfolded

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1), ("instruments", 3)))
SHAPES = {"cqt": (2, 216, 1921), "encodec": (128, 600), "disc": (16, 600)}
CLASSES = {"cqt": None, "encodec": None, "disc": 1024}
CONFIGS = {
    path.stem: tomllib.loads(path.read_text())["network"]
    for path in sorted((Path(__file__).parents[3] / "training" / "configs").glob("*.toml"))
}
PUBLISHED = [
    ("paper", "cqt", 56.9e6),
    ("paper", "encodec", 225.8e6),
    ("paper", "disc", 87.9e6),
    ("best", "encodec", 231.6e6),
]
SMALL = {"kind": "unet", "channels": 8, "factors": [2, 2], "embedding": 16, "controls": {"local": {"channels": 4}}}
PAIRS = [(config, name, paradigm) for config in CONFIGS for name in SHAPES for paradigm in PARADIGMS
         if name in CONFIGS[config] and name in PARADIGMS[paradigm].formats]  # fmt: skip


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its zero parameters replaced, so that every path matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) / max(1.0, parameter[0].numel() ** 0.5))
    return network.eval()


@pytest.mark.parametrize(("config", "name", "published"), PUBLISHED)
def test_published_sizes(config: str, name: str, published: float) -> None:
    with torch.device("meta"):
        network = build_network(CONFIGS[config][name], SHAPES[name], LAYOUT, classes=CLASSES[name])
    assert abs(parameter_count(network) / published - 1) < 0.02


@pytest.mark.parametrize("config", ["tiny", "paper", "best"])
def test_general_configs_have_every_format(config: str) -> None:
    assert set(CONFIGS[config]) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_tiny_is_a_few_million(name: str) -> None:
    with torch.device("meta"):
        network = build_network(CONFIGS["tiny"][name], SHAPES[name], LAYOUT, classes=CLASSES[name])
    assert 1e6 < parameter_count(network) < 5e6


@pytest.mark.parametrize(("config", "name", "paradigm"), PAIRS)
def test_every_config_takes_a_gradient(config: str, name: str, paradigm: str) -> None:
    classes = CLASSES[name] and 32
    diffusion = build_paradigm(paradigm, {}, LAYOUT, classes=classes)
    shape = (2, 216, 41) if name == "cqt" else (*SHAPES[name][:-1], 30)
    network = awake(
        build_network(CONFIGS[config][name], shape, LAYOUT, classes=classes, vocabulary=diffusion.vocabulary, width=8)
    )
    x0 = torch.randn(1, *shape) if classes is None else torch.randint(classes, (1, *shape))
    diffusion.loss(network, x0, torch.rand(1, 5, shape[-1]), PerClipNoise(0, [0], "train")).sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not float(p.grad.abs().sum()) > 0]
    assert not silent


@pytest.mark.parametrize("patch", [1, 4])
@pytest.mark.parametrize("shape", [(3, 37), (2, 13, 37)])
def test_lengths_need_not_divide(shape: tuple[int, ...], patch: int) -> None:
    network = awake(build_network(SMALL | {"patch": patch}, shape, LAYOUT))
    x = torch.randn(2, *shape)
    assert network(x, torch.zeros(2), torch.rand(2, 5, 37)).shape == x.shape
    longer = torch.randn(2, *shape[:-1], 50)
    assert network(longer, torch.zeros(2), torch.rand(2, 5, 50)).shape == longer.shape


@pytest.mark.parametrize("shape", [(2, 24), (2, 8, 24)])
def test_folding_is_undone(shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape)
    assert folded(x, 4).shape == (3, 2 * 4 ** (len(shape) - 1), *(length // 4 for length in shape[1:]))
    assert torch.equal(unfolded(folded(x, 4), 4), x)
    # Neighbours stay together: the first position of the folded map holds the first patch.
    assert set(folded(x, 4)[0, :, *(0,) * (len(shape) - 1)].tolist()) == set(
        x[0, :, *(slice(0, 4),) * (len(shape) - 1)].flatten().tolist()
    )


def test_padding_repeats_the_last_control_value() -> None:
    controls = torch.rand(1, 5, 6)
    whole = padded(controls, 4, mode="replicate")
    assert torch.equal(whole[..., 6:], controls[..., 5:].expand(-1, -1, 2))


@pytest.mark.parametrize("kind", ["local", "global"])
@pytest.mark.parametrize("shape", [(3, 32), (2, 8, 32)])
def test_controls_change_the_output(shape: tuple[int, ...], kind: str) -> None:
    network = awake(build_network(SMALL | {"controls": {kind: {}}}, shape, LAYOUT))
    x, c_noise = torch.randn(1, *shape), torch.zeros(1)
    free = network(x, c_noise, torch.full((1, 5, 32), -1.0))
    assert torch.equal(network(x, c_noise), free)  # no controls: nothing is said
    told = network(x, c_noise, torch.ones(1, 5, 32))
    assert (told - free).abs().max() > 1e-3


def test_local_control_acts_where_it_is_drawn() -> None:
    """Normalisation spreads any change a little, but a curve must act most at its own time."""
    network = awake(build_network(SMALL | {"factors": [1], "controls": {"local": {"channels": 16}}}, (3, 64), LAYOUT))
    x, controls = torch.randn(1, 3, 64), torch.zeros(1, 5, 64)
    changed = controls.clone()
    changed[..., 40:44] = 3
    change = (network(x, torch.zeros(1), changed) - network(x, torch.zeros(1), controls)).abs().sum(1)[0]
    assert 34 <= int(change.argmax()) < 50
    assert change[:20].max() < 0.5 * change.max()


def test_hats_tell_pitch_classes_apart() -> None:
    """Twelve steps: a pitch class is one input, a value between two shares itself out, -1 and its like are nowhere."""
    values = torch.tensor([[0.0, 1 / 11, 1.0, 0.5, -1.0]])[None]
    found = hats(values, 12)
    assert found.shape == (1, 12, 5)
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 1, 11]), 12).T.float()
    torch.testing.assert_close(found[0, :, :3], one_hot, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, :, 3] @ torch.arange(12.0), torch.tensor(5.5))
    assert found[0, :, 3].count_nonzero() == 2
    assert not found[0, :, 4].any()
    two_rows = hats(torch.cat([values, 1 - values], dim=1), 12)
    torch.testing.assert_close(two_rows[:, :12], found)


def test_local_control_with_resolution_takes_any_controls() -> None:
    branch = LocalBranch(LocalConfig(channels=8, resolution=12), LAYOUT, (16, 16))
    encoded = branch.encode(torch.full((2, LAYOUT.total, 8), -1.0))
    assert [level.shape for level in encoded] == [(2, 8, 8), (2, 8, 4)]


def test_global_control_reads_its_features_only() -> None:
    network = awake(build_network(SMALL | {"controls": {"global": {"features": ["instruments"]}}}, (3, 16), LAYOUT))
    x, controls = torch.randn(1, 3, 16), torch.rand(1, 5, 16)
    other = controls.clone()
    other[:, :2] = 0.9
    assert torch.equal(network(x, torch.zeros(1), controls), network(x, torch.zeros(1), other))


def test_global_control_starts_neutral() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL | {"controls": {"global": {}}}, (3, 16), LAYOUT)
    branch = network.branches["global"]
    x = torch.randn(2, 8, 16)
    assert torch.allclose(branch.inject(0, x, branch.encode(torch.rand(2, 5, 16))[0]), x)


@pytest.mark.parametrize("order", [["local", "global"], ["global", "local"]])
def test_ways_of_control_combine_in_any_order(order: list[str]) -> None:
    tables = {"local": {"channels": 4}, "global": {}}
    network = build_network(SMALL | {"controls": {kind: tables[kind] for kind in order}}, (3, 16), LAYOUT)
    assert network(torch.randn(2, 3, 16), torch.zeros(2), torch.rand(2, 5, 16)).shape == (2, 3, 16)


def test_another_way_of_control_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_specs.spec import StrictModel
    from training.networks import control

    class LoudnessConfig(StrictModel):
        gain: float = 1.0

    class Loudness(control.ControlBranch):
        Config = LoudnessConfig
        extra_channels = 0

        def __init__(self, config: LoudnessConfig, layout: ControlLayout, widths: tuple[int, ...]) -> None:
            super().__init__(config, layout, widths)
            self.rows, self.gain, self.levels = layout.slice("velocity"), config.gain, len(widths)

        def encode(self, controls: torch.Tensor) -> list[torch.Tensor]:
            return [controls[:, self.rows].mean(-1)] * self.levels

        def inject(self, level: int, x: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
            return x + self.gain * encoded.unsqueeze(-1)

    monkeypatch.setitem(control.CONTROL_BRANCHES, "loudness", Loudness)
    network = awake(build_network(SMALL | {"controls": {"loudness": {"gain": 2.0}}}, (3, 16), LAYOUT))
    x = torch.randn(1, 3, 16)
    loud, soft = torch.ones(1, 5, 16), torch.zeros(1, 5, 16)
    assert not torch.equal(network(x, torch.zeros(1), loud), network(x, torch.zeros(1), soft))


def test_another_backbone_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_specs.spec import StrictModel

    class NothingConfig(StrictModel):
        scale: float

    class Nothing(torch.nn.Module):
        def __init__(self, config: NothingConfig, *_: object, **__: object) -> None:
            super().__init__()
            self.scale = config.scale

        def forward(self, x: torch.Tensor, c_noise: torch.Tensor, controls: torch.Tensor | None) -> torch.Tensor:
            return self.scale * x

    monkeypatch.setitem(NETWORKS, "nothing", (NothingConfig, Nothing))
    network = build_network({"kind": "nothing", "scale": 3.0}, (2, 4), LAYOUT)
    assert torch.equal(network(torch.ones(1, 2, 4), torch.zeros(1), None), torch.full((1, 2, 4), 3.0))


def test_checkpointing_changes_nothing() -> None:
    grads = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        network = awake(build_network(SMALL | {"checkpoint": checkpoint, "attention": 1}, (3, 20), LAYOUT))
        torch.manual_seed(2)
        network(torch.randn(2, 3, 20), torch.zeros(2), torch.rand(2, 5, 20)).square().sum().backward()
        grads.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*grads, strict=True))


def test_the_last_layer_is_separable_in_time() -> None:
    network = awake(build_network(SMALL, (4, 30), LAYOUT, classes=7))
    codes, c_noise, controls = torch.randint(7, (2, 4, 30)), torch.zeros(2), torch.rand(2, 5, 30)
    logits = network(codes, c_noise, controls)
    assert logits.shape == (2, 4, 30, 7)
    features = network.features(codes, c_noise, controls)
    chunks = torch.cat([network.out(chunk) for chunk in features.split(11, 2)], dim=2)
    assert torch.allclose(chunks, logits, atol=1e-5)
    # The layer is the convolution it holds, with channels read as (codebook, class).
    direct = network.out.conv(features).unflatten(1, (4, 7)).permute(0, 1, 3, 2)
    assert torch.allclose(direct, logits, atol=1e-5)


def test_codebooks_have_embeddings_of_their_own() -> None:
    network = build_network(SMALL, (2, 4), LAYOUT, classes=7)
    embedded = network.codes(torch.full((1, 2, 4), 3)).unflatten(1, (2, -1))
    assert not torch.equal(embedded[:, 0], embedded[:, 1])


def test_bf16_autocast_keeps_activations_small() -> None:
    network = awake(build_network(SMALL, (3, 16), LAYOUT))
    with torch.autocast("cpu", torch.bfloat16):
        h = network.norm(torch.randn(2, 8, 16, dtype=torch.bfloat16))
        out = network(torch.randn(2, 3, 16), torch.zeros(2), torch.rand(2, 5, 16))
    assert h.dtype == torch.bfloat16
    assert torch.isfinite(out.float()).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "net"}, "network: kind = 'net' is not known"),
        ({"channels": 8}, "network: kind = None is not known"),
        (SMALL | {"chanels": 3}, "network: chanels"),
        (SMALL | {"controls": {"locl": {}}}, "network.controls.locl is not known"),
        (SMALL | {"controls": {"local": {"width": 3}}}, "network.controls.local: width"),
        (SMALL | {"controls": {"global": {"features": ["loudness"]}}}, "no control feature 'loudness'"),
        (SMALL | {"kind": "unet_expand", "up_factors": [1]}, "up_factors must be as many as factors"),
    ],
)
def test_faults_in_a_table_are_named(table: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        build_network(table, (3, 16), LAYOUT)


def test_patches_are_refused_for_codes() -> None:
    with pytest.raises(UserError, match=r"network.patch is for continuous data"):
        build_network(SMALL | {"patch": 2}, (4, 30), LAYOUT, classes=7)
