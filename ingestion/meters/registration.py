"""Registering many meters at once from a CSV, with a dry run and every row's error."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Meter, Site

Action = Literal["add", "change", "same", "error"]

_CONNECTION = {
    "protocol": str,
    "host": str,
    "port": int,
    "unit_id": int,
    "template": str,
    "timeout_s": float,
    "network_type": str,
}
_METER = {
    "id": str, "name": str, "role": str, "serial_number": str, "concentrator": str, "asset": str,
    "integration_period_minutes": int, "billing_day": int, "phase_connection": str, "ct_ratio": float,
    "vt_ratio": float, "tariff": str, "manufacturer": str, "model_name": str, "commissioned": str,
    "data_sheet_url": str,
}  # fmt: skip
COLUMNS = tuple(_METER) + tuple(_CONNECTION)
REQUIRED = ("id", "role", "port", "template")
MOST_ROWS = 100_000


class RegistrationError(Exception):
    """The file as a whole cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a row would do.

    Attributes
    ----------
    row : int
        Line of the file; the header is 1.
    meter : str
        Its id as written.
    action : str
        ``add``, ``change``, ``same`` or ``error``.
    reason : str or None
        What is wrong.
    """

    row: int
    meter: str
    action: Action
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """What a file would do to a site.

    Attributes
    ----------
    site : Site
        The site with every row that is right; the old one when none is.
    rows : tuple of RowResult
        One for each row of the file.
    """

    site: Site
    rows: tuple[RowResult, ...]

    @property
    def errors(self) -> tuple[RowResult, ...]:
        return tuple(row for row in self.rows if row.action == "error")


def plan_registration(site: Site, path: Path) -> Registration:
    """Read a file of meters and find out what it would do; nothing is stored.

    Parameters
    ----------
    site : Site
        Site the meters belong to.
    path : Path
        CSV with a header of `COLUMNS` (`REQUIRED` at least), comma or semicolon, UTF-8.

    Raises
    ------
    RegistrationError
        When the file cannot be read or its header is wrong.
    """
    results: list[RowResult] = []
    seen: dict[str, int] = {}
    for number, fields in enumerate(_rows(path), start=2):
        name = (fields.get("id") or "").strip()
        before = seen.setdefault(name, number)
        if before != number:
            results.append(RowResult(number, name, "error", f"{name} stands in row {before} already"))
            continue
        try:
            meter = _meter(fields)
            site, action = _with_meter(site, meter)
        except ValueError as error:
            results.append(RowResult(number, name, "error", " ".join(str(error).split())))
        else:
            results.append(RowResult(number, name, action))
    return Registration(site, tuple(results))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RegistrationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RegistrationError(f"{path}: byte {error.start} is not UTF-8") from error
    lines = text.splitlines()
    if not lines:
        raise RegistrationError(f"{path}: the file is empty")
    separator = ";" if lines[0].count(";") > lines[0].count(",") else ","
    header = [name.strip() for name in lines[0].split(separator)]
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing:
        raise RegistrationError(f"{path}: header lacks {', '.join(missing)}")
    if unknown or len(set(header)) != len(header):
        wrong = ", ".join(map(repr, unknown)) or "a column twice"
        raise RegistrationError(f"{path}: header has {wrong}; known: {', '.join(COLUMNS)}")
    if len(lines) - 1 > MOST_ROWS:
        raise RegistrationError(f"{path}: more than {MOST_ROWS} rows; split the file")
    body = csv.DictReader(lines[1:], fieldnames=header, delimiter=separator, restkey="", restval="")
    return [{str(key): value for key, value in row.items() if isinstance(value, str)} for row in body]


def _meter(fields: Mapping[str, str]) -> Meter:
    from pydantic import ValidationError

    from flexergy_pipelines.grid import Meter

    data = _typed(fields, _METER) | {"connection": _typed(fields, _CONNECTION)}
    try:
        return Meter.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise ValueError(f"{place}: {first['msg']}{given}") from None


def _typed(fields: Mapping[str, str], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Fields that are filled in, as the types the grid model is strict about."""
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        text = fields.get(name, "").strip()
        if not text:
            continue
        try:
            found[name] = kind(text)
        except ValueError:
            raise ValueError(f"{name}: {text!r} is not a{'n integer' if kind is int else ' number'}") from None
    return found


def _with_meter(site: Site, meter: Meter) -> tuple[Site, Action]:
    """The site with the meter added or changed; the whole of it is validated."""
    from flexergy_pipelines.grid import SiteError, parse_site, site_to_dict

    known = {item.id: item for item in site.meters}
    if known.get(meter.id) == meter:
        return site, "same"
    data = site_to_dict(site)
    entry = meter.model_dump(mode="json", exclude_none=True)
    meters = [entry if item["id"] == meter.id else item for item in data["meters"]]
    data["meters"] = meters if meter.id in known else [*meters, entry]
    try:
        return parse_site(data), "change" if meter.id in known else "add"
    except SiteError as error:
        raise ValueError("; ".join(error.problems)) from None
