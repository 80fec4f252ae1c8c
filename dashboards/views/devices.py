"""View model of the field's devices: how each link works, how it did over time, and what was found and waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import NO_VALUE, duration, local_time, number, percent
from flexergy_pipelines.grid import Device, Site
from flexergy_pipelines.store.field_devices import DeviceProposal

QUIET = timedelta(minutes=3)
"""Statistics come each minute; a link of which nothing came for so long is not looked after."""

PROTOCOL_WORDS = {
    "modbus_tcp": "Modbus TCP",
    "modbus_rtu": "Modbus RTU",
    "iec104": "IEC 60870-5-104",
    "iec61850": "IEC 61850",
    "ocpp16": "OCPP 1.6",
    "dlms": "DLMS/COSEM",
    "talq": "TALQ",
}
COLUMNS = (
    "device",
    "link",
    "protocol",
    "answered",
    "answer time",
    "retries",
    "connects",
    "data",
    "signal",
    "last error",
)
POINTS_OF_A_LINE = 240
_TELLING = ("manufacturer", "model", "charge_point_vendor", "charge_point_model", "name", "serial")
_NEVER = "not heard of"


def link_table(site: Site, summary: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Each device of a site with the figures of its link, what is wrong first.

    Parameters
    ----------
    summary : pl.DataFrame
        As `link_summary` gives it.

    Returns
    -------
    pl.DataFrame
        Text as shown, one row a device of the site, also where nothing is known of its link; without the column
        ``signal`` where no device tells it.
    """
    known = {row["device_id"]: row for row in summary.iter_rows(named=True)}
    states = [(state_of(known.get(device.id), now), device) for device in site.devices()]
    order = {"down": 0, "no word": 1, _NEVER: 2, "up": 3}
    ranked = sorted(states, key=lambda pair: (order[pair[0]], pair[1].id))
    rows = [_row(device, state, known.get(device.id), now) for state, device in ranked]
    table = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    return table.drop("signal") if table["signal"].eq(NO_VALUE).all() else table


def state_of(row: dict[str, object] | None, now: datetime) -> str:
    """``up``, ``down``, ``no word`` (the control loop tells nothing of it any more) or ``not heard of``."""
    if row is None:
        return _NEVER
    seen = row["seen"]
    if isinstance(seen, datetime) and now - seen > QUIET:
        return "no word"
    return "up" if row["connected"] else "down"


def _row(device: Device, state: str, row: dict[str, object] | None, now: datetime) -> tuple[str, ...]:
    connection = device.connection
    network = connection.network_type or ("serial" if connection.serial is not None else None)
    protocol = PROTOCOL_WORDS.get(connection.protocol, connection.protocol) + (f" over {network}" if network else "")
    if row is None:
        return (device.id, state, protocol, *([NO_VALUE] * 7))
    figures = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    seen = row["seen"]
    if state == "no word" and isinstance(seen, datetime):
        state += f" for {duration((now - seen).total_seconds())}"
    moved = figures["bytes_sent"] + figures["bytes_received"]
    latency = f"{_milliseconds(figures.get('latency_s'))}, at most {_milliseconds(figures.get('worst_latency_s'))}"
    signal = NO_VALUE
    if "signal_dbm" in figures:
        signal = f"{number(figures['signal_dbm'], 0)} dBm, weakest {number(figures['weakest_signal_dbm'], 0)} dBm"
    return (
        device.id,
        state,
        protocol,
        f"{percent(figures.get('success'), 2)} of {number(figures['requests'], 0)}",
        latency if "latency_s" in figures else NO_VALUE,
        number(figures["retries"], 0),
        number(figures["reconnects"], 0),
        _bytes(moved),
        signal,
        str(row["last_error"] or NO_VALUE),
    )


def link_figures(site: Site, summary: pl.DataFrame, waiting: int, now: datetime) -> list[tuple[str, str, str]]:
    """Name, value and a line below for the whole field of a site."""
    known = {row["device_id"]: row for row in summary.iter_rows(named=True)}
    devices = site.devices()
    up = sum(state_of(known.get(device.id), now) == "up" for device in devices)
    requests, failures = int(summary["requests"].sum()), int(summary["failures"].sum())
    answered = percent(1 - failures / requests, 2) if requests else NO_VALUE
    moved = int(summary["bytes_sent"].sum()) + int(summary["bytes_received"].sum())
    return [
        ("Links up", f"{up} of {len(devices)}", "devices of this site"),
        ("Requests answered", answered, f"of {number(requests, 0)}"),
        ("Data", _bytes(moved), "sent and received"),
        ("Found, waiting", str(waiting), "devices that nobody decided on"),
    ]


def link_history(rows: pl.DataFrame, device_ids: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Share of requests answered and the mean answer time of some links over time.

    Parameters
    ----------
    rows : pl.DataFrame
        As `read_link_statistics` gives them, a row a link and minute.

    Returns
    -------
    pl.DataFrame
        Columns ``device_id``, ``time``, ``answered`` (fraction), ``latency_ms``; at most 240 rows a link.
    """
    minutes = max(1, math.ceil((end - start) / timedelta(minutes=1) / POINTS_OF_A_LINE))
    answers = pl.col("requests") - pl.col("failures")
    timed = answers.filter(pl.col("latency_s").is_not_null()).sum()
    return (
        rows.filter(pl.col("device_id").is_in(list(device_ids)) & (pl.col("requests") > 0))
        .group_by("device_id", pl.col("time").dt.truncate(f"{minutes}m"))
        .agg(
            answered=answers.sum() / pl.col("requests").sum(),
            latency_ms=pl.when(timed > 0).then(1000 * (pl.col("latency_s") * answers).sum() / timed),
        )
        .sort("device_id", "time")
    )


def proposal_table(proposals: Sequence[DeviceProposal], zone: ZoneInfo) -> pl.DataFrame:
    """Found devices as text, newest first."""
    return pl.DataFrame(
        [
            (
                str(found.proposal_id),
                PROTOCOL_WORDS.get(found.protocol, found.protocol),
                found.address,
                told(found) or NO_VALUE,
                found.template or "none fits",
                local_time(found.seen_at, zone),
            )
            for found in proposals
        ],
        schema=dict.fromkeys(("number", "protocol", "address", "says it is", "template", "last seen"), pl.String),
        orient="row",
    )


def told(found: DeviceProposal) -> str:
    """What a found device says of itself, in a few words."""
    return " ".join(str(found.identity[key]) for key in _TELLING if found.identity.get(key))


def _milliseconds(seconds: float | None) -> str:
    return NO_VALUE if seconds is None else f"{number(1000 * seconds, 0)} ms"


def _bytes(count: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{number(count / size, 1)} {unit}"
    return f"{number(count, 0)} B"
