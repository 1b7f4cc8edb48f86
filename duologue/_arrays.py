"""Types of numpy's arrays for annotations, in modules that load numpy only when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int16s: TypeAlias = NDArray[np.int16]
    Int32s: TypeAlias = NDArray[np.int32]
    Numbers: TypeAlias = Int16s | Int32s | NDArray[np.float64]
    Samples: TypeAlias = NDArray[np.float32]
else:
    Int16s = Int32s = Numbers = Samples = Any
