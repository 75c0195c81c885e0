"""Categorical diffusion against enumeration: one-step matrices, Bayes' rule and full sums over classes, in float64."""

import math

import pytest
import torch
from torch import Tensor

from data_specs.errors import UserError
from training.diffusion.class_loss import ClassTerms
from training.diffusion.noise import BatchNoise
from training.diffusion.schedules import cosine_alphabars, linear_alphabars
from training.diffusion.transitions import TRANSITIONS, categorical

CLASSES = 5
STEPS = 12
BARS = {"uniform": linear_alphabars(STEPS), "absorbing": cosine_alphabars(STEPS)}


def one_step(name: str, alpha: float) -> Tensor:
    """The matrix Q[i, j] = q(x_t = j | x_{t-1} = i), written down from the definition of each process."""
    size = CLASSES + (name == "absorbing")
    eye = torch.eye(size, dtype=torch.float64)
    if name == "uniform":
        return alpha * eye + (1 - alpha) / CLASSES * torch.ones(size, size, dtype=torch.float64)
    mask = torch.zeros(size, size, dtype=torch.float64)
    mask[:, CLASSES] = 1
    return alpha * eye + (1 - alpha) * mask


def product(name: str, start: int, stop: int) -> Tensor:
    """q(x_stop | x_start) as the product of one-step matrices."""
    bars = BARS[name]
    result = torch.eye(CLASSES + (name == "absorbing"), dtype=torch.float64)
    for t in range(start + 1, stop + 1):
        result = result @ one_step(name, float(bars[t] / bars[t - 1]))
    return result


def transition(name: str):
    return TRANSITIONS[name](CLASSES, float(BARS[name][-1]))


def divergence(process, logits: Tensor, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
    """The divergence [B, K, T] from logits [B, K, T, C], with the terms as they are defined."""
    log_pi = logits.log_softmax(-1)
    at_x0, at_x_t = (log_pi.gather(-1, (x % logits.shape[-1]).unsqueeze(-1)).squeeze(-1) for x in (x0, x_t))
    excess = torch.log1p(process.ratio(past, now).to(logits).view(-1, 1, 1, 1) * log_pi.exp()).sum(-1)
    return process.divergence(ClassTerms(at_x0, at_x_t, excess), x0, x_t, past, now)


def posterior(name: str, x_t: int, past: int, now: int) -> Tensor:
    """[C, V]: q(x_past | x_now = x_t, x_0 = j) by Bayes' rule for every x_0; zero where x_t cannot come from x_0."""
    joint = product(name, 0, past)[:CLASSES] * product(name, past, now)[:, x_t]
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / total.clamp(min=1e-300), 0.0)


PAIRS = [(0, 1), (1, 2), (5, 6), (11, 12), (0, 4), (3, 9), (2, 12)]
CASES = [(name, past, now) for name in TRANSITIONS for past, now in PAIRS]


@pytest.mark.parametrize("name", TRANSITIONS)
def test_corruption_follows_the_product_of_one_step_matrices(name: str) -> None:
    count = 40_000
    for now in (1, 6, STEPS):
        exact = product(name, 0, now)[2]
        x0 = torch.full((count, 1, 1), 2)
        x_t = transition(name).corrupt(x0, BARS[name][now].expand(count), BatchNoise(now, count))
        shares = torch.bincount(x_t.flatten(), minlength=len(exact)) / count
        assert (shares - exact).abs().max() < 4 * 0.5 / math.sqrt(count)


def stepped(name: str, pi: Tensor, x_t: int, past: int, now: int) -> Tensor:
    """p(x_s | x_t) [V] as the mixture of pi, all classes and x_t."""
    code = torch.tensor([x_t])
    bars = float(BARS[name][past]), float(BARS[name][now])
    w, v = (share.double() for share in transition(name).mixture(pi[code % CLASSES], code, *bars))
    found = torch.zeros(CLASSES + (name == "absorbing"), dtype=torch.float64)
    found[:CLASSES] = w * pi + v / CLASSES
    found[x_t] += float(1 - w - v)
    return found


@pytest.mark.parametrize(("name", "past", "now"), CASES)
def test_model_posterior_is_the_mixture_of_true_ones(name: str, past: int, now: int) -> None:
    """p(x_s | x_t) proportional to sum_j q(x_t | x_s) q(x_s | x_0 = j) pi_j, for every x_t."""
    torch.manual_seed(0)
    pi = torch.randn(CLASSES, dtype=torch.float64).softmax(0)
    for x_t in range(CLASSES + (name == "absorbing")):
        joint = (pi @ product(name, 0, past)[:CLASSES]) * product(name, past, now)[:, x_t]
        if float(joint.sum()) > 0:
            assert (stepped(name, pi, x_t, past, now) - joint / joint.sum()).abs().max() < 1e-14


@pytest.mark.parametrize(("name", "past", "now"), CASES)
def test_a_certain_model_has_the_posterior_of_bayes(name: str, past: int, now: int) -> None:
    for x_t in range(CLASSES + (name == "absorbing")):
        exact = posterior(name, x_t, past, now)
        for j in range(CLASSES):
            if float(exact[j].sum()) > 0:
                pi = torch.eye(CLASSES, dtype=torch.float64)[j]
                assert (stepped(name, pi, x_t, past, now) - exact[j]).abs().max() < 1e-14


@pytest.mark.parametrize("name", TRANSITIONS)
def test_draws_follow_the_model_posterior(name: str) -> None:
    """Evenly spaced numbers give every value its probability, and codes that do not change need no logits."""
    logits, count, (past, now) = torch.tensor([0.3, -1.0, 0.5, 0.0, 1.0]), 10_000, (3, 9)
    process, bars = transition(name), (float(BARS[name][past]), float(BARS[name][now]))
    uniform = (torch.arange(count) + 0.5) / count
    for x_t in range(CLASSES + (name == "absorbing")):
        codes = torch.full((count,), x_t)
        drawn = process.draw(logits.expand(count, -1), codes, uniform, *bars)
        exact = stepped(name, logits.double().softmax(0), x_t, past, now)
        assert (torch.bincount(drawn, minlength=len(exact)) / count - exact).abs().max() < 3e-4
        kept = ~process.changing(codes, uniform, *bars)
        assert (drawn[kept] == x_t).all()
        assert bool(kept.any()) == (name == "absorbing")


@pytest.mark.parametrize(("name", "past", "now"), CASES)
def test_divergence_is_the_enumerated_sum(name: str, past: int, now: int) -> None:
    torch.manual_seed(past + now)
    logits = 3 * torch.randn(CLASSES, dtype=torch.float64)
    pi = logits.softmax(0)
    for x_t in range(CLASSES + (name == "absorbing")):
        exact = posterior(name, x_t, past, now)
        joint = (pi @ product(name, 0, past)[:CLASSES]) * product(name, past, now)[:, x_t]
        model = joint / joint.sum()
        for j in range(CLASSES):
            q = exact[j]
            if float(q.sum()) == 0:
                continue
            expected = torch.where(q > 0, q * (q.clamp(min=1e-300) / model).log(), 0.0).sum()
            found = divergence(
                transition(name),
                logits.view(1, 1, 1, -1),
                torch.tensor([[[j]]]),
                torch.tensor([[[x_t]]]),
                BARS[name][past].view(1),
                BARS[name][now].view(1),
            )
            assert float(found - expected) == pytest.approx(0, abs=1e-14)
            if past == 0:
                assert float(found) == pytest.approx(float(-model[j].log()), abs=1e-14)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_divergence_is_never_negative_and_small_ones_survive_float32(name: str) -> None:
    torch.manual_seed(0)
    bars = cosine_alphabars(1000)
    logits = 2 * torch.randn(7, 4, 16, 1024)
    process = TRANSITIONS[name](1024, 0.0)
    x0 = torch.randint(1024, (7, 4, 16))
    now = torch.tensor([1, 2, 50, 500, 900, 990, 1000])
    x_t = process.corrupt(x0, bars[now], BatchNoise(0, 7))
    exact = divergence(process, logits.double(), x0, x_t, bars[now - 1], bars[now])
    rough = divergence(process, logits, x0, x_t, bars[now - 1], bars[now])
    assert float(exact.min()) > -1e-15
    # T = 1000 multiplies these, so they must keep their digits at every time, however small they are.
    assert ((rough - exact).mean((1, 2)).abs() <= 1e-5 * exact.mean((1, 2)) + 1e-12).all()
    assert ((rough - exact).abs() <= 1e-3 * exact + 1e-12).all()


def test_prior_divergence_is_the_enumerated_sum() -> None:
    row = product("uniform", 0, STEPS)[0]
    expected = float((row * (row * CLASSES).log()).sum())
    assert transition("uniform").prior_divergence() == pytest.approx(expected, abs=1e-14)
    assert TRANSITIONS["uniform"](CLASSES, 0.0).prior_divergence() == pytest.approx(0, abs=1e-15)
    assert transition("absorbing").prior_divergence() == 0


def test_absorbing_needs_a_schedule_that_ends_in_nothing() -> None:
    with pytest.raises(UserError, match="schedule = 'cosine'"):
        TRANSITIONS["absorbing"](CLASSES, 1e-5)


def test_categorical_draws_have_the_right_shares() -> None:
    log_prob = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.7, 0.0]).log()
    uniform = torch.linspace(0, 1, 10_001)[:-1]
    drawn = categorical(log_prob.expand(10_000, -1), uniform)
    shares = torch.bincount(drawn, minlength=6) / 10_000
    assert (shares - log_prob.exp()).abs().max() < 2e-4
    assert shares[0] == shares[3] == shares[5] == 0
