"""torch.compile, with plain PyTorch where it fails."""

from collections.abc import Callable

import torch
from torch import nn


def compile_or_not(network: nn.Module, trial: Callable[[], object], say: Callable[[str], None]) -> bool:
    """Compile `network` in place, run `trial`, and undo the compilation if that fails; return whether it is compiled.

    Compilation happens at the first call. It fails without a C++ compiler or Triton and for unsupported operations.

    Args:
        network: its method `features` is compiled if it has one, since losses call it directly; else `forward`.
        trial: one forward and backward pass.
        say: called with the reason if compilation fails.

    Raises:
        torch.OutOfMemoryError: `trial` exceeded the memory of the device; the network stays compiled.
    """
    name = "features" if hasattr(network, "features") else "forward"
    setattr(network, name, torch.compile(getattr(network, name)))
    try:
        trial()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        delattr(network, name)  # the method of the class applies again
        reason = str(error).strip().partition("\n")[0]
        say(f"torch.compile does not work here ({type(error).__name__}: {reason:.200}); training runs without it")
        return False
    return True
