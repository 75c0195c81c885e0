"""Work on PyTorch's `meta` device as on a GPU: operators take no tensors of two devices."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CASTS = ("to", "_to_copy")  # the first under inference_mode


class OneDevice(TorchDispatchMode):
    """Raise where an operator takes tensors of two devices; scalars and copies may.

    Values that are copied from `meta` to the CPU, where there are none, become zeros.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor) and value.dim()]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1 and name not in (*CASTS, "copy_"):
            raise AssertionError(f"{func} takes tensors of {' and '.join(sorted(devices))}")
        if name in CASTS and "meta" in devices and str(kwargs.get("device")) == "cpu":
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)
