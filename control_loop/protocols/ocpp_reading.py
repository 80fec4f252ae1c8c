"""What a charge point meant, where its request is not quite what OCPP's schema wants: nothing may be lost by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ocpp.messages import MessageType, get_validator

STANDS_FOR = {"errorCode": "OtherError", "reason": "Other"}
"""What an unknown word means where the protocol has a word for it."""
DISPENSABLE = frozenset({"context", "location"})
"""Words of a sample that say nothing of its value."""
IDENTIFIERS = frozenset({"idTag", "parentIdTag"})
"""Texts that are somebody else's when they are cut."""


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """What it stands in has to go."""


def readable(action: str, payload: Any) -> Any:
    """A request with the liberties taken out that charge points take and that change nothing of what it says.

    Parameters
    ----------
    action : str
        Name of the request.
    payload : object
        As it came.

    Returns
    -------
    object
        Without nulls and properties that the protocol does not know; with numbers as text, and text as whole numbers,
        where the protocol wants them so; texts that are too long are cut, and samples that nobody can read are left
        out. What remains wrong is refused by the schema.
    """
    try:
        schema: Any = get_validator(MessageType.Call, action, "1.6").schema
    except OSError:
        return payload
    try:
        return _as(schema, payload, "")
    except _Unreadable:
        return payload


def _as(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    wanted = schema.get("type")
    if wanted == "object" and isinstance(value, dict):
        properties = schema.get("properties", {})
        kept = {key: item for key, item in value.items() if key in properties and item is not None}
        read = {key: _property(properties[key], item, key) for key, item in kept.items()}
        return {key: item for key, item in read.items() if item is not None}
    if wanted == "array" and isinstance(value, list):
        return _items(schema, value, name)
    if wanted == "string":
        return _text(schema, value, name)
    if wanted == "integer":
        return _whole(value)
    return value


def _property(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    try:
        return _as(schema, value, name)
    except _Unreadable:
        if name in DISPENSABLE:
            return None
        raise


def _items(schema: Mapping[str, Any], values: list[Any], name: str) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        try:
            kept.append(_as(schema.get("items", {}), value, name))
        except _Unreadable:
            continue
    if values and not kept:
        raise _Unreadable
    return kept


def _text(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    if value not in schema.get("enum", (value,)):
        if name in STANDS_FOR:
            return STANDS_FOR[name]
        raise _Unreadable
    return value if name in IDENTIFIERS else value[: schema.get("maxLength", len(value))]


def _whole(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    return round(value) if isinstance(value, float) and math.isfinite(value) else value
