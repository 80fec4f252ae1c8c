"""Runs: stretches of neighbouring elements that share something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def runs_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of True as (start, stop), stop excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def repeat_lengths(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each element the length of the run of identical values that it belongs to (NaN equals nothing)."""
    n = values.size
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    breaks = np.concatenate(([True], values[1:] != values[:-1]))
    group = np.cumsum(breaks) - 1
    return np.bincount(group)[group].astype(np.int64)
