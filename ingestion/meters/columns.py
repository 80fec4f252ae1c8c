"""The columns a table of meter values may have."""

from __future__ import annotations

from collections.abc import Sequence

from ingestion.meters.checking import FileRefusedError

REQUIRED = ("meter", "quantity", "time", "value")
OPTIONAL = ("unit", "site")
_ALIASES = {"asset": "meter", "asset_id": "meter", "meter_id": "meter", "timestamp": "time"}
_NAMED = 5


def columns_of(header: Sequence[str]) -> dict[str, str]:
    """The platform's name of each column of a header.

    Raises
    ------
    FileRefusedError
        When one is missing, unknown or named twice.
    """
    plain = [part.strip().strip('"').strip().lower() for part in header]
    names = [_ALIASES.get(name, name) for name in plain]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise FileRefusedError(f"header lacks {', '.join(missing)}; expected {', '.join(REQUIRED)} [, unit] [, site]")
    unknown = [name for name in names if name not in REQUIRED + OPTIONAL]
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        named = ", ".join(repr(name[:40]) for name in unknown[:_NAMED])
        raise FileRefusedError(f"header has unknown columns {named}{more}")
    if len(set(names)) != len(names):
        raise FileRefusedError("header names a column twice")
    return dict(zip(header, names, strict=True))
