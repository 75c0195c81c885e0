"""Multi-scale STFT discriminator (Défossez et al. 2022, section 3.4): small 2-D networks on complex spectrograms.

B clips, N samples, K bins, F frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class Judgement(NamedTuple):
    """What the discriminators make of clips: logits of each scale, and the features on the way to them."""

    logits: list[Tensor]  # [B, 1, F, K'] of each scale
    features: list[Tensor]


class Adversarial(NamedTuple):
    """Losses of each clip, [B]. The first two move the codec alone, the last the discriminator alone."""

    deceiving: Tensor
    features: Tensor
    telling_apart: Tensor


class Scale(nn.Module):
    """One window size."""

    def __init__(self, size: int, filters: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        layers = [nn.Conv2d(2, filters, (3, 9), padding=(1, 4))]
        for dilation in (1, 2, 4):
            padding = (dilation, 4)
            layers.append(nn.Conv2d(filters, filters, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=padding))
        self.layers = nn.ModuleList(layers)
        self.last = nn.Conv2d(filters, 1, 3, padding=1)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 1, N] -> logits and features."""
        window = self.get_buffer("window")
        spectrum = torch.stft(audio[:, 0], self.size, self.size // 4, window=window, return_complex=True)
        x = torch.view_as_real(spectrum / window.sum().sqrt()).permute(0, 3, 2, 1)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


class Discriminator(nn.Module):
    """One network for each window size."""

    def __init__(self, windows: Sequence[int], filters: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Scale(size, filters) for size in windows)

    def forward(self, audio: Tensor) -> Judgement:
        """[B, 1, N] -> logits and features of all scales."""
        judged = [scale(audio) for scale in self.scales]
        return Judgement([logits for logits, _ in judged], [x for _, features in judged for x in features])


def adversarial(discriminator: nn.Module, audio: Tensor, target: Tensor) -> Adversarial:
    """Hinge losses and feature matching of decoded `audio` and `target` [B, 1, N] (ibid., eq. 2, 3 and text).

    The codec's losses pass through the discriminator's weights as constants, the discriminator's see the audio as one.
    So one backward pass gives each its own gradient, and one optimizer that treats parameters apart, as Adam, serves.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    made: Judgement = functional_call(discriminator, frozen, (audio,))
    with torch.no_grad():
        wanted: Judgement = discriminator(target)
    deceiving = _mean([_per_clip(functional.relu(1 - logits)) for logits in made.logits])
    apart = [
        _per_clip((a - b).abs()) / _per_clip(b.abs()).clamp(min=1e-5)
        for a, b in zip(made.features, wanted.features, strict=True)
    ]
    real, fake = discriminator(target), discriminator(audio.detach())
    telling = [_per_clip(functional.relu(1 - logits)) for logits in real.logits]
    telling += [_per_clip(functional.relu(1 + logits)) for logits in fake.logits]
    return Adversarial(deceiving, _mean(apart), 2 * _mean(telling))


def _per_clip(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)
