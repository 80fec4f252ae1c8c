"""Errors of planning, and how a wrong value is told: one line each, naming asset, field, value and allowed range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ProblemError(ValueError):
    """An optimization problem that can't be built.

    Attributes
    ----------
    problems : list of str
        One clear line for each thing that is wrong.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class SolveError(RuntimeError):
    """The solver ended without a usable plan.

    Attributes
    ----------
    status : str
        What the solver said of the model ("infeasible", "time limit", ...).
    """

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


class Spec(BaseModel):
    """Base of everything a problem is made of: strict, frozen, and refusing with a :class:`ProblemError`."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ProblemError(explain(error, data)) from None


_RANGES = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ValidationError, data: Mapping[str, Any]) -> list[str]:
    """Turn a validation error into lines of the form "ess-1: soc_min 1.2 must be at most 1.0".

    Parameters
    ----------
    error : ValidationError
        What pydantic refused.
    data : mapping
        The input that was refused; its ``id`` names the asset.
    """
    lines: list[str] = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ProblemError):
            lines.extend(cause.problems)
            continue
        lines.append(_line(item, data))
    return lines


def _line(item: ErrorDetails, data: Mapping[str, Any]) -> str:
    kind, location, message, value = item["type"], item["loc"], item["msg"], item.get("input")
    context = item.get("ctx", {})
    name = data.get("id")
    asset = f"{name}: " if isinstance(name, str) else ""
    field = ".".join(str(part) for part in location) or "value"
    if kind == "missing":
        return f"{asset}{field} is missing"
    if kind == "extra_forbidden":
        return f"{asset}{field} is not a known field"
    if kind in _RANGES:
        key, word = _RANGES[kind]
        return f"{asset}{field} {value} must be {word} {context[key]}"
    text = message.removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list | tuple) or len(repr(value)) > 60 else f" {value!r}"
    if kind == "value_error":
        return f"{asset}{text}" if not location else f"{asset}{field} {text}"
    return f"{asset}{field}{shown}: {text[:1].lower()}{text[1:]}"
