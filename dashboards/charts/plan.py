"""Charts of a plan: who produces and who takes, state of charge, prices, costs."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboards.charts import Layered
from dashboards.charts.time_axis import legend_columns, time_x, with_epoch, with_local_label
from dashboards.theme import KIND_COLOURS, SEVERITY_COLOURS

KIND_NAMES: dict[str, str] = {
    "pv": "PV",
    "wind": "wind",
    "genset": "genset",
    "ess": "storage",
    "pcc": "grid",
    "load": "load",
    "controllable_load": "controllable load",
    "ev": "EV charging",
}
CONSUMING = {"load", "controllable_load", "ev"}


def balance_frame(powers: pl.DataFrame, kinds: dict[str, str], step_minutes: float) -> pl.DataFrame:
    """Signed contributions to the busbar: into it positive, out of it negative.

    Parameters
    ----------
    powers : pl.DataFrame
        Columns ``asset_id``, ``time``, ``value`` (kW, in the sign of the asset's kind).
    kinds : dict
        Kind of each asset id; assets without a kind are left out.
    step_minutes : float
        Length of one interval.

    Returns
    -------
    pl.DataFrame
        Columns ``asset_id``, ``part`` (kind by name), ``time``, ``time_end``, ``power_kw``, and the stack's edges
        ``inner_kw`` and ``outer_kw``, counted from zero upwards or downwards; without missing values.
    """
    known = powers.filter(pl.col("asset_id").is_in(list(kinds)) & pl.col("value").is_not_null())
    kind = pl.col("asset_id").replace_strict(kinds, default=None, return_dtype=pl.String)
    order = {name: place for place, name in enumerate(KIND_NAMES)}
    signed = known.with_columns(kind.alias("kind")).with_columns(
        pl.when(pl.col("kind").is_in(sorted(CONSUMING))).then(-pl.col("value")).otherwise("value").alias("power_kw"),
        pl.col("kind").replace_strict(order, default=99, return_dtype=pl.Int32).alias("place"),
        (pl.col("value") < 0).xor(pl.col("kind").is_in(sorted(CONSUMING))).alias("below"),
    )
    stacked = signed.sort("time", "place", "asset_id").with_columns(
        pl.col("power_kw").cum_sum().over("time", "below").alias("outer_kw")
    )
    return stacked.select(
        "asset_id",
        pl.col("kind").replace(KIND_NAMES).alias("part"),
        "time",
        (pl.col("time") + timedelta(minutes=step_minutes)).alias("time_end"),
        "power_kw",
        (pl.col("outer_kw") - pl.col("power_kw")).alias("inner_kw"),
        "outer_kw",
    )


def _part_colour(parts: list[str]) -> alt.Color:
    by_name = {KIND_NAMES[kind]: colour for kind, colour in KIND_COLOURS.items()}
    shown = [name for name in by_name if name in parts]
    return alt.Color(
        "part:N",
        scale=alt.Scale(domain=shown, range=[by_name[name] for name in shown]),
        legend=alt.Legend(title=None, orient="top", columns=legend_columns(2, 4), symbolLimit=0),
    )


def schedule_chart(
    balance: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, *, now: datetime | None = None
) -> Layered:
    """Stacked power balance: above zero what feeds the busbar, below zero what takes from it."""
    frame = with_epoch(with_epoch(with_local_label(balance, zone)), "time_end")
    bars = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=time_x(start, end, zone),
            x2="time_end:T",
            y=alt.Y("inner_kw:Q", title="kW (+ into the site, − out of it)"),
            y2="outer_kw:Q",
            color=_part_colour(balance["part"].unique().to_list()),
            tooltip=[
                alt.Tooltip("local_time:N", title="from"),
                alt.Tooltip("asset_id:N", title="asset"),
                alt.Tooltip("power_kw:Q", title="power (kW)", format=".1f"),
            ],
        )
    )
    zero = alt.Chart(pl.DataFrame({"inner_kw": [0.0]})).mark_rule(color="#7A8899").encode(y="inner_kw:Q")
    return alt.layer(bars, zero, *now_rule(now, start, end)).properties(height=340)


def now_rule(now: datetime | None, start: datetime, end: datetime) -> list[alt.Chart]:
    """A dashed line at the present moment, when it lies inside the period."""
    if now is None or not start <= now <= end:
        return []
    frame = with_epoch(pl.DataFrame({"time": [now], "label": ["now"]}))
    return [
        alt.Chart(frame)
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=SEVERITY_COLOURS[1])
        .encode(x="time:T", tooltip=alt.Tooltip("label:N", title=" "))
    ]


def soc_chart(
    soc: pl.DataFrame,
    limits: tuple[float, float] | None,
    start: datetime,
    end: datetime,
    zone: ZoneInfo,
    *,
    now: datetime | None = None,
) -> Layered:
    """State of charge over time, one line per series.

    Parameters
    ----------
    soc : pl.DataFrame
        Columns ``series``, ``time``, ``value`` (fraction 0..1).
    limits : (soc_min, soc_max), optional
        Drawn as dashed lines.
    """
    frame = with_epoch(with_local_label(soc, zone))
    names = soc["series"].unique().sort().to_list()
    against_plan = set(names) <= {"plan", "measured"}
    scale = alt.Scale(domain=names, range=[KIND_COLOURS[k] for k in ("ess", "wind", "pv", "ev")])
    dashes = alt.Scale(domain=names, range=[[1, 0]])
    if against_plan:
        scale = alt.Scale(domain=["plan", "measured"], range=[KIND_COLOURS["pcc"], KIND_COLOURS["ess"]])
        dashes = alt.Scale(domain=["plan", "measured"], range=[[5, 3], [1, 0]])
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=time_x(start, end, zone),
            y=alt.Y("value:Q", title="state of charge", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
            color=alt.Color(
                "series:N",
                scale=scale,
                legend=alt.Legend(title=None, orient="top") if len(names) > 1 else None,
            ),
            strokeDash=alt.StrokeDash("series:N", scale=dashes, legend=None),
            tooltip=[
                alt.Tooltip("local_time:N", title="at"),
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("value:Q", title="state of charge", format=".1%"),
            ],
        )
    )
    rules: list[alt.Chart] = []
    if limits is not None:
        frame = pl.DataFrame({"value": list(limits), "label": ["lowest allowed", "highest allowed"]})
        rules = [
            alt.Chart(frame)
            .mark_rule(strokeDash=[3, 3], color="#7A8899")
            .encode(y="value:Q", tooltip=[alt.Tooltip("label:N", title=" "), alt.Tooltip("value:Q", format=".0%")])
        ]
    return alt.layer(*rules, lines, *now_rule(now, start, end)).properties(height=260)


def price_chart(
    prices: pl.DataFrame, start: datetime, end: datetime, zone: ZoneInfo, *, now: datetime | None = None
) -> Layered:
    """Prices as steps, in EUR/MWh.

    Parameters
    ----------
    prices : pl.DataFrame
        Columns ``series``, ``time``, ``price_eur_per_kwh``.
    """
    frame = with_epoch(with_local_label(prices, zone)).with_columns(
        (pl.col("price_eur_per_kwh") * 1000).alias("price_eur_per_mwh")
    )
    lines = (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=time_x(start, end, zone),
            y=alt.Y("price_eur_per_mwh:Q", title="EUR/MWh"),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(range=[KIND_COLOURS["ev"], KIND_COLOURS["pv"], KIND_COLOURS["pcc"]]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("local_time:N", title="from"),
                alt.Tooltip("series:N", title="price"),
                alt.Tooltip("price_eur_per_mwh:Q", title="EUR/MWh", format=".1f"),
            ],
        )
    )
    return alt.layer(lines, *now_rule(now, start, end)).properties(height=260)


def cost_chart(parts: pl.DataFrame) -> Layered:
    """Cost by part as horizontal bars; earnings are negative.

    Parameters
    ----------
    parts : pl.DataFrame
        Columns ``part``, ``cost_eur``.
    """
    base = alt.Chart(parts).encode(
        y=alt.Y("part:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
        x=alt.X("cost_eur:Q", title="EUR (negative = earned)"),
    )
    bars = base.mark_bar(cornerRadius=3).encode(
        color=alt.condition("datum.cost_eur < 0", alt.value(KIND_COLOURS["wind"]), alt.value(KIND_COLOURS["load"])),
        tooltip=[alt.Tooltip("part:N", title="part"), alt.Tooltip("cost_eur:Q", title="EUR", format=".2f")],
    )
    zero = alt.Chart(pl.DataFrame({"cost_eur": [0.0]})).mark_rule(color="#7A8899").encode(x="cost_eur:Q")
    return alt.layer(bars, zero).properties(height=alt.Step(26))


def two_lines_chart(
    series: pl.DataFrame,
    names: tuple[str, str],
    start: datetime,
    end: datetime,
    zone: ZoneInfo,
    *,
    unit: str,
    now: datetime,
) -> Layered:
    """Two stepped lines of the same quantity: the first grey and dashed, the second full.

    Parameters
    ----------
    series : pl.DataFrame
        Columns ``series`` (one of `names`), ``time``, ``value``.
    names : (str, str)
        What it is compared with, and what it is.
    """
    frame = with_epoch(with_local_label(series, zone))
    domain = list(names)
    lines = (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=time_x(start, end, zone),
            y=alt.Y("value:Q", title=unit),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=domain, range=[KIND_COLOURS["pcc"], KIND_COLOURS["ess"]]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            strokeDash=alt.StrokeDash("series:N", scale=alt.Scale(domain=domain, range=[[5, 3], [1, 0]]), legend=None),
            tooltip=[
                alt.Tooltip("local_time:N", title="from"),
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("value:Q", title=unit, format=".1f"),
            ],
        )
    )
    return alt.layer(lines, *now_rule(now, start, end)).properties(height=260)
