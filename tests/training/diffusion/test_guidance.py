"""Guidance: the two formulas of the contract, in one batch."""

import pytest
import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.diffusion import build_paradigm
from training.diffusion.guidance import Guidance

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1), ("instruments", 3)))
CONTROLS = torch.rand(2, 5, 6)


class Listener(nn.Module):
    """Output depends on the controls in a way that is not linear."""

    calls = 0

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        self.calls += 1
        assert controls is not None
        weights = torch.arange(1.0, 6.0).view(1, 5, 1)
        return x * 0.1 + ((controls * weights).sum(1, keepdim=True)).square()


def denoised(weights: float | dict[str, float], controls: Tensor = CONTROLS) -> tuple[Tensor, int]:
    listener = Listener()
    x = torch.full((2, 1, 6), 0.3)
    result = build_paradigm("edm", {}, LAYOUT).denoiser(listener, controls, weights)(x, torch.tensor([0.5, 2.0]))
    return result, listener.calls


def test_common_weight() -> None:
    every, _ = denoised(1.0)
    none, _ = denoised(1.0, torch.full_like(CONTROLS, -1.0))
    guided, calls = denoised(2.5)
    assert calls == 1
    assert torch.allclose(guided, none + 2.5 * (every - none), atol=1e-4)
    assert torch.allclose(denoised(0.0)[0], none, atol=1e-4)


def test_weight_per_clip() -> None:
    paradigm, x, sigma = build_paradigm("edm", {}, LAYOUT), torch.full((2, 1, 6), 0.3), torch.tensor([0.5, 2.0])
    together = paradigm.denoiser(Listener(), CONTROLS, torch.tensor([0.5, 3.0]).view(2, 1, 1))(x, sigma)
    for clip, weight in enumerate((0.5, 3.0)):
        assert torch.allclose(together[clip], denoised(weight)[0][clip], atol=1e-4)


def test_weight_per_feature() -> None:
    every, _ = denoised(1.0)
    expected = every.clone()
    for name, weight in (("chroma", 3.0), ("instruments", 0.5)):
        without, _ = denoised(1.0, LAYOUT.without(CONTROLS, [name]))
        expected += (weight - 1) * (every - without)
    guided, calls = denoised({"chroma": 3.0, "instruments": 0.5, "velocity": 1.0})
    assert calls == 1
    assert torch.allclose(guided, expected, atol=1e-4)


def test_weight_one_costs_nothing() -> None:
    for weights in (1.0, {}, {"chroma": 1.0}):
        guided = Guidance(CONTROLS, LAYOUT, weights)
        assert guided.coefficients == [1.0]
        assert guided.repeat(CONTROLS) is CONTROLS


def test_unknown_features_are_named() -> None:
    with pytest.raises(UserError, match="no control feature 'pitch'"):
        Guidance(CONTROLS, LAYOUT, {"pitch": 2.0})
