"""A time axis in the site's own zone, right on days of 23 and 25 hours.

Vega can label an axis in UTC or in the browser's zone, neither of which is the site's. So the axis runs in UTC with
ticks on the site's round hours, and its labels add the site's offset, which may change once inside the period.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl


def legend_columns(phone: int, desktop: int) -> alt.ExprRef:
    """Columns of a legend above a chart, so that a phone's width cuts none of its words."""
    return alt.ExprRef(expr=f"width < 420 ? {phone} : {desktop}")


def epoch_ms(moment: datetime) -> float:
    """Milliseconds since 1970 UTC, as Vega counts time."""
    return moment.timestamp() * 1000


def vega_moment(moment: datetime) -> alt.DateTime:
    """A moment as Vega wants it in domains and tick lists; plain numbers are taken for years there."""
    at = moment.astimezone(UTC)
    return alt.DateTime(
        year=at.year, month=at.month, date=at.day, hours=at.hour, minutes=at.minute, seconds=at.second, utc=True
    )


def with_epoch(frame: pl.DataFrame, column: str = "time") -> pl.DataFrame:
    """The frame with `column` (datetime, UTC) as milliseconds since 1970."""
    return frame.with_columns(pl.col(column).dt.epoch("ms").cast(pl.Float64))


def with_local_label(frame: pl.DataFrame, zone: ZoneInfo, column: str = "time") -> pl.DataFrame:
    """The frame with a text column ``local_time`` for tooltips."""
    return frame.with_columns(
        pl.col(column).dt.convert_time_zone(zone.key).dt.strftime("%a %d %b %H:%M %Z").alias("local_time")
    )


HALF_HOUR = timedelta(minutes=30)  # every change of offset in the time zone database falls on one


def offset_steps(start: datetime, end: datetime, zone: ZoneInfo) -> list[tuple[datetime, timedelta]]:
    """From which moment on which offset from UTC holds within ``[start, end]``."""

    def offset_at(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta()

    steps = [(start, offset_at(start))]
    moment = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while moment < end:
        ahead = moment + timedelta(days=1)
        if offset_at(ahead) != offset_at(moment):
            change = moment
            while offset_at(change) == steps[-1][1]:
                change += HALF_HOUR
            if start < change <= end:
                steps.append((change, offset_at(change)))
        moment = ahead
    return steps


def label_expression(start: datetime, end: datetime, zone: ZoneInfo, pattern: str) -> str:
    """Vega expression that writes a tick's time in the site's zone."""
    steps = offset_steps(start, end, zone)
    shift = f"{steps[-1][1].total_seconds() * 1000:.0f}"
    for (_, offset), (change, _) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        shift = f"(datum.value < {epoch_ms(change):.0f} ? {offset.total_seconds() * 1000:.0f} : {shift})"
    return f"utcFormat(datum.value + {shift}, '{pattern}')"


def local_ticks(start: datetime, end: datetime, zone: ZoneInfo, wanted: int = 8) -> list[datetime]:
    """Round local hours (or days) within ``[start, end]``, about `wanted` of them."""
    hours = max((end - start).total_seconds() / 3600, 0.01)
    step = next((h for h in (1, 2, 3, 4, 6, 12, 24, 48, 168, 336, 720) if hours / h <= wanted), 2160)
    ticks: list[datetime] = []
    day = start.astimezone(zone).date()
    if step <= 24:
        while True:
            for hour in range(0, 24, step):
                tick = datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)
                if tick > end:
                    return ticks
                if tick >= start:
                    ticks.append(tick)
            day += timedelta(days=1)
    while True:
        tick = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        if tick > end:
            return ticks
        if tick >= start:
            ticks.append(tick)
        day += timedelta(days=step // 24)


def time_x(
    start: datetime, end: datetime, zone: ZoneInfo, field: str = "time", *, wanted: int = 8, title: str | None = None
) -> alt.X:
    """The x encoding of a time chart in the site's zone.

    Parameters
    ----------
    start, end : datetime
        The period shown, aware.
    zone : ZoneInfo
        The site's zone; its name becomes the axis title.
    field : str
        Column of milliseconds since 1970.
    wanted : int
        About how many ticks.
    title : str, optional
        Another axis title.
    """
    span_h = (end - start).total_seconds() / 3600
    pattern = "%H:%M" if span_h <= 30 else "%a %H:%M" if span_h <= 72 else "%d %b"
    return alt.X(
        f"{field}:T",
        scale=alt.Scale(type="utc", domain=[vega_moment(start), vega_moment(end)], nice=False),
        axis=alt.Axis(
            values=[vega_moment(tick) for tick in local_ticks(start, end, zone, wanted)],
            labelExpr=label_expression(start, end, zone, pattern),
            title=title or f"time in {zone.key}",
            labelOverlap=True,
            labelFlush=False,
            grid=False,
        ),
    )
