"""torch.compile where it works, plain PyTorch where it does not."""

from collections.abc import Callable

import torch
from torch import nn


def compile_or_not(network: nn.Module, trial: Callable[[], object], say: Callable[[str], None]) -> bool:
    """Compile what `network` computes, try it, and take it back when the trial fails; returns whether it stays.

    Compilers fail in many ways and only when they are used: no C++ compiler, no Triton, an operation they do not know.

    Args:
        network: its `features` is compiled where it has that method, since losses call it alone; else its `forward`.
        trial: one forward and backward pass.
        say: told when the network stays as it was, and why.
    """
    name = "features" if hasattr(network, "features") else "forward"
    setattr(network, name, torch.compile(getattr(network, name)))
    try:
        trial()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        delattr(network, name)  # the method of the class shows again
        reason = str(error).strip().partition("\n")[0]
        say(f"torch.compile does not work here ({type(error).__name__}: {reason:.200}); training goes on without it")
        return False
    return True
