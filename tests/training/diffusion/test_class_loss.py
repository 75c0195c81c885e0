"""Last layer and loss as one function, against plain automatic differentiation in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.training.diffusion.test_transitions import divergence
from training.diffusion.class_loss import class_loss
from training.diffusion.noise import BatchNoise
from training.diffusion.schedules import cosine_alphabars
from training.diffusion.transitions import TRANSITIONS
from training.networks.codes import ClassLogits

BARS = cosine_alphabars(1000)
NOW = torch.tensor([1, 2, 500, 1000])
GRADIENTS = torch.tensor([1.0, 0.5, 2.0, 0.1])  # of the clips' losses, where they differ


def both(
    name: str, backward: Callable[[Tensor], None], dtype: torch.dtype = torch.float32, chunk: int = 4 * 30 * 4
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients (features, weight, bias) of the function in `dtype`, and of plain autograd in float64."""
    torch.manual_seed(0)
    classes, layer = 30, ClassLogits(12, 3, 30)
    torch.nn.init.normal_(layer.conv.weight)
    features = torch.randn(4, 12, 10).to(dtype).requires_grad_()
    x0, scale = torch.randint(classes, (4, 3, 10)), torch.tensor([1.0, 2.0, 3.0, 4.0])
    process, past, now = TRANSITIONS[name](classes, 0.0), BARS[NOW - 1], BARS[NOW]
    x_t = process.corrupt(x0, now, BatchNoise(0, 4))
    losses = class_loss(
        layer,
        features,
        x0,
        x_t,
        lambda terms, clean, corrupted: process.divergence(terms, clean, corrupted, past, now),
        process.ratio(past, now),
        scale,
        chunk,
    )
    backward(losses)
    found = [losses.detach(), features.grad, layer.conv.weight.grad, layer.conv.bias.grad]
    wide, plain = ClassLogits(12, 3, 30).double(), features.detach().double().requires_grad_()
    wide.load_state_dict(layer.state_dict())
    exact = divergence(process, wide(plain), x0, x_t, past, now).sum((1, 2)) * scale
    backward(exact)
    return found, [exact.detach(), plain.grad, wide.conv.weight.grad, wide.conv.bias.grad]


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    """Largest difference of any tensor, relative to its largest value."""
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("chunk", [4 * 30 * 4, 4 * 30 * 10 * 2, 2**22])  # 4 frames, 2 codebooks, all
@pytest.mark.parametrize("name", TRANSITIONS)
def test_loss_and_gradients_equal_plain_autograd(name: str, chunk: int) -> None:
    assert worst(*both(name, lambda losses: losses.mean().backward(), chunk=chunk)) < 1e-6


@pytest.mark.parametrize("name", TRANSITIONS)
def test_losses_with_gradients_of_their_own(name: str) -> None:
    assert worst(*both(name, lambda losses: losses.backward(GRADIENTS.to(losses)))) < 1e-6


def test_features_in_bf16() -> None:
    found, exact = both("uniform", lambda losses: losses.sum().backward(), torch.bfloat16)
    assert found[1].dtype == torch.bfloat16
    assert found[2].dtype == torch.float32
    assert worst(found, exact) < 0.02


@pytest.mark.parametrize("name", TRANSITIONS)
def test_gradient_is_finite_for_extreme_logits(name: str) -> None:
    layer = ClassLogits(1, 1, 8)
    with torch.no_grad():
        layer.conv.bias.copy_(torch.tensor([90.0, -90, 0, 0, 0, 0, 0, 0]))
    features = torch.ones(4, 1, 3, requires_grad=True)
    x0 = torch.tensor([0, 1, 2]).view(1, 1, 3).expand(4, -1, -1)
    process, past, now = TRANSITIONS[name](8, 0.0), BARS[NOW - 1], BARS[NOW]
    x_t = process.corrupt(x0, now, BatchNoise(0, 4))
    losses = class_loss(
        layer,
        features,
        x0,
        x_t,
        lambda *terms: process.divergence(*terms, past, now),
        process.ratio(past, now),
        torch.ones(4),
        2**22,
    )
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(layer.conv.weight.grad).all()
