"""Errors of planning, and how a wrong value is told: one line each, naming asset, field, value and allowed range."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ProblemError(ValueError):
    """An optimization problem that can't be built.

    Attributes
    ----------
    problems : list of str
        One clear line for each thing that is wrong.
    owner : str or None
        Asset that the lines name already.
    """

    def __init__(self, problems: Sequence[str], owner: str | None = None) -> None:
        self.problems = list(problems)
        self.owner = owner
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

    names_its_parts: ClassVar[bool] = True
    """Whether what is wrong in a part of it is told with its own id, too."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            name = data.get("id", getattr(type(self).model_fields.get("id"), "default", None))
            owner = name if isinstance(name, str) and self.names_its_parts else None
            raise ProblemError(explain(error, owner, type(self).model_fields), owner) from None


_RANGES = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}

_SHAPES = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of fields",
    "model_type": "a mapping of fields",
}


def explain(error: ValidationError, owner: str | None = None, known: Collection[str] = ()) -> list[str]:
    """Turn a validation error into lines of the form "ess-1: soc_min 1.2 must be at most 1.0".

    Parameters
    ----------
    error : ValidationError
        What pydantic refused.
    owner : str or None
        Asset that was refused.
    known : collection of str
        Its fields, to tell what a field that isn't known may have meant.
    """
    lines: list[str] = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        lines.extend(
            _part_lines(item, cause, owner) if isinstance(cause, ProblemError) else [_line(item, owner, known)]
        )
    return lines


def _part_lines(item: ErrorDetails, cause: ProblemError, owner: str | None) -> list[str]:
    """What is wrong in a part, told with the part's place where the part has no id of its own."""
    if not item["loc"]:
        return cause.problems
    asset = "" if owner is None else f"{owner}: "
    part = "" if cause.owner is not None else f"{_place(item['loc'])}: "
    return [f"{asset}{part}{line.removeprefix(part)}" for line in cause.problems]


def _place(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _line(item: ErrorDetails, owner: str | None, known: Collection[str]) -> str:
    kind, location, message, value = item["type"], item["loc"], item["msg"], item.get("input")
    context = item.get("ctx", {})
    asset = "" if owner is None else f"{owner}: "
    field = _place(location) or "value"
    if kind == "missing":
        return f"{asset}{field} is missing"
    if kind == "extra_forbidden":
        near = get_close_matches(field, known, 1, cutoff=0.5)
        return f"{asset}{field} is not a known field" + (f"; did you mean {near[0]}?" if near else "")
    if kind in _RANGES:
        key, word = _RANGES[kind]
        return f"{asset}{field} {value} must be {word} {context[key]}"
    shown = "" if isinstance(value, dict | list | tuple) or len(repr(value)) > 60 else f" {value!r}"
    if kind in _SHAPES:
        return f"{asset}{field}{shown}: must be {_SHAPES[kind]}"
    text = message.removeprefix("Value error, ")
    if kind == "value_error":
        return f"{asset}{text}" if not location else f"{asset}{field} {text}"
    return f"{asset}{field}{shown}: {text[:1].lower()}{text[1:]}"
