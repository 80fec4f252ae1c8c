"""Quality of a stored site's meters: coverage and findings by point and day, and whether the meters agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.consistency import DayVerdict, energy_against_power, sum_against_main
from flexergy_pipelines.quality.observable import ObservablePeriod, most_observable

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

Values = NDArray[np.float64]

STEP_MINUTES = 15
_SOURCES = frozenset({"pv", "wind", "ess", "genset"})
_LOADS = frozenset({"load", "controllable_load", "ev"})


def meter_quality(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Quality of every measured point by local day.

    Returns
    -------
    DataFrame
        asset_id, quantity, day (date), values (intervals that have a row), coverage (share of them measured and
        untouched), wrong (intervals that were found wrong), estimated (filled in), empty (left empty).
    """
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    clean = read_clean(db, site_id, start, end)
    day = pl.col("time").dt.convert_time_zone(site.time_zone).dt.date().alias("day")
    flag = pl.col("flag")
    return (
        clean.group_by("asset_id", "quantity", day)
        .agg(
            pl.len().alias("values"),
            flag.is_null().mean().alias("coverage"),
            flag.is_in(list(flags.DETECTED)).sum().alias("wrong"),
            flag.is_in(list(flags.IMPUTED)).sum().alias("estimated"),
            flag.is_in(list(flags.EMPTY)).sum().alias("empty"),
        )
        .sort("asset_id", "quantity", "day")
    )


def observable_period(
    db: TenantStore, site_id: str, point: tuple[str, str], start: datetime, end: datetime
) -> ObservablePeriod | None:
    """The stretch of days on which one point (asset, quantity) was observed best; what training should look at."""
    asset_id, quantity = point
    quality = meter_quality(db, site_id, start, end).filter(
        (pl.col("asset_id") == asset_id) & (pl.col("quantity") == quantity)
    )
    if quality.is_empty():
        return None
    days = pl.DataFrame(
        {"day": pl.date_range(quality["day"].min(), quality["day"].max(), "1d", eager=True)}  # pyright: ignore
    ).join(quality.select("day", "coverage"), on="day", how="left")
    return most_observable(days["day"].to_list(), days["coverage"].fill_null(0.0).to_numpy())


def consistency(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Whether a site's meters agree with each other, by day (UTC) and check.

    Checks are `import_energy` and `export_energy` (registers of the PCC against its integrated power) and `balance`
    (sources, storage and loads against the PCC).

    Returns
    -------
    DataFrame
        check, day (start, UTC), expected, found, deviation, fits.
    """
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    wide = _wide(read_clean(db, site_id, first, end), first, end)
    pcc = wide.get(("pcc", "active_power_kw"))
    rows: list[tuple[str, DayVerdict]] = []
    if pcc is not None:
        for check, quantity, sign in (
            ("import_energy", "import_energy_kwh", 1),
            ("export_energy", "export_energy_kwh", -1),
        ):
            register = wide.get(("pcc", quantity))
            if register is not None:
                rows += [(check, v) for v in energy_against_power(register, sign * pcc, STEP_MINUTES)]
        parts = _parts(site, wide)
        if parts is not None:
            rows += [("balance", v) for v in sum_against_main(pcc, parts, STEP_MINUTES)]
    return pl.DataFrame(
        [(check, first + timedelta(days=v.day), v.expected, v.found, v.deviation, v.fits) for check, v in rows],
        schema={
            "check": pl.String,
            "day": pl.Datetime("us", "UTC"),
            "expected": pl.Float64,
            "found": pl.Float64,
            "deviation": pl.Float64,
            "fits": pl.Boolean,
        },
        orient="row",
    )


def _parts(site: Site, wide: dict[tuple[str, str], Values]) -> list[Values] | None:
    """Every asset's contribution to the exchange; None when one of them is not measured."""
    parts = []
    for asset in site.assets():
        if asset.kind == "pcc":
            continue
        power = wide.get((asset.id, "active_power_kw"))
        if power is None:
            return None
        parts.append(-power if asset.kind in _SOURCES else power)
    return parts


def _wide(clean: pl.DataFrame, start: datetime, end: datetime) -> dict[tuple[str, str], Values]:
    """Series on one regular axis from `start`, NaN where nothing is known."""
    size = int((end - start) / timedelta(minutes=STEP_MINUTES))
    series: dict[tuple[str, str], Values] = {}
    for (asset_id, quantity), frame in clean.partition_by("asset_id", "quantity", as_dict=True).items():
        slots = ((frame["time"] - start).dt.total_minutes() // STEP_MINUTES).to_numpy()
        values = np.full(size, np.nan)
        inside = (slots >= 0) & (slots < size)
        values[slots[inside]] = frame["value"].fill_null(np.nan).to_numpy()[inside]
        series[str(asset_id), str(quantity)] = values
    return series
