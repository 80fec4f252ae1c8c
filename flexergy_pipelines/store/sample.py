"""Import of a sample site: its configuration, 364 days of history, past prices, and past weather forecasts as issued.

The history is the re-dated sample year as it would have been measured, with its real holes. Storage and grid
exchange have no measured history; they follow from two simple, documented rules:

- microgrid and prosumer: *self-consumption* - the battery takes what sources give beyond the loads, and gives back what
  loads draw beyond the sources, within its power and SoC limits;
- power plant: *daily prices* - the battery charges from the park in the three cheapest hours of each local day and
  discharges in the three dearest, and takes what would exceed the export limit; what still exceeds it is curtailed.

A day-ahead price becomes known at 12:45 local time of the day before; weather is issued every six hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flexergy_pipelines.grid import ESS, PVPlant, Site, WindTurbine
from flexergy_pipelines.grid.replay import ReplayedSite, load_replay

if TYPE_CHECKING:
    from flexergy_pipelines.settings import Settings
    from flexergy_pipelines.store import TenantStore

SOURCE = "sample"
WEATHER_PROVIDER = "sample"
HISTORY_DAYS = 364
STEP = timedelta(minutes=15)
WEATHER_PERIOD = timedelta(hours=6)
WEATHER_HOURS = 48
PUBLICATION_HOUR, PUBLICATION_MINUTE = 12, 45
PRICE_HOURS_A_DAY = 3  # cheapest and dearest hours of a day in the power plant's rule

Progress = Callable[[str, float], None]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    Attributes
    ----------
    skipped : bool
        True when the site already had history, which is never overwritten.
    """

    site_id: str
    skipped: bool
    readings: int = 0
    prices: int = 0
    weather: int = 0
    clean: int = 0


def import_sample(
    db: TenantStore, settings: Settings, site: Site, now: datetime, *, progress: Progress | None = None
) -> ImportResult:
    """Bring a sample site into the store, as if it had been measured for 364 days.

    One transaction: after a failure nothing is there. A site that already has readings is left as it is (its
    configuration is updated), so the import may be repeated at any time.

    Parameters
    ----------
    now : datetime
        End of the history (rounded down to 15 min), aware.
    progress : callable or None
        Called with a step's name and the share that is done (0..1).

    Raises
    ------
    ValueError
        The site is no sample, or `now` has no time zone.
    """
    from flexergy_pipelines.metering import energy_of_site
    from flexergy_pipelines.quality import clean_period
    from flexergy_pipelines.store.prices import write_prices
    from flexergy_pipelines.store.readings import latest_reading_time, prepare_history, write_readings
    from flexergy_pipelines.store.sites import save_site
    from flexergy_pipelines.store.weather import write_weather_issues

    if now.tzinfo is None:
        raise ValueError(f"now {now!r} has no time zone; give an aware datetime")
    tell = progress or (lambda _step, _share: None)
    replayed = load_replay(settings, site)
    end = _floor(now)
    start = _local_midnight(end - timedelta(days=HISTORY_DAYS), site.zone)
    prepare_history(db, start, end, SOURCE)
    with db.begin():
        save_site(db, site, actor="sample import")
        if latest_reading_time(db, site.id) is not None:
            tell("history is already there", 1.0)
            return ImportResult(site.id, skipped=True)
        tell("history", 0.0)
        history = sample_history(replayed, start, end)
        tell("readings", 0.1)
        readings = write_readings(db, site.id, history, SOURCE, allow_future=True)
        tell("prices", 0.5)
        prices, known_at = sample_prices(replayed, start, end)
        priced = write_prices(db, site.id, "day_ahead", prices, known_at)
        tell("weather", 0.55)
        weather = write_weather_issues(db, site.id, WEATHER_PROVIDER, sample_weather(replayed, start, end))
        tell("cleansing", 0.75)
        clean = clean_period(db, site.id, start, end)
        tell("energy", 0.95)
        energy_of_site(db, site.id, start, end)
        tell("storing", 0.99)
    tell("done", 1.0)
    return ImportResult(site.id, False, readings.written, priced, weather, clean.written)


def sample_history(replayed: ReplayedSite, start: datetime, end: datetime) -> pl.DataFrame:
    """Raw readings of every measured point from `start` until before `end`, every 15 minutes.

    Returns
    -------
    DataFrame
        asset_id, quantity, time, value (null where the source has no value), quality.
    """
    site = replayed.site
    raw = {asset: replayed.series(asset, start, end, raw=True) for asset in replayed.asset_ids}
    available = {asset: replayed.series(asset, start, end)["value"].to_numpy() for asset in replayed.asset_ids}
    times = next(iter(raw.values()))["time"]
    sources = [asset.id for asset in site.sources()]
    demand = np.sum([available[a] for a in replayed.asset_ids if a not in sources], axis=0)
    generation = np.sum([available[a] for a in sources], axis=0) if sources else np.zeros(len(times))
    wanted = _storage_request(replayed, times, generation - demand)
    storage, soc = _run_storage(site, wanted)
    surplus = generation - demand + np.sum(list(storage.values()), axis=0) if storage else generation - demand
    kept = _share_kept(surplus, generation, site.grid_connection.export_limit_kw)
    columns: dict[tuple[str, str], Values] = {}
    for asset in site.assets():
        if asset.id in raw:
            measured = raw[asset.id]["value"].fill_null(np.nan).to_numpy()
            if isinstance(asset, PVPlant | WindTurbine):
                columns[asset.id, "available_power_kw"] = np.where(np.isnan(measured), np.nan, available[asset.id])
                measured = np.where(measured > 0, measured * kept, measured)
            columns[asset.id, "active_power_kw"] = measured
        elif isinstance(asset, ESS):
            columns[asset.id, "active_power_kw"] = storage[asset.id]
            columns[asset.id, "soc"] = soc[asset.id]
    for genset in site.gensets():
        columns[genset.id, "active_power_kw"] = np.zeros(len(times))
        columns[genset.id, "running"] = np.zeros(len(times))
    exchange = -(surplus - generation * (1 - kept))
    hours = STEP / timedelta(hours=1)
    columns["pcc", "active_power_kw"] = exchange
    columns["pcc", "import_energy_kwh"] = np.concatenate(([0.0], np.cumsum(np.maximum(exchange, 0))[:-1])) * hours
    columns["pcc", "export_energy_kwh"] = np.concatenate(([0.0], np.cumsum(np.maximum(-exchange, 0))[:-1])) * hours
    frames = [
        pl.DataFrame({"time": times, "value": pl.Series(values).fill_nan(None)}).select(
            pl.lit(asset_id).alias("asset_id"), pl.lit(quantity).alias("quantity"), "time", "value"
        )
        for (asset_id, quantity), values in columns.items()
    ]
    quality = pl.when(pl.col("value").is_null()).then(3).otherwise(0).cast(pl.Int16).alias("quality")
    return pl.concat(frames).with_columns(quality)


def _storage_request(replayed: ReplayedSite, times: pl.Series, surplus: Values) -> Values:
    """Power that the rule of the site's kind wants from its storage, positive discharging [kW]."""
    site = replayed.site
    if site.kind != "power_plant":
        return -surplus
    hours = times.dt.truncate("1h")
    first, last = hours[0], hours[-1]
    prices = replayed.price(first, last + timedelta(hours=1)).with_columns(
        pl.col("time").dt.convert_time_zone(site.time_zone).dt.date().alias("day")
    )
    rank = pl.col("price_eur_per_mwh").rank("ordinal")
    prices = prices.with_columns(
        cheap=rank.over("day") <= PRICE_HOURS_A_DAY,
        dear=pl.col("price_eur_per_mwh").rank("ordinal", descending=True).over("day") <= PRICE_HOURS_A_DAY,
    )
    joined = pl.DataFrame({"time": hours}).join(prices, on="time", how="left", maintain_order="left")
    excess = np.maximum(surplus - site.grid_connection.export_limit_kw, 0)
    charge = np.where(joined["cheap"].to_numpy(), np.maximum(surplus, 0), excess)
    room = np.maximum(site.grid_connection.export_limit_kw - surplus, 0)
    return np.where(joined["dear"].to_numpy() & (excess == 0), room, -charge)


def _run_storage(site: Site, wanted: Values) -> tuple[dict[str, Values], dict[str, Values]]:
    """Power [kW, positive discharging] and SoC at the start of each interval of every storage following `wanted`."""
    hours = STEP / timedelta(hours=1)
    power: dict[str, Values] = {}
    soc: dict[str, Values] = {}
    rest = wanted.copy()
    for ess in site.ess():
        given, level = np.zeros(rest.size), np.zeros(rest.size)
        capacity = ess.energy_capacity_kwh * ess.soh
        keep = (1 - ess.self_discharge_per_day) ** (hours / 24)
        energy = 0.5 * (ess.soc_min + ess.soc_max) * capacity
        floor, ceiling = ess.soc_min * capacity, ess.soc_max * capacity
        for i, want in enumerate(rest.tolist()):
            level[i] = energy / capacity
            if want > 0:
                reach = max(energy - floor, 0.0) * ess.discharge_efficiency / hours
                given[i] = min(want, ess.max_discharge_kw, reach)
                energy -= given[i] * hours / ess.discharge_efficiency
            elif want < 0:
                reach = max(ceiling - energy, 0.0) / ess.charge_efficiency / hours
                given[i] = -min(-want, ess.max_charge_kw, reach)
                energy -= given[i] * hours * ess.charge_efficiency
            energy = max(energy * keep, floor)
        power[ess.id], soc[ess.id] = given, level
        rest = rest - given
    return power, soc


def _share_kept(surplus: Values, generation: Values, export_limit_kw: float) -> Values:
    """Share of the generation that is left after curtailing to the export limit."""
    excess = np.maximum(surplus - export_limit_kw, 0)
    return 1 - np.divide(excess, generation, out=np.zeros(surplus.size), where=generation > 0).clip(0, 1)


def sample_prices(replayed: ReplayedSite, start: datetime, now: datetime) -> tuple[pl.DataFrame, pl.Series]:
    """Day-ahead prices from `start` to the end of the last day published at `now`, and when each became known."""
    zone = replayed.site.zone
    today = now.astimezone(zone).date()
    days = 2 if now >= published_at(today + timedelta(days=1), zone) else 1
    end = datetime.combine(today + timedelta(days=days), datetime.min.time(), zone).astimezone(UTC)
    prices = replayed.price(start, end).select(
        "time",
        (pl.col("price_eur_per_mwh") / 1000).alias("price_eur_per_kwh"),
        pl.lit(60).alias("resolution_minutes"),
    )
    local_days = prices["time"].dt.convert_time_zone(zone.key).dt.date()
    stamps = {day: published_at(day, zone) for day in local_days.unique()}
    known_at = pl.Series("known_at", [stamps[day] for day in local_days], dtype=pl.Datetime("us", "UTC"))
    return prices, known_at


def published_at(delivery: date, zone: ZoneInfo) -> datetime:
    """When the day-ahead prices of a local day are published: 12:45 local time of the day before (UTC)."""
    day = delivery - timedelta(days=1)
    local = datetime(day.year, day.month, day.day, PUBLICATION_HOUR, PUBLICATION_MINUTE, tzinfo=zone)
    return local.astimezone(UTC)


def sample_weather(replayed: ReplayedSite, start: datetime, now: datetime) -> pl.DataFrame:
    """Weather forecasts as issued every six hours from two days before `start`, and one at the hour of `now`."""
    issue = datetime.combine(start.astimezone(UTC).date() - timedelta(days=2), datetime.min.time(), UTC)
    issues: list[datetime] = []
    while issue <= now:
        issues.append(issue)
        issue += WEATHER_PERIOD
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if hour not in issues:
        issues.append(hour)
    stamp = pl.Datetime("us", "UTC")
    return pl.concat(
        replayed.weather_forecast(issued, WEATHER_HOURS).with_columns(pl.lit(issued, dtype=stamp).alias("issued_at"))
        for issued in issues
    )


def _floor(time: datetime) -> datetime:
    time = time.astimezone(UTC)
    return time - timedelta(seconds=time.timestamp() % STEP.total_seconds())


def _local_midnight(time: datetime, zone: ZoneInfo) -> datetime:
    day = time.astimezone(zone).date()
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
