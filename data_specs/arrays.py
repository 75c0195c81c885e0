"""Short names of array types."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
AnyInt = NDArray[np.integer]
AnyFloat = NDArray[np.floating]
Shape = tuple[int, ...]
Arrays = dict[str, NDArray[Any]]  # by name
