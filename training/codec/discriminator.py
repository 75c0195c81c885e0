"""Multi-scale STFT discriminator: 2-D convolutional networks on complex spectrograms (Défossez et al. 2022, sec. 3.4).

B clips, N samples, F frames, K' bins after three layers of stride 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class DiscriminatorOutput(NamedTuple):
    """Outputs of the discriminator: logits of each scale, and activations of all hidden layers, scale after scale."""

    logits: list[Tensor]  # [B, 1, F, K'] of each scale
    features: list[Tensor]


class AdversarialLosses(NamedTuple):
    """Losses of each clip, [B].

    Gradients of `generator_loss` and `feature_matching` reach only the codec, those of `discriminator_loss` only the
    discriminator.
    """

    generator_loss: Tensor
    feature_matching: Tensor
    discriminator_loss: Tensor


class Scale(nn.Module):
    """Discriminator on the STFT with one window of `size` samples; hidden layers have `filters` channels."""

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
        """Map audio [B, 1, N] to logits [B, 1, F, K'] and the activations of each layer, [B, filters, F, bins]."""
        window = self.get_buffer("window")
        spectrum = torch.stft(audio[:, 0], self.size, self.size // 4, window=window, return_complex=True)
        x = torch.view_as_real(spectrum / window.sum().sqrt()).permute(0, 3, 2, 1)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


class Discriminator(nn.Module):
    """A `Scale` for each of `windows`, lengths in samples; hidden layers have `filters` channels."""

    def __init__(self, windows: Sequence[int], filters: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Scale(size, filters) for size in windows)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """Map audio [B, 1, N] to the logits and activations of all scales, in the order of `windows`."""
        outputs = [scale(audio) for scale in self.scales]
        return DiscriminatorOutput([logits for logits, _ in outputs], [x for _, features in outputs for x in features])


def adversarial_losses(discriminator: nn.Module, audio: Tensor, target: Tensor) -> AdversarialLosses:
    """Return hinge losses and feature matching of decoded `audio` and original `target`, [B, 1, N] (ibid., eq. 2, 3).

    Each loss is a mean over scales or layers; that of the discriminator is its loss on `target` plus its loss on
    `audio`. The losses of the codec treat the weights of the discriminator as constants, and the loss of the
    discriminator treats `audio` as constant. So one backward pass gives the gradients of both, for one optimizer.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    decoded: DiscriminatorOutput = functional_call(discriminator, frozen, (audio,))
    with torch.no_grad():
        expected: DiscriminatorOutput = discriminator(target)
    generator = _mean([_per_clip(functional.relu(1 - logits)) for logits in decoded.logits])
    matching = [
        _per_clip((a - b).abs()) / _per_clip(b.abs()).clamp(min=1e-5)
        for a, b in zip(decoded.features, expected.features, strict=True)
    ]
    real, fake = discriminator(target), discriminator(audio.detach())
    discriminating = [_per_clip(functional.relu(1 - logits)) for logits in real.logits]
    discriminating += [_per_clip(functional.relu(1 + logits)) for logits in fake.logits]
    return AdversarialLosses(generator, _mean(matching), 2 * _mean(discriminating))


def _per_clip(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)
