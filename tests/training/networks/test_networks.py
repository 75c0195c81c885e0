"""Backbones: sizes, shapes, gradients of every config with every paradigm, and precision."""

import tomllib
from pathlib import Path

import pytest
import torch

from data_specs.errors import UserError
from tests.training.small_networks import LAYOUT, SMALL, perturbed
from training.conditioning import ControlLayout
from training.diffusion import PARADIGMS, PerClipNoise, build_paradigm
from training.networks import NETWORKS, build_network, check_width, parameter_count
from training.networks.layers import Block, Norm, patchify, unpatchify
from training.networks.precision import freeze, set_precision

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
PAIRS = [(config, name, paradigm) for config in CONFIGS for name in SHAPES for paradigm, kind in PARADIGMS.items()
         if name in CONFIGS[config] and name in kind.formats and not kind.distilled]  # fmt: skip


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
    network = perturbed(
        build_network(
            CONFIGS[config][name] | {"channels": 8}, shape, LAYOUT, classes=classes, vocabulary=diffusion.vocabulary
        )
    )
    x0 = torch.randn(1, *shape) if classes is None else torch.randint(classes, (1, *shape))
    rows = 5 + CONFIGS[config][name].get("guided", False)  # the last row is the weight of guidance
    diffusion.loss(network, x0, torch.rand(1, rows, shape[-1]), PerClipNoise(0, [0], "train")).sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not float(p.grad.abs().sum()) > 0]
    assert not silent


@pytest.mark.parametrize("patch", [1, 4])
@pytest.mark.parametrize("shape", [(3, 37), (2, 13, 37)])
def test_any_length_is_accepted(shape: tuple[int, ...], patch: int) -> None:
    network = perturbed(build_network(SMALL | {"patch": patch}, shape, LAYOUT))
    x = torch.randn(2, *shape)
    assert network(x, torch.zeros(2), torch.rand(2, 5, 37)).shape == x.shape
    longer = torch.randn(2, *shape[:-1], 50)
    assert network(longer, torch.zeros(2), torch.rand(2, 5, 50)).shape == longer.shape


@pytest.mark.parametrize(("shape", "sizes"), [((2, 1, 24), (1, 4)), ((2, 8, 24), (4, 4))])
def test_unpatchify_is_the_inverse_of_patchify(shape: tuple[int, ...], sizes: tuple[int, int]) -> None:
    x = torch.randn(3, *shape)
    folded = patchify(x, sizes)
    assert folded.shape == (3, 2 * sizes[0] * sizes[1], shape[1] // sizes[0], shape[2] // sizes[1])
    assert torch.equal(unpatchify(folded, sizes), x)
    # The channels of the first position are the values of the first patch.
    assert sorted(folded[0, :, 0, 0].tolist()) == sorted(x[0, :, : sizes[0], : sizes[1]].flatten().tolist())


def test_controls_are_padded_with_their_last_value() -> None:
    network = perturbed(build_network(SMALL, (3, 6), LAYOUT))
    x, controls = torch.randn(1, 3, 6), torch.rand(1, 5, 6)
    longer = torch.cat([controls, controls[..., -1:].expand(-1, -1, 2)], dim=-1)
    encoded, whole = (network._encodings(c, x, c) for c in (controls, longer))
    assert all(torch.equal(a, b) for a, b in zip(encoded[0], whole[0], strict=True))


def test_another_control_branch_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_specs.strict import StrictModel
    from training.networks import control

    class LoudnessConfig(StrictModel):
        gain: float = 1.0

    class Loudness(control.ControlBranch):
        Config = LoudnessConfig
        extra_channels = 0

        def __init__(self, config: LoudnessConfig, layout: ControlLayout, widths, up_widths) -> None:
            super().__init__(config, layout, widths, up_widths)
            self.rows, self.gain, self.levels = layout.slice("velocity"), config.gain, len(widths)

        def encode(self, controls: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
            return [controls[:, self.rows].mean(-1)] * self.levels

        def inject(self, level: int, x: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
            return x + self.gain * encoded[:, :, None, None]

    monkeypatch.setitem(control.CONTROL_BRANCHES, "loudness", Loudness)
    network = perturbed(build_network(SMALL | {"controls": {"loudness": {"gain": 2.0}}}, (3, 16), LAYOUT))
    x = torch.randn(1, 3, 16)
    loud, soft = torch.ones(1, 5, 16), torch.zeros(1, 5, 16)
    assert not torch.equal(network(x, torch.zeros(1), loud), network(x, torch.zeros(1), soft))


def test_another_backbone_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_specs.strict import StrictModel

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
        network = perturbed(build_network(SMALL | {"checkpoint": checkpoint, "attention": 1}, (3, 20), LAYOUT))
        torch.manual_seed(2)
        network(torch.randn(2, 3, 20), torch.zeros(2), torch.rand(2, 5, 20)).square().sum().backward()
        grads.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*grads, strict=True))


def test_the_last_layer_is_separable_in_time() -> None:
    network = perturbed(build_network(SMALL, (4, 30), LAYOUT, classes=7))
    codes, c_noise, controls = torch.randint(7, (2, 4, 30)), torch.zeros(2), torch.rand(2, 5, 30)
    logits = network(codes, c_noise, controls)
    assert logits.shape == (2, 4, 30, 7)
    features = network.features(codes, c_noise, controls)
    chunks = torch.cat([network.out(chunk) for chunk in features.split(11, 2)], dim=2)
    assert torch.allclose(chunks, logits, atol=1e-5)
    # The layer is the convolution it holds, with channels read as (codebook, class).
    direct = network.out.conv(features).unflatten(1, (4, 7)).permute(0, 1, 3, 2)
    assert torch.allclose(direct, logits, atol=1e-5)
    one = network.out.codebook(features.transpose(1, 2).flatten(0, 1), 2)
    assert torch.allclose(one, logits[:, 2].flatten(0, 1), atol=1e-5)


def test_codebooks_have_embeddings_of_their_own() -> None:
    network = build_network(SMALL, (2, 4), LAYOUT, classes=7)
    embedded = network.codes(torch.full((1, 2, 4), 3)).unflatten(1, (2, -1))
    assert not torch.equal(embedded[:, 0], embedded[:, 1])


def test_norm_silu_has_the_gradients_of_its_parts() -> None:
    torch.manual_seed(0)
    norm = Norm(6).double()
    inputs = [torch.randn(2, 6, 2, 5), torch.randn(2, 12), torch.randn(6), torch.randn(6)]
    x, scale_shift, weight, bias = (value.double().requires_grad_() for value in inputs)

    def fused(x, scale_shift, weight, bias):
        return torch.func.functional_call(Fused(), {"norm.weight": weight, "norm.bias": bias}, (x, scale_shift))

    class Fused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x, scale_shift):
            return self.norm.silu(x, scale_shift)

    scale, shift = scale_shift[:, :, None, None].chunk(2, 1)
    parts = torch.nn.functional.silu(torch.nn.functional.group_norm(x, 1, weight, bias) * (1 + scale) + shift)
    torch.testing.assert_close(fused(x, scale_shift, weight, bias), parts)
    assert torch.autograd.gradcheck(fused, (x, scale_shift, weight, bias))


def test_maps_stay_in_channels_last_memory() -> None:
    x = torch.randn(2, 8, 1, 20).contiguous(memory_format=torch.channels_last)
    assert Block(1, 8, 16, None)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(3, 32), (2, 8, 32)])
def test_bf16_is_close_to_float32(shape: tuple[int, ...]) -> None:
    """Maps are bfloat16, parameters and their gradients float32; 2 % of the output for some twenty layers."""
    network = perturbed(build_network(SMALL | {"attention": 1, "skip": 3}, shape, LAYOUT))
    x, c_noise, controls = torch.randn(4, *shape), torch.linspace(-1, 1, 4), torch.rand(4, 5, 32)
    exact = network(x, c_noise, controls)
    set_precision(network, "bf16")
    out = network(x, c_noise, controls)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).square().mean() < 0.02**2 * exact.square().mean()
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())
    frozen = freeze(network, "bf16")(x, c_noise, controls)
    torch.testing.assert_close(frozen, out)


@pytest.mark.parametrize("shape", [(3, 16), (2, 8, 16)])
def test_former_parameter_names_are_loaded(shape: tuple[int, ...]) -> None:
    network = perturbed(build_network(SMALL, shape, LAYOUT))
    former = {"conv_in": "enter", "downsample": "shrink", "upsample": "grow"}
    state = {}
    for key, value in network.state_dict().items():
        if key.startswith("branches.local.conv_in"):
            key = key.replace("conv_in", "enter")
        elif key.startswith("branches.local.downsample"):
            key = key.replace("downsample", "halve")
        head, _, tail = key.partition(".")
        state[f"{former.get(head, head)}.{tail}" if tail else key] = value
    assert state.keys() != network.state_dict().keys()
    other = build_network(SMALL, shape, LAYOUT)
    other.load_state_dict(state)
    x = torch.randn(1, *shape)
    assert torch.equal(other(x, torch.zeros(1)), network(x, torch.zeros(1)))


def test_linear_skip_reaches_all_channels() -> None:
    """Two channels inside, five outside: without the skip the Jacobian of the output has at most rank two."""
    table = {"kind": "unet", "channels": 2, "factors": [], "embedding": 8}
    x = torch.randn(5, 1)
    ranks = []
    for skip in (0, 3):
        network = perturbed(build_network(table | {"skip": skip}, (5, 1), LAYOUT))
        jacobian = torch.autograd.functional.jacobian(lambda v, network=network: network(v[None], torch.zeros(1))[0], x)
        ranks.append(int(torch.linalg.matrix_rank(jacobian.reshape(5, 5), rtol=1e-4)))
    assert ranks[0] <= 2
    assert ranks[1] == 5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "net"}, "network.kind must be one of unet, .*; got 'net'"),
        ({"channels": 8}, "network.kind must be one of unet, .*; got None"),
        (SMALL | {"chanels": 3}, "network: chanels"),
        (SMALL | {"controls": {"locl": {}}}, "keys of network.controls must be one of local, .*; got 'locl'"),
        (SMALL | {"controls": {"local": {"width": 3}}}, "network.controls.local: width"),
        (SMALL | {"controls": {"global": {"features": ["loudness"]}}}, "no control feature 'loudness'"),
        (SMALL | {"kind": "unet_expand", "up_factors": [1]}, "up_factors must have 2 values, as factors"),
        (SMALL | {"skip": 4}, "skip must be odd or 0, got 4"),
        (SMALL | {"controls": {"cross_attention": {"reach": 3}}}, "reach must be at least stride = 4, got 3"),
        (SMALL | {"controls": {"cross_attention": {"channels": 6}}}, r"multiple of 2 \* heads = 4, got 6"),
    ],
)
def test_errors_in_a_table_name_the_key(table: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        build_network(table, (3, 16), LAYOUT)


@pytest.mark.parametrize("table", [{"patch": 2}, {"skip": 3}])
def test_patches_and_linear_skip_are_refused_for_codes(table: dict) -> None:
    with pytest.raises(UserError, match=r"network.patch must be 1 and network.skip 0 for codes"):
        build_network(SMALL | table, (4, 30), LAYOUT, classes=7)


def test_networks_narrower_than_the_data_are_refused() -> None:
    check_width(SMALL, (8, 30))
    check_width(SMALL | {"skip": 9}, (128, 30))
    with pytest.raises(UserError, match=r"network.channels must be at least 9 at full length.*got 8; .*network.skip"):
        check_width(SMALL, (9, 30))
    with pytest.raises(UserError, match=r"at least 32 at full length"):
        check_width(SMALL | {"patch": 4}, (2, 8, 30))


@pytest.mark.parametrize(("config", "name"), [(c, n) for c in CONFIGS for n in CONFIGS[c] if n != "disc"])
def test_shipped_configs_are_wide_enough(config: str, name: str) -> None:
    check_width(CONFIGS[config][name], SHAPES[name])
