"""How wide served bands should be, by how often those served since the training held the truth."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flexergy_pipelines.forecasting.calibration import adapted_width

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

Covered = list[tuple[datetime, float]]

LOOK_BACK = timedelta(days=60)
# a day is judged by forecasts of up to two days before: those of the model in force from the second day on
SETTLED = timedelta(days=1)
MOST_FALLBACK = 0.5


def covered_days(db: TenantStore, site_id: str, now: datetime) -> dict[str, Covered]:
    """Share of each past day's measurements that lay in P10 to P90 as served, by scope (see `monitoring.scope_of`).

    Days on which fallbacks served more than half of the time are left out: they say nothing of the model.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Aware; only days whose figures could stand by then count.
    """
    from flexergy_pipelines.forecasting.monitoring import PERIOD_KIND
    from flexergy_pipelines.store.kpis_table import read_kpis

    def figures(kpi: str) -> dict[tuple[str, datetime], float]:
        rows = read_kpis(db, site_id, now - LOOK_BACK, now - timedelta(days=1), period_kind=PERIOD_KIND, kpi=kpi)
        found = rows.drop_nulls("value").iter_rows(named=True)
        return {(row["scope"], row["period_start"]): row["value"] for row in found}

    fallbacks = figures("fallback_share")
    found: dict[str, Covered] = {}
    for (scope, day), share in sorted(figures("coverage_80").items()):
        if fallbacks.get((scope, day), 0.0) <= MOST_FALLBACK:
            found.setdefault(scope, []).append((day, share))
    return found


def live_width(days: Covered, trained_at: datetime) -> float:
    """Factor on the width of a model's band: adaptive conformal inference over the days since it was trained.

    Parameters
    ----------
    days : list of (datetime, float)
        Start of each day, aware and ascending, and the share covered on it.
    trained_at : datetime
        Aware; earlier days were served by other models and are in the model's own calibration.
    """
    width = 1.0
    shares = [share for day, share in days if day >= trained_at + SETTLED]
    for count, share in enumerate(shares, start=1):
        width = adapted_width(width, 0.8, share, count)
    return width
