"""Base class of networks with fixed weights: embedders and judges of 24 kHz audio.

B clips, P patches, D dimensions of an embedding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE


class Pretrained:
    """A network on a device.

    Args:
        network: it is moved to `device` and set to eval mode without gradients.
        device: device of the network.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, network: nn.Module, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network: Any = network.to(self.device).eval().requires_grad_(False)

    def embed_patches(self, patches: Tensor, batch: int) -> Tensor:
        """Map patches [B, P, ...] on the device of the network to embeddings [B, P, D] on the CPU.

        `batch` is the number of patches in the network at a time, which bounds memory.
        """
        embedded = torch.cat([self.network(part) for part in patches.flatten(0, 1).split(batch)])
        return embedded.unflatten(0, patches.shape[:2]).cpu()


@contextmanager
def judge_weights(path: Path, network: str) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors by name of a safetensors file that `make judges` wrote; the `with` block loads them.

    Args:
        path: the file.
        network: what the file must contain, in words, for the error message.

    Raises:
        UserError: the file cannot be read, or the block raises OSError, SafetensorError, KeyError or RuntimeError, as
            for tensors of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        yield load_file(path)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} must contain {network} ({error}); delete it, then make judges") from error
