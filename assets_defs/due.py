"""When a site's periodic work is due, by the settings of the site; plain functions of time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.registry import ModelRegistry
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

TICK = timedelta(minutes=15)
_DAY_MINUTES = 24 * 60


def every(period_minutes: int, tick: datetime) -> bool:
    """Whether work of a period is due in the quarter of an hour that begins at `tick`.

    Parameters
    ----------
    period_minutes : int
        Period [min]; less than a quarter of an hour counts as one.
    tick : datetime
        Start of the quarter, aware.

    Notes
    -----
    Due instants are whole multiples of the period since the epoch, so that restarts neither shift nor repeat them.
    """
    period = max(period_minutes, TICK // timedelta(minutes=1))
    minute = int(tick.timestamp()) // 60
    return minute % period < TICK // timedelta(minutes=1)


def at_local_time(clock: str, site: Site, tick: datetime) -> date | None:
    """The site's local date when the wall-clock time `clock` falls into the quarter that begins at `tick`.

    Parameters
    ----------
    clock : str
        ``HH:MM``.
    site : Site
        Whose time zone.
    tick : datetime
        Start of the quarter, aware.

    Notes
    -----
    A time that the clock skips in spring is due right after the gap; one that comes twice in autumn is due the first
    time only.
    """
    hour, minute = (int(part) for part in clock.split(":"))
    local = tick.astimezone(site.zone)
    wanted = datetime(local.year, local.month, local.day, hour, minute, tzinfo=site.zone)
    moment = wanted.astimezone(UTC)
    start = tick.astimezone(UTC)
    return local.date() if start <= moment < start + TICK else None


def training(site: Site, tick: datetime) -> bool:
    """Whether some of the site's models are to be trained: at 03:00 local, every so many days of its settings."""
    day = at_local_time("03:00", site, tick)
    periods = {site.forecasts.training_period_days}
    periods |= {target.training_period_days for target in site.forecasts.targets if target.training_period_days}
    return day is not None and any(day.toordinal() % period == 0 for period in periods)


def forecasting(site: Site, tick: datetime) -> bool:
    """Whether forecasts are due: at the shortest period of the site's targets, and right before a day-ahead plan."""
    periods = [site.forecasts.period_minutes, *(t.period_minutes for t in site.forecasts.targets if t.period_minutes)]
    planned = at_local_time(site.operation.day_ahead_time, site, tick + TICK)
    return every(min(periods), tick) or planned is not None


def targets_to_serve(db: TenantStore, site_id: str, now: datetime) -> list[str]:
    """Names of the site's targets but for those of a longer period of their own that have a forecast young enough."""
    from flexergy_pipelines.forecasting import targets_of
    from flexergy_pipelines.store.forecasts import list_forecast_runs
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    wanted: list[str] = []
    for target in targets_of(site):
        period = site.forecasts.of(target.asset_id).period_minutes or site.forecasts.period_minutes
        if period > min(site.forecasts.period_minutes, 60):
            runs = list_forecast_runs(db, site_id, asset_id=target.asset_id, quantity=target.quantity, limit=1)
            newest = runs["issued_at"].max()
            # a run that starts a little early must not count as a period skipped
            if isinstance(newest, datetime) and now - newest < timedelta(minutes=period) - TICK:
                continue
        wanted.append(target.name)
    return wanted


def targets_to_train(db: TenantStore, site_id: str, now: datetime, registry: ModelRegistry) -> list[str]:
    """Names of the site's targets that have no readable champion, or one older than the training period."""
    from flexergy_pipelines.forecasting import targets_of
    from flexergy_pipelines.forecasting.registry import ModelMissingError
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    wanted: list[str] = []
    for target in targets_of(site):
        period = site.forecasts.of(target.asset_id).training_period_days or site.forecasts.training_period_days
        # half a day: a model of last week's training hour is due, though it is some minutes short of a week
        oldest = now - timedelta(days=period) + timedelta(hours=12)
        try:
            fresh = registry.load(target.name).trained.trained_at >= oldest
        except ModelMissingError:
            fresh = False
        if not fresh:
            wanted.append(target.name)
    return wanted
