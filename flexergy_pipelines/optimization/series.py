"""Series of a problem: one finite number for each step, given as a scalar, a list, an array or a polars series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

FloatArray = npt.NDArray[np.float64]


def to_series(value: object) -> FloatArray:
    """Read-only one-dimensional array of finite floats; a scalar becomes a series of length one (constant).

    Raises
    ------
    ValueError
        When a value is missing, not a number or not finite; the message names its position.
    """
    if isinstance(value, bool | str | bytes | dict) or value is None:
        raise ValueError(f"{value!r} is not a number or a list of numbers")
    if isinstance(value, list | tuple):
        _refuse_parts(value)
    try:
        # A fresh copy, so that nobody can change the numbers of a frozen problem from outside.
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("holds something that is not a number") from None
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("must be one number or a flat, non-empty list of numbers")
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.flatnonzero(~finite)[0])
        raise ValueError(f"value {array[position]} at position {position} is not a finite number")
    array.flags.writeable = False
    return array


def _refuse_parts(values: Sequence[object]) -> None:
    """Refuse what is no number in a list, naming its position."""
    for position, value in enumerate(values):
        if isinstance(value, list | tuple | dict):
            raise ValueError(f"holds a {type(value).__name__} at position {position}; must be a flat list of numbers")
        if value is None:
            raise ValueError(f"has no value at position {position}; every step needs a number")
        if isinstance(value, str | bytes | bool):
            raise ValueError(f"value {value!r} at position {position} is not a number")


def _serialize(value: FloatArray) -> float | list[float]:
    return float(value[0]) if value.size == 1 else [float(x) for x in value]


Series = Annotated[
    Any,
    PlainValidator(to_series),
    PlainSerializer(_serialize),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}],
            "description": "One number for the whole horizon, or one for each step.",
        }
    ),
]
"""A number for each step. Read it with :func:`expand`."""


def expand(series: FloatArray | float, steps: int) -> FloatArray:
    """The series at full length.

    Parameters
    ----------
    series : ndarray or float
        Of length 1 (constant) or `steps`.
    steps : int
        Number of steps of the horizon.
    """
    array = np.asarray(series, dtype=np.float64).reshape(-1)
    return np.full(steps, array[0]) if array.size == 1 else array


def length_problem(series: FloatArray, steps: int, name: str) -> str | None:
    """One line when `series` fits neither as a constant nor as one value a step."""
    if series.size in (1, steps):
        return None
    return f"{name} has {series.size} values, the horizon has {steps} steps"
