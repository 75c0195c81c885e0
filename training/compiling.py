"""torch.compile where it works, plain PyTorch where it does not."""

from collections.abc import Callable

import torch
from torch import nn


def compile_or_not(network: nn.Module, trial: Callable[[], object], say: Callable[[str], None]) -> bool:
    """Compile `network`, run `trial`, and undo the compilation if that fails; return whether it is compiled.

    Compilers fail in many ways, and only at the first call: no C++ compiler, no Triton, an unsupported operation.

    Args:
        network: its `features` is compiled where it has that method, since losses call it directly; else its `forward`.
        trial: one forward and backward pass.
        say: called with the reason if compilation fails.
    """
    name = "features" if hasattr(network, "features") else "forward"
    setattr(network, name, torch.compile(getattr(network, name)))
    try:
        trial()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        delattr(network, name)  # uncover the method of the class
        reason = str(error).strip().partition("\n")[0]
        say(f"torch.compile does not work here ({type(error).__name__}: {reason:.200}); training runs without it")
        return False
    return True
