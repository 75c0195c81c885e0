"""Consistency models: stages, loss and samples with an exact teacher, and the training loop around them."""

import math

import pytest
import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.config import load_config
from training.diffusion import BatchNoise, PerClipNoise, build_paradigm
from training.diffusion.edm import preconditioning
from training.diffusion.inpainting import Known
from training.distillation_task import DistillationTask
from training.log import read_log
from training.model import load_model
from training.trainer import train

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1)))
MEAN, STD = 0.3, 0.4


class Preconditioned(nn.Module):
    """The network whose preconditioned output is `function(x, sigma)`, sigma [B, 1, 1]."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        sigma = torch.exp(4 * c_noise).view(-1, 1, 1)
        c_skip, c_out, c_in, _ = preconditioning(sigma, 0.5)
        noisy = x / c_in
        return (self.function(noisy, sigma) - c_skip * noisy) / c_out


def denoised(x: Tensor, sigma: Tensor) -> Tensor:
    """Expected clean data for data ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 * (x - MEAN) / (STD**2 + sigma**2)


def flow_end(x: Tensor, sigma: Tensor) -> Tensor:
    """End of the probability flow for the same data, in closed form."""
    return MEAN + STD * (x - MEAN) / (STD**2 + sigma**2).sqrt()


def mean_loss(student, step: int | None) -> float:
    paradigm = build_paradigm("consistency", {"stages": 5, "stage_steps": 10}, LAYOUT)
    paradigm.teacher, paradigm.step = Preconditioned(denoised), step
    x0 = MEAN + STD * BatchNoise(1, 500).normal((2, 8))
    return float(paradigm.loss(Preconditioned(student), x0, None, BatchNoise(0, 500)).mean())


def test_the_exact_consistency_function_has_the_least_loss():
    losses = [mean_loss(flow_end, 1 + 10 * stage) for stage in range(5)]
    assert losses == sorted(losses, reverse=True)  # the teacher's step is exact in the limit
    assert losses[-1] < 2e-4
    assert mean_loss(flow_end, None) == losses[-1]
    assert mean_loss(denoised, None) > 5 * losses[-1]
    assert mean_loss(lambda x, sigma: flow_end(x, 1.2 * sigma), None) > 5 * losses[-1]


def test_levels_move_together_in_stages():
    paradigm = build_paradigm("consistency", {"stages": 4, "stage_steps": 100}, LAYOUT)
    sigma = torch.tensor([80.0, 0.002, 0.05])
    ratios = []
    for step, stage in [(0, 1), (1, 1), (100, 1), (101, 2), (301, 4), (10_000, 4), (None, 4)]:
        paradigm.step = step
        assert paradigm.stage == stage
        following = paradigm.next_level(sigma)
        assert (following <= sigma).all()
        assert (following >= 0.002 * (1 - 1e-6)).all()
        ratios.append(float(following[0] / sigma[0]))
    assert ratios[0] == pytest.approx(1 / 2)
    assert ratios[-1] == pytest.approx(15 / 16)


class Mlp(nn.Module):
    """A student of two-dimensional points [B, 2, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
        )

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        return self.layers(torch.cat([x[..., 0], c_noise[:, None]], 1))[..., None]


WEIGHTS, CENTRES, SPREAD = torch.tensor([0.3, 0.7]), torch.tensor([[-0.6, 0.3], [0.5, -0.2]]), 0.15


def mixture_denoised(x: Tensor, sigma: Tensor) -> Tensor:
    """Expected clean points of a mixture of two Gaussians, [B, 2, 1]."""
    variance = SPREAD**2 + sigma[:, 0] ** 2
    distance = x[:, None, :, 0] - CENTRES
    share = (WEIGHTS.log() - distance.square().sum(-1) / (2 * variance)).softmax(1)[..., None]
    return (share * (CENTRES + SPREAD**2 / variance[..., None] * distance)).sum(1)[..., None]


def test_a_student_learns_a_mixture_from_its_exact_denoiser():
    torch.manual_seed(0)
    paradigm = build_paradigm("consistency", {"stages": 4, "stage_steps": 150}, LAYOUT)
    paradigm.teacher, student = Preconditioned(mixture_denoised), Mlp()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for step in range(1, 701):
        paradigm.step = step
        noise = BatchNoise(step, 256)
        chosen = (noise.uniform() > WEIGHTS[0]).long()
        x0 = CENTRES[chosen][..., None] + SPREAD * noise.normal((2, 1))
        optimizer.zero_grad()
        paradigm.loss(student, x0, None, noise).mean().backward()
        optimizer.step()
    samples = paradigm.sample(student, (2, 1), None, BatchNoise(0, 4000), paradigm.options({"steps": 2}))[..., 0]
    mean = WEIGHTS @ CENTRES
    centred = CENTRES - mean
    covariance = SPREAD**2 * torch.eye(2) + (WEIGHTS[:, None] * centred).T @ centred
    assert (samples.mean(0) - mean).abs().max() < 0.06
    assert (samples.T.cov() - covariance).abs().max() < 0.05
    nearest = (samples[:, None] - CENTRES).norm(dim=-1).min(1).values
    assert float((nearest < 3 * SPREAD).float().mean()) > 0.85  # few points between the components


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_exact_samples_have_the_moments_of_the_data(steps):
    paradigm = build_paradigm("consistency", {}, LAYOUT)
    options = paradigm.options({"steps": steps})
    x = paradigm.sample(Preconditioned(flow_end), (1, 1), None, BatchNoise(0, 20_000), options, guidance=2.0)
    assert float(x.mean()) == pytest.approx(MEAN, abs=4 * STD / math.sqrt(20_000))
    assert float(x.std()) == pytest.approx(STD, rel=0.02)
    assert paradigm.evaluations(options) == steps


def test_given_frames_are_kept_and_the_others_have_the_moments_of_the_data():
    paradigm = build_paradigm("consistency", {}, LAYOUT)
    known = Known(torch.full((1, 1, 8), 0.7), torch.arange(8) < 4)
    x = paradigm.sample(Preconditioned(flow_end), (1, 8), None, BatchNoise(0, 5_000), known=known)
    assert torch.equal(x[..., :4], torch.full((5_000, 1, 4), 0.7))
    assert float(x[..., 4:].mean()) == pytest.approx(MEAN, abs=4 * STD / math.sqrt(20_000))
    assert float(x[..., 4:].std()) == pytest.approx(STD, rel=0.1)


def test_another_guidance_than_that_of_training_is_refused():
    paradigm = build_paradigm("consistency", {"guidance": 1.5}, LAYOUT)
    noise = PerClipNoise(0, [0], "sample")
    paradigm.sample(Preconditioned(flow_end), (1, 4), None, noise, guidance=1.5)
    for guidance in (2.0, {"velocity": 1.5}):
        with pytest.raises(UserError, match=r"must be 1\.5"):
            paradigm.sample(Preconditioned(flow_end), (1, 4), None, noise, guidance=guidance)


class Controlled(nn.Module):
    """The exact network for data ~ N(weight * velocity, STD^2), and N(0, STD^2) where unconditioned.

    `weight` is 1 for a teacher (`function` is `denoised`), and 2 plus the row after those of the layout for a student.
    """

    def __init__(self, function, told: bool) -> None:
        super().__init__()
        self.function, self.told = function, told

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        assert controls is not None
        sigma = torch.exp(4 * c_noise).view(-1, 1, 1)
        c_skip, c_out, c_in, _ = preconditioning(sigma, 0.5)
        weight = 2 + controls[:, 2:3] if self.told else 2 if self.function is flow_end else 1
        shift = weight * controls[:, :1].clamp(min=0)
        noisy = x / c_in
        clean = self.function(noisy - shift + MEAN, sigma) + shift - MEAN
        return (clean - c_skip * noisy) / c_out


def guided_paradigm():
    return build_paradigm("consistency", {"stages": 5, "stage_steps": 1, "guidance_spread": 1}, LAYOUT)


def test_the_weight_of_guidance_is_an_input_of_the_student():
    paradigm = guided_paradigm()
    paradigm.teacher = Controlled(denoised, told=False)
    controls = torch.rand(500, 2, 8, generator=torch.Generator().manual_seed(0))[..., :1].expand(-1, -1, 8)
    x0 = controls[:, :1] + STD * BatchNoise(1, 500).normal((1, 8))
    exact, deaf = (
        float(paradigm.loss(Controlled(flow_end, told), x0, controls, BatchNoise(0, 500)).mean())
        for told in (True, False)
    )
    assert exact < 2e-4
    assert deaf > 5 * exact


@pytest.mark.parametrize("weight", [None, 1.0, 2.5, 3.0])
def test_samples_follow_the_weight_that_is_asked(weight):
    controls = torch.full((20_000, 2, 1), 0.25)
    noise = BatchNoise(0, 20_000)
    x = guided_paradigm().sample(Controlled(flow_end, told=True), (1, 1), controls, noise, guidance=weight)
    assert float(x.mean()) == pytest.approx(0.25 * (weight or 2), abs=4 * STD / math.sqrt(20_000))


@pytest.mark.parametrize("weight", [0.9, 3.1, math.nan, {"velocity": 2.0}])
def test_a_weight_outside_the_tuning_is_refused(weight):
    noise = PerClipNoise(0, [0], "sample")
    with pytest.raises(UserError, match="must be one number from 1 to 3"):
        guided_paradigm().sample(Controlled(flow_end, told=True), (1, 4), None, noise, guidance=weight)


CONFIG = """
[training]
steps = 6
batch = 4
seconds = 1
warmup_steps = 2
ema_decay = 0.5
precision = "float32"
[diffusion.consistency]
stage_steps = 2
[logging]
log_every = 1
valid_every = 0
listen_every = 0
checkpoint_every = 3
[network.encodec]
kind = "unet"
channels = 32
factors = [2]
embedding = 16
skip = 3
controls = { local = { channels = 8 } }
"""


def test_a_student_is_tuned_from_an_edm_and_resumes(encodec_data, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(CONFIG)
    data = encodec_data[0]
    train(tmp_path / "edm", data, load_config(str(path), "edm", steps=2))

    def tune(run, steps, init=None, config=path):
        train(run, data, load_config(str(config), "consistency", steps=steps), make=DistillationTask, init=init)

    tune(tmp_path / "whole", 6, tmp_path / "edm")
    tune(tmp_path / "parts", 3, tmp_path / "edm")
    tune(tmp_path / "parts", 6)  # the teacher is in the checkpoint
    losses = [
        {line["step"]: line["loss"] for line in read_log(tmp_path / run) if "loss" in line}
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
    teacher, student = load_model(tmp_path / "edm"), load_model(tmp_path / "whole")
    state = torch.load(tmp_path / "whole/checkpoints/step-00000006/state.pt", weights_only=True)["task"]["teacher"]
    for name, value in teacher.network.state_dict().items():
        assert torch.equal(state[name], value)
    assert any(not torch.equal(v, teacher.network.state_dict()[n]) for n, v in student.network.state_dict().items())
    assert student.sample({"version": 1, "velocity": [[0, 0.5]]}, n=1, seconds=1).shape == (1, 1, 24_000)

    guided = tmp_path / "guided.toml"
    guided.write_text(
        CONFIG.replace("skip = 3", "skip = 3\nguided = true").replace("stage_steps", "guidance_spread = 1\nstage_steps")
    )
    tune(tmp_path / "guided", 2, tmp_path / "edm", guided)
    student = load_model(tmp_path / "guided")
    assert bool(student.network.state_dict()["guidance.weight"].any())
    weak, strong = (student.sample({"version": 1, "velocity": [[0, 0.5]]}, seconds=1, guidance=w) for w in (1, 3))
    assert not torch.equal(weak, strong)
    guided.write_text(CONFIG.replace("skip = 3", "skip = 3\nguided = true"))
    with pytest.raises(UserError, match=r"guidance_spread must be 0 unless network\.guided"):
        tune(tmp_path / "one key", 1, tmp_path / "edm", guided)

    with pytest.raises(UserError, match="INIT="):
        tune(tmp_path / "without", 1)
    with pytest.raises(UserError, match="EDM"):
        tune(tmp_path / "of a student", 1, tmp_path / "whole")
    path.write_text(CONFIG.replace("skip = 3", "skip = 5"))
    with pytest.raises(UserError, match="network of the model"):
        tune(tmp_path / "wider", 1, tmp_path / "edm")
