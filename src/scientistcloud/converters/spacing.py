"""Whether the values of a coordinate are evenly spaced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array


def even(values: Array, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Spacing, always positive, and origin of an axis with these physical `values`; None where they are uneven.

    `dtype` is what they are stored in: single precision leaves a grid uneven, in the fifth digit of steps of
    0.75°, in the second of 0.001°.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    step = float(values[-1] - values[0]) / (len(values) - 1)
    rounding = np.finfo(dtype).eps * np.abs(values).max() if dtype.kind == "f" else 0.0
    if not 0 < abs(step) < math.inf or not np.allclose(np.diff(values), step, rtol=1e-3, atol=2 * rounding):
        return None
    # `scale` has to be positive and the order stays as stored, so where a coordinate falls only it can say
    # where a pixel lies; the axis counts from its first pixel.
    return abs(step), float(values[0]) if step > 0 else 0.0
