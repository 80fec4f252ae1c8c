"""Meter values in XML: Green Button (ESPI) and meter readings after IEC 61968-9.

Green Button gives energy of intervals by usage point; IEC 61968-9 gives readings by meter, each with a reading type
that is the standard's 18 numbers or, from many head-end systems, an OBIS identifier. Both become rows of text that are
checked like those of any other file.

References
----------
NAESB REQ.21 Energy Services Provider Interface; IEC 61968-9 Annex C (reading types).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import polars as pl

from ingestion.meters.catalogue import by_name, platform_values
from ingestion.meters.checking import FileRefusedError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST_BYTES = 200_000_000
_ENERGY_WH, _POWER_W, _VOLTAGE_V, _REACTIVE_VARH = "72", "38", "29", "73"
_FORWARD, _REVERSE, _NET = {"1"}, {"19"}, {"4"}
_DELTA = {"4"}
_BULK = {"1", "3", "6", "9"}
_MINUTES = {"1": 10, "2": 15, "3": 1, "4": 1440, "5": 30, "6": 5, "7": 60, "10": 2, "14": 3, "31": 20}
"""Lengths of intervals by the third number of a reading type [min]."""

_SCHEMA = {
    "row": pl.UInt32,
    "line": pl.String,
    "reason": pl.String,
    "meter": pl.String,
    "quantity": pl.String,
    "time": pl.String,
    "value": pl.String,
}


@dataclass
class _Collected:
    """Values by meter and interval, and what could not be understood."""

    values: dict[tuple[str, datetime, int], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    count: int = 0

    def reject(self, line: str, reason: str) -> None:
        self.rejected.append((self.count, line, reason))


def read_xml(path: Path) -> pl.DataFrame:
    """Rows of an XML file, as text for the check.

    Parameters
    ----------
    path : Path
        The file. Its name up to the first dot is the meter of a Green Button file whose usage point has no title.

    Returns
    -------
    polars.DataFrame
        ``row`` is the number of the value in the file, beginning with 1.

    Raises
    ------
    FileRefusedError
        When it is too large, no XML, of an unknown kind, or uses entities.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise FileRefusedError(f"XML of more than {LARGEST_BYTES // 1_000_000} MB is not taken; split the file")
    root = _parse(path)
    found = _Collected()
    if (
        _name(root) in {"feed", "entry"}
        or root.find(".//{*}IntervalBlock/{*}IntervalReading/{*}timePeriod") is not None
    ):
        _green_button(root, path.name.partition(".")[0], found)
    elif root.find(".//{*}MeterReading") is not None or _name(root) in {"MeterReading", "MeterReadings"}:
        _meter_readings(root, found)
    else:
        raise FileRefusedError(
            f"XML of <{_name(root)}> is unknown; known: Green Button feed, IEC 61968-9 MeterReadings"
        )
    return pl.DataFrame([*_rows(found)], schema=_SCHEMA, orient="row")


def _parse(path: Path) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        root = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise FileRefusedError("XML with a document type or entities is not taken") from error
    except (ParseError, ValueError, LookupError) as error:
        raise FileRefusedError(f"not well-formed XML: {error}") from error
    if root is None:
        raise FileRefusedError("the file holds no XML element")
    return root


def _rows(found: _Collected) -> Iterator[tuple[int, str, str | None, str, str, str, str]]:
    number = 0
    for (meter, start, seconds), values in found.values.items():
        stamp = start.strftime("%Y-%m-%dT%H:%M:%S+00:00")
        line = f"{meter} {stamp} {seconds} s {values}"
        for quantity, value in platform_values(values, seconds or 1).items():
            number += 1
            yield number, line, None, meter, quantity, stamp, repr(value)
    for place, line, reason in found.rejected:
        yield place, line, reason, "", "", "", ""


def _green_button(root: Element, fallback: str, found: _Collected) -> None:
    """Entries come flat: usage points by title, reading types and blocks in the order of the standard."""
    meter = fallback
    direction, multiplier, unit = "1", 0, _ENERGY_WH
    for item in root.iter():
        kind = _name(item)
        if kind == "entry" and item.find("./{*}content/{*}UsagePoint") is not None:
            meter = _text(item, "title") or fallback
        elif kind == "ReadingType":
            direction = _text(item, "flowDirection") or "1"
            multiplier = _whole(_text(item, "powerOfTenMultiplier") or "0")
            unit = _text(item, "uom") or _ENERGY_WH
        elif kind == "IntervalReading":
            found.count += 1
            _interval(item, meter, direction, unit, multiplier, found)


def _interval(item: Element, meter: str, direction: str, unit: str, multiplier: int, found: _Collected) -> None:  # noqa: PLR0917 - fields of one reading
    start, seconds = _text(item, "timePeriod/start"), _whole(_text(item, "timePeriod/duration"))
    value = _number(_text(item, "value"))
    line = f"{meter} start {start} duration {seconds} value {_text(item, 'value')}"
    if value is None or not start.lstrip("-").isdecimal() or seconds <= 0:
        found.reject(line, "an interval needs a start, a duration above 0 s and a number as value")
    elif unit != _ENERGY_WH:
        found.reject(line, f"unit of measure {unit} is not taken, only {_ENERGY_WH} (Wh)")
    elif direction not in _FORWARD | _REVERSE | _NET:
        found.reject(line, f"flow direction {direction} is unknown, only 1 (forward), 4 (net) and 19 (reverse)")
    else:
        code = "AEi" if direction in _REVERSE else "AIi"
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(int(start), 2**36))
        _add(found, (meter, time, seconds), code, value * 10.0**multiplier / 1000.0, line)


def _meter_readings(root: Element, found: _Collected) -> None:
    blocks = [root] if _name(root) == "MeterReading" else root.iterfind(".//{*}MeterReading")
    for block in blocks:
        meter = _text(block, "Meter/mRID") or _text(block, "Meter/Names/name") or _text(block, "Meter/name")
        for item in block.iterfind("{*}Readings"):
            found.count += 1
            _reading(item, meter, _reference(item), found)
        for group in block.iterfind("{*}IntervalBlocks"):
            for item in group.iterfind("{*}IntervalReadings"):
                found.count += 1
                _reading(item, meter, _reference(group), found)


def _reading(item: Element, meter: str, reference: str, found: _Collected) -> None:
    stamp, text = _text(item, "timeStamp"), _text(item, "value")
    line = f"{meter} {stamp} {text} {reference}"
    value = _number(text)
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        time = None
    meaning = _meaning(reference)
    if not meter:
        found.reject(line, "the reading names no meter")
    elif time is None or time.tzinfo is None:
        found.reject(line, f"time '{stamp}' is not ISO 8601 with offset")
    elif value is None:
        found.reject(line, f"value '{text}' is not a number")
    elif meaning is None:
        found.reject(line, f"reading type '{reference}' is not taken")
    else:
        code, factor, seconds = meaning
        # An interval is stamped with its end in IEC 61968-9, with its start here.
        begin = time.astimezone(UTC) - timedelta(seconds=seconds)
        _add(found, (meter, begin, seconds), code, value * factor, line)


def _meaning(reference: str) -> tuple[str, float, int] | None:
    """Object, factor to its unit and length of the interval [s] of a reading type; None when it is not taken."""
    known = by_name(reference)
    if known is not None:
        return known.code, 1.0, known.period_s if known.report == "S29" else 0
    parts = reference.split(".")
    if len(parts) != 18:
        return None
    measured, accumulated, direction, phase = parts[2], parts[3], parts[4], parts[14]
    factor = 10.0 ** _whole(parts[15]) / 1000.0
    if parts[16] == _ENERGY_WH and phase in {"0", "224"} and direction in _FORWARD | _REVERSE:
        given = direction in _REVERSE
        if accumulated in _DELTA and measured in _MINUTES:
            return "AEi" if given else "AIi", factor, _MINUTES[measured] * 60
        if accumulated in _BULK:
            return "AE" if given else "AI", factor, 0
    if parts[16] == _VOLTAGE_V and phase in {"128", "64", "32"}:
        return {"128": "V_L1", "64": "V_L2", "32": "V_L3"}[phase], factor * 1000.0, 0
    return None


def _add(found: _Collected, key: tuple[str, datetime, int], code: str, value: float, line: str) -> None:
    values = found.values[key]
    if code in values and values[code] != value:
        found.reject(line, f"the file already holds another {code} of this meter and time")
        return
    values[code] = value


def _reference(item: Element) -> str:
    node = item.find("{*}ReadingType")
    return "" if node is None else (node.get("ref") or node.text or "").strip()


def _name(item: Element) -> str:
    return str(item.tag).rpartition("}")[2]


def _text(item: Element, path: str) -> str:
    node = item.find("/".join(f"{{*}}{part}" for part in path.split("/")))
    return (node.text or "").strip() if node is not None else ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def _whole(text: str) -> int:
    stripped = text.lstrip("-")
    return int(text) if stripped.isdecimal() and len(stripped) < 9 else 0
