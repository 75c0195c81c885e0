"""DDPM and EDM: preconditioning, weights, losses, and sampling with exact networks."""

import math

import pytest
import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.diffusion import BatchNoise, PerClipNoise, build_paradigm
from training.diffusion.continuous import thresholded
from training.diffusion.edm import loss_weight, preconditioning
from training.networks import build_network

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1)))
SIGMAS = torch.logspace(-4, 4, 60, dtype=torch.float64)


class Zero(nn.Module):
    """An untrained network."""

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


class GaussianExpert(nn.Module):
    """The exact noise prediction for data ~ N(mean, spread^2), read back from c_noise = ln(sigma) / 4."""

    def __init__(self, mean: float, spread: float) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        sigma = torch.exp(4 * c_noise.double()).view(-1, 1, 1)
        noisy = x * (1 + sigma**2).sqrt()
        return (sigma * (noisy - self.mean) / (self.spread**2 + sigma**2)).to(x.dtype)


def test_preconditioning_keeps_unit_variance() -> None:
    """Inputs and targets of the network have unit variance at every level (Karras et al., appendix B.6)."""
    c_skip, c_out, c_in, c_noise = preconditioning(SIGMAS, 0.5)
    total = SIGMAS**2 + 0.25
    assert torch.allclose(c_in**2 * total, torch.ones_like(total))
    # Var of (clean - c_skip * noisy) / c_out with independent clean and noise.
    target = ((1 - c_skip) ** 2 * 0.25 + c_skip**2 * SIGMAS**2) / c_out**2
    assert torch.allclose(target, torch.ones_like(target))
    assert torch.allclose(c_noise, (SIGMAS.log() / 4).float())
    assert torch.allclose(loss_weight(SIGMAS, 0.5) * c_out**2, torch.ones_like(total))


def test_preconditioning_limits() -> None:
    c_skip, c_out, _, _ = preconditioning(torch.tensor([1e-8, 1e8], dtype=torch.float64), 0.5)
    assert torch.allclose(c_skip, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert torch.allclose(c_out, torch.tensor([0.0, 0.5], dtype=torch.float64), atol=1e-7)


def test_edm_denoiser_limits() -> None:
    edm = build_paradigm("edm", {}, LAYOUT)
    x = torch.randn(2, 3, 8)
    clean = edm.denoise(Zero(), x, torch.tensor([1e-6, 1e6]), None)
    assert torch.allclose(clean[0], x[0], atol=1e-5)
    assert clean[1].abs().max() < 1e-6


@pytest.mark.parametrize("name", ["ddpm", "edm"])
def test_loss_of_an_untrained_network_is_one(name: str) -> None:
    paradigm = build_paradigm(name, {}, LAYOUT)
    x0 = paradigm.sigma_data * BatchNoise(3, 400).normal((4, 64))
    loss = paradigm.loss(Zero(), x0, None, BatchNoise(0, 400))
    assert loss.shape == (400,)
    # A clip's loss scatters by its noise level and its 256 values; 5 standard errors of the mean.
    assert float(loss.mean()) == pytest.approx(1.0, abs=5 * float(loss.std()) / 20)


def test_edm_noise_levels_are_log_normal() -> None:
    class Spy(Zero):
        def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
            self.seen = 4 * c_noise
            return torch.zeros_like(x)

    spy = Spy()
    build_paradigm("edm", {}, LAYOUT).loss(spy, torch.zeros(4000, 1, 2), None, BatchNoise(0, 4000))
    assert float(spy.seen.mean()) == pytest.approx(-1.2, abs=0.08)
    assert float(spy.seen.std()) == pytest.approx(1.2, abs=0.06)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddpm_loss_of_the_expert_is_the_least_possible(schedule: str) -> None:
    """For Gaussian data the remaining error at sigma is the posterior variance of the noise, s^2 / (s^2 + sigma^2)."""
    ddpm = build_paradigm("ddpm", {"schedule": schedule}, LAYOUT)
    x0 = 0.3 + 0.8 * BatchNoise(3, 500).normal((1, 128))
    noise = BatchNoise(0, 500)
    times = 1 + BatchNoise(0, 500).integers(1000, ())
    sigma = ddpm.sigmas[times]
    expected = 0.8**2 / (0.8**2 + sigma**2)
    loss = ddpm.loss(GaussianExpert(0.3, 0.8), x0, None, noise)
    assert float((loss - expected).mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 100},
        {"sampler": "ddim", "steps": 100},
        {"sampler": "heun", "steps": 40},
        {"sampler": "heun", "steps": 60, "s_churn": 10.0},
        {"sampler": "euler", "steps": 80},
        {"sampler": "dpmpp_2m", "steps": 40},
        {"sampler": "ipndm", "steps": 40},
    ],
)
def test_every_sampler_serves_a_ddpm_network(options: dict) -> None:
    ddpm = build_paradigm("ddpm", {}, LAYOUT)
    x = ddpm.sample(GaussianExpert(0.3, 0.8), (1, 400), None, BatchNoise(0, 50), ddpm.options(options))
    assert float(x.mean()) == pytest.approx(0.3, abs=0.04)
    assert float(x.std()) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [None, 50])
def test_a_small_bias_of_the_network_is_not_amplified(schedule: str, steps: int | None) -> None:
    """A bias of 0.05 in the predicted noise must not be multiplied by the noise level at the start."""

    class Faulty(GaussianExpert):
        def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
            return super().forward(x, c_noise, controls) + 0.05

    ddpm = build_paradigm("ddpm", {"schedule": schedule}, LAYOUT)
    x = ddpm.sample(Faulty(0.0, 1.0), (1, 100), None, BatchNoise(0, 20), ddpm.options({"steps": steps}))
    assert abs(float(x.mean())) < 0.3
    assert float(x.std()) == pytest.approx(1, abs=0.1)


def test_numbers_of_evaluations() -> None:
    class Counter(Zero):
        calls = 0

        def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
            self.calls += 1
            return torch.zeros_like(x)

    for name, options in [
        ("edm", None),
        ("ddpm", {"steps": 7}),
        ("ddpm", None),
        ("ddpm", {"sampler": "heun", "steps": 5}),
    ]:
        paradigm = build_paradigm(name, {}, LAYOUT)
        chosen = None if options is None else paradigm.options(options)
        counter = Counter()
        paradigm.sample(counter, (1, 2), None, BatchNoise(0, 1), chosen)
        assert counter.calls == paradigm.evaluations(chosen), (name, options)
    edm = build_paradigm("edm", {}, LAYOUT)
    assert edm.evaluations() == 18
    assert edm.evaluations(edm.options(dict(edm.published))) == 35
    assert edm.options({"s_churn": 10}).sampler == "heun"  # a multistep sampler would restart at every step
    assert edm.options({"s_churn": 10, "sampler": "euler"}).sampler == "euler"


@pytest.mark.parametrize("name", ["ddpm", "edm"])
def test_a_clip_is_the_same_in_any_batch(name: str) -> None:
    paradigm = build_paradigm(name, {}, LAYOUT)
    expert = GaussianExpert(0.0, 1.0)
    x0 = torch.randn(4, 1, 16)
    whole = paradigm.loss(expert, x0, None, PerClipNoise(1, [7, 8, 9, 10], "train"))
    part = paradigm.loss(expert, x0[2:3], None, PerClipNoise(1, [9], "train"))
    assert torch.allclose(whole[2:3], part, rtol=1e-6)
    options = paradigm.options({"steps": 6, "s_churn": 2.0})
    many = paradigm.sample(expert, (1, 16), None, PerClipNoise(1, range(5), "sample"), options)
    one = paradigm.sample(expert, (1, 16), None, PerClipNoise(1, [3], "sample"), options)
    assert torch.allclose(many[3:4], one, atol=1e-5)
    other = paradigm.sample(expert, (1, 16), None, PerClipNoise(2, [3], "sample"), options)
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("name", ["ddpm", "edm"])
def test_samples_of_a_unet_equal_themselves_in_any_batch(name: str) -> None:
    torch.manual_seed(0)
    table = {"kind": "unet", "channels": 16, "factors": [1.5, 1], "embedding": 32, "controls": {"local": {}}}
    network = build_network(table, (4, 30), LAYOUT).eval()
    nn.init.normal_(network.out.weight, std=0.1)
    paradigm = build_paradigm(name, {}, LAYOUT)
    controls = torch.rand(6, 2, 30)
    options = paradigm.options({"steps": 20})
    many = paradigm.sample(network, (4, 30), controls, PerClipNoise(0, range(6), "sample"), options, {"chroma": 2.0})
    one = paradigm.sample(network, (4, 30), controls[4:5], PerClipNoise(0, [4], "sample"), options, {"chroma": 2.0})
    assert (many[4:5] - one).abs().max() < 1e-3


def test_streams_do_not_share_draws() -> None:
    draws = [PerClipNoise(0, [1], stream).normal((8,)) for stream in ("train", "valid")]
    draws += [PerClipNoise(seed, [index], "train").normal((8,)) for seed, index in ((1, 1), (0, 2), (1, 0))]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.equal(a, b)


def test_faults_in_options_are_named() -> None:
    edm = build_paradigm("edm", {}, LAYOUT)
    with pytest.raises(UserError, match="sampler options of edm models: stepz is not a key; choose from s_churn"):
        edm.options({"stepz": 3})
    with pytest.raises(UserError, match=r"steps: .*10000, got 99999999999"):
        edm.options({"steps": 99_999_999_999})
    with pytest.raises(UserError, match="sigma_min must be below sigma_max"):
        edm.options({"sigma_min": 90.0})
    with pytest.raises(UserError, match=r"diffusion\.edm: p_means"):
        build_paradigm("edm", {"p_means": 1}, LAYOUT)
    with pytest.raises(UserError, match=r"PARADIGM= must be one of ddpm, .*; got 'gan'"):
        build_paradigm("gan", {}, LAYOUT)
    with pytest.raises(TypeError, match="EDMOptions"):
        edm.evaluations(build_paradigm("ddpm", {}, LAYOUT).options({}))
    assert math.isinf(edm.options({}).s_max)
    assert edm.options({"limit": 2.0}).rms_threshold == edm.options({"rms_threshold": 2.0}).rms_threshold == 2.0


def test_another_paradigm_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import diffusion
    from training.diffusion.edm import EDM

    class Flat(EDM):
        name = "flat"

        def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: PerClipNoise) -> Tensor:
            return torch.zeros(len(x0))

    monkeypatch.setitem(diffusion.PARADIGMS, "flat", Flat)
    flat = build_paradigm("flat", {"sigma_data": 1.0}, LAYOUT)
    assert flat.sigma_data == 1
    assert torch.equal(flat.loss(Zero(), torch.ones(3, 1, 2), None, BatchNoise(0, 3)), torch.zeros(3))


def test_the_threshold_bounds_samples_of_an_untrained_noise_predictor() -> None:
    paradigm = build_paradigm("ddpm", {}, LAYOUT)

    def size(**options: float | None) -> float:
        asked = paradigm.options({"steps": 20, **options})
        return float(paradigm.sample(Zero(), (3, 16), None, BatchNoise(0, 4), asked).square().mean().sqrt())

    assert size(rms_threshold=None) > 50
    assert size() < 4


def test_thresholding_scales_only_clips_above_the_threshold() -> None:
    x = (
        torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(0))
        * torch.tensor([0.1, 1.0, 40.0])[:, None, None]
    )
    found = thresholded(lambda x, sigma: x, 3.0)(x, torch.ones(3))
    assert torch.equal(found[:2], x[:2])
    assert float(found[2].square().mean().sqrt()) == pytest.approx(3.0, rel=1e-5)
    torch.testing.assert_close(found[2] / found[2].norm(), x[2] / x[2].norm())  # its direction is kept
