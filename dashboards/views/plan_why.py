"""View model of a plan's reasons, its offers at the markets, and what plans were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import euro, local_time, number, percent


def mwh_price(eur_per_kwh: float | None) -> str:
    """A price as the markets tell it."""
    return "–" if eur_per_kwh is None else f"{number(eur_per_kwh * 1000, 0)} EUR/MWh"


def reasons_at(inputs: Mapping[str, Any], at: datetime) -> list[str]:
    """Sentences of the stretches that cover an instant."""
    return [
        str(reason["sentence"])
        for reason in inputs.get("why") or []
        if datetime.fromisoformat(reason["start"]) <= at < datetime.fromisoformat(reason["end"])
    ]


def reason_table(inputs: Mapping[str, Any], zone: ZoneInfo, after: datetime) -> pl.DataFrame:
    """Every reason of a plan that is not over: ``from``, ``to``, ``asset``, ``why``."""
    rows = [
        {
            "from": local_time(datetime.fromisoformat(reason["start"]), zone),
            "to": local_time(datetime.fromisoformat(reason["end"]), zone),
            "asset": str(reason["asset_id"]),
            "why": _sentence(reason),
        }
        for reason in inputs.get("why") or []
        if datetime.fromisoformat(reason["end"]) > after
    ]
    return pl.DataFrame(rows, schema=_texts("from", "to", "asset", "why"))


def _sentence(reason: Mapping[str, Any]) -> str:
    """The sentence without the time and the asset, which stand beside it."""
    text = str(reason["sentence"])
    mark = f" {reason['asset_id']} "
    return text.split(mark, 1)[1] if mark in text else text


def _texts(*names: str) -> dict[str, type[pl.DataType]]:
    """The schema of a table of text."""
    return dict.fromkeys(names, pl.String)


def interval_times(inputs: Mapping[str, Any]) -> list[datetime]:
    """Starts of the intervals that a plan explains."""
    return [datetime.fromisoformat(one["time"]) for one in inputs.get("intervals") or []]


def interval_limits(inputs: Mapping[str, Any], at: datetime) -> tuple[float | None, pl.DataFrame]:
    """What energy is worth in an interval (EUR/kWh), and its binding limits: ``limit``, ``one more unit saves``."""
    schema = _texts("limit", "one more unit saves")
    for one in inputs.get("intervals") or []:
        if datetime.fromisoformat(one["time"]) == at:
            rows = [
                {"limit": _capital(limit["meaning"]), "one more unit saves": f"{number(limit['saves_eur'], 3)} EUR"}
                for limit in one["limits"]
            ]
            return one["energy_price_eur_per_kwh"], pl.DataFrame(rows, schema=schema)
    return None, pl.DataFrame(schema=schema)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def value_at(values: pl.DataFrame, asset_id: str, quantity: str, at: datetime) -> float | None:
    """One value of a plan."""
    found = values.filter((pl.col("asset_id") == asset_id) & (pl.col("quantity") == quantity) & (pl.col("time") == at))[
        "value"
    ].to_list()
    return found[0] if found else None


def bid_table(bids: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> pl.DataFrame:
    """Bids as text, with the units that hold them and where the price comes from."""
    names = ("service", "period", "direction", "units", "bid", "at least", "price", "sold", "earns")
    rows = [
        {
            "service": f"{bid['service']} ({bid['product']})",
            "period": _period(bid, zone),
            "direction": str(bid["direction"]),
            "units": ", ".join(bid.get("units") or ()) or "–",
            "bid": _bid(bid),
            "at least": held_price(bid["price_eur_per_kw_h"]),
            "price": held_price(bid["market_price_eur_per_kw_h"])
            + (" set" if bid.get("price_source") == "fixed" else ""),
            "sold": f"{number(bid['sold_kw'])} kW" if bid["sold_kw"] else "–",
            "earns": euro(bid["revenue_eur"]),
        }
        for bid in bids
        if bid["bid_kw"] > 1e-6 or bid["sold_kw"]
    ]
    return pl.DataFrame(rows, schema=_texts(*names))


def car_table(charging: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> pl.DataFrame:
    """When each car charges, as text, by charge point: cars that are there first."""
    names = ("charge point", "car", "stays until", "wants", "gets", "charges", "largest")
    rows = [
        {
            "charge point": str(car["charge_point"]),
            "car": "is there" if car["source"] == "now" else f"expected {_clock(car['arrival'], zone)}",
            "stays until": _clock(car["departure"], zone),
            "wants": f"{number(car['asked_kwh'])} kWh",
            "gets": f"{number(car['planned_kwh'])} kWh",
            "charges": "–" if car["from"] is None else f"{_clock(car['from'], zone)}–{_clock(car['to'], zone)}",
            "largest": f"{number(max((kw for _, kw in car['pattern_kw']), default=0.0))} kW",
        }
        for car in sorted(charging, key=lambda one: (one["source"] != "now", one["arrival"], one["charge_point"]))
    ]
    return pl.DataFrame(rows, schema=_texts(*names))


def _clock(instant: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%a %H:%M}"


def held_price(eur_per_kw_h: float | None) -> str:
    """A price of holding power, as the markets tell it."""
    return mwh_price(eur_per_kw_h).replace("MWh", "MW·h")


def _bid(bid: Mapping[str, Any]) -> str:
    most = bid.get("max_bid_kw")
    return f"{number(bid['bid_kw'])} kW" + ("" if most is None else f" of {number(most)}")


def unit_table(units: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> pl.DataFrame:
    """What each unit can give as text: by rating (largest), at the planned SoC (free), and what is held in it."""
    names = ("service", "period", "direction", "unit", "largest", "free", "held", "note")
    rows = [
        {
            "service": str(unit["service"]),
            "period": _period(unit, zone),
            "direction": str(unit["direction"]),
            "unit": str(unit["unit"]),
            "largest": f"{number(unit['largest_kw'])} kW",
            "free": f"{number(unit['free_kw'])} kW",
            "held": f"{number(unit['held_kw'])} kW",
            "note": str(unit["reason"]),
        }
        for unit in units
    ]
    return pl.DataFrame(rows, schema=_texts(*names))


def _period(row: Mapping[str, Any], zone: ZoneInfo) -> str:
    start, end = datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])
    return f"{local_time(start, zone)}–{end.astimezone(zone):%H:%M}"


def made_from(inputs: Mapping[str, Any]) -> list[str]:
    """Why and from what a plan was made, in a few lines."""
    lines = []
    because = [str(reason) for reason in inputs.get("because") or []]
    if because:
        lines.append(f"Made because: {'; '.join(because)}.")
    uncertainty = inputs.get("uncertainty") or {}
    if uncertainty.get("kind") == "stochastic":
        lines.append(
            f"Bids and starts were decided over {uncertainty['scenarios']} scenarios: expected cost "
            f"{euro(uncertainty['expected_cost_eur'])}, worst {euro(uncertainty['worst_cost_eur'])}."
        )
    if modes := [mode for mode in inputs.get("modes") or [] if mode != "plan"]:
        lines.append(f"Modes in its time: {', '.join(str(mode).replace('_', ' ') for mode in modes)}.")
    if inputs.get("outages"):
        lines.append(f"Out of operation: {', '.join(inputs['outages'])}.")
    capacity = inputs.get("capacity")
    if capacity:
        lines.append(
            f"Storage can give {number(capacity['discharge_kw'])} kW and take {number(capacity['charge_kw'])} kW at "
            f"any time of the plan, and holds {number(capacity['energy_kwh'])} kWh; "
            f"bounded by {capacity['limited_by']}."
        )
    return lines


def value_days(kpis: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """What storage earned by day: ``day``, ``earned_eur``, ``possible_eur``, ``captured``; judged days only."""
    wanted = {"value_earned": "earned_eur", "value_possible": "possible_eur", "value_captured": "captured"}
    schema: dict[str, type[pl.DataType]] = {"day": pl.String, **dict.fromkeys(wanted.values(), pl.Float64)}
    own = kpis.filter(pl.col("kpi").is_in(list(wanted)))
    days: dict[str, dict[str, Any]] = {}
    for row in own.sort("period_start").iter_rows(named=True):
        day = f"{row['period_start'].astimezone(zone):%Y-%m-%d}"
        days.setdefault(day, {"day": day})[wanted[row["kpi"]]] = row["value"]
    return pl.DataFrame(list(days.values()), schema=schema).filter(pl.col("earned_eur").is_not_null())


def value_sentence(days: pl.DataFrame) -> str:
    """The series in one line."""
    earned, possible = float(days["earned_eur"].sum()), float(days["possible_eur"].sum())
    share = f", {percent(earned / possible)} of the {euro(possible)} that were possible" if possible > 0.05 else ""
    return f"Storage earned {euro(earned)} in {days.height} days{share}."
