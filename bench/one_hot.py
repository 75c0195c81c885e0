"""DiscDPM loss on one-hot tensors, the reference of the chunked loss in tests and benchmark; peak bytes of a function.

B clips, K codebooks, T frames, C classes, H features.
"""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.conditioning import ControlLayout
from training.diffusion import PerClipNoise, build_paradigm
from training.networks.codes import ClassLogits

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1)))
BATCH, CODEBOOKS, CLASSES, FEATURES = 4, 16, 1024, 64


class Hidden(nn.Module):
    """Network whose last hidden tensor [B, H, T] is given, so that only the last layer and the loss are measured."""

    def __init__(self, hidden: Tensor, codebooks: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden.requires_grad_()
        self.out = ClassLogits(hidden.shape[1], codebooks, classes)
        nn.init.normal_(self.out.conv.weight, std=0.3)

    def features(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Return the last hidden tensor [B, H, T] that was given; the arguments are ignored."""
        return self.hidden


def reference_terms(network: Hidden, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor, steps: int) -> Tensor:
    """Return the loss of each clip, `steps` times the KL divergence of posteriors in nats per code: [B].

    It is computed as in the textbook: log one-hot tensors [B, K, C, T], posteriors by addition, KL by full sums. Where
    `past` is 1, it is the negative log-likelihood of the clean codes.

    Args:
        network: last layer, with its hidden tensor.
        x0, x_t: clean and noisy codes, int64 [B, K, T].
        past, now: probabilities [B] that a code is not resampled yet (alpha bar), at the time before that of `x_t` and
            then.
        steps: number of steps of the diffusion.
    """
    classes = network.out.classes
    logits = network.out.conv(network.hidden).unflatten(1, (-1, classes))
    log_x0_model = logits.log_softmax(2)
    past, now = past.view(-1, 1, 1, 1).to(logits.dtype), now.view(-1, 1, 1, 1).to(logits.dtype)

    def log_one_hot(codes: Tensor) -> Tensor:
        return nnf.one_hot(codes, classes).movedim(-1, 2).to(logits.dtype).clamp(min=1e-30).log()

    def mixed(log_x: Tensor, keep: Tensor) -> Tensor:
        return torch.logaddexp(log_x + keep.log(), ((1 - keep) / classes).clamp(min=1e-30).log())

    def posterior(log_x0: Tensor) -> Tensor:
        before = torch.where(past == 1, log_x0, mixed(log_x0, past))
        return (before + mixed(log_one_hot(x_t), now / past)).log_softmax(2)

    true, model = posterior(log_one_hot(x0)), posterior(log_x0_model)
    kl = (true.exp() * (true - model)).sum(2)
    decoder = -(log_one_hot(x0).exp() * model).sum(2)
    return steps * torch.where(past[:, 0] == 1, decoder, kl).mean((1, 2))


class LiveBytes(TorchDispatchMode):
    """Counter of the bytes in storages allocated in the block, found from the results of all operations.

    Attributes:
        live: present number of bytes.
        peak: largest number of bytes.
        known: bytes of each storage that is counted, by its address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, int] = {}

    def _freed(self, key: int) -> None:
        self.live -= self.known.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in args if isinstance(t, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known and key not in given:
                    self.known[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._freed, key)
        return result


def peak_bytes(compute: Callable[[], object]) -> int:
    """Call `compute` and return the peak number of bytes of the tensors that it allocates."""
    with LiveBytes() as watch:
        compute()
    return watch.peak


class Pair(NamedTuple):
    """Chunked loss and reference on the same codes.

    Attributes:
        network, twin: last layers of ours and of the reference, with equal weights.
        ours, reference: functions that compute the losses [B] and add their gradients to those of the last layer.
    """

    network: Hidden
    twin: Hidden
    ours: Callable[[], Tensor]
    reference: Callable[[], Tensor]


def chunked_and_whole(frames: int, dtype: torch.dtype, device: str = "cpu") -> Pair:
    """Return our loss in float32 and the reference in `dtype`, for codes [4, 16, frames] of 1024 classes on `device`.

    The four clips are at the times 1, 300, 700 and 1000 of 1000 steps.
    """
    torch.manual_seed(0)
    paradigm: Any = build_paradigm("discdpm", {}, LAYOUT, classes=CLASSES)
    network = Hidden(torch.randn(BATCH, FEATURES, frames, device=device), CODEBOOKS, CLASSES).to(device)
    twin = Hidden(network.hidden.detach().to(dtype), CODEBOOKS, CLASSES).to(device, dtype)
    twin.out.load_state_dict(network.out.state_dict())
    x0 = torch.randint(CLASSES, (BATCH, CODEBOOKS, frames), device=device)
    times = torch.tensor([1, 300, 700, 1000])
    past, now = paradigm.alphabars[times - 1], paradigm.alphabars[times]

    def noise() -> PerClipNoise:
        return PerClipNoise(0, range(BATCH), "train", device)

    x_t = paradigm.transition.corrupt(x0, now, noise())
    past, now = past.to(device), now.to(device)

    def ours() -> Tensor:
        terms: Tensor = paradigm.terms(network, x0, None, times, torch.ones(BATCH), noise())
        terms.sum().backward()
        return terms

    def reference() -> Tensor:
        terms = reference_terms(twin, x0, x_t, past, now, 1000)
        terms.sum().backward()
        return terms

    return Pair(network, twin, ours, reference)
