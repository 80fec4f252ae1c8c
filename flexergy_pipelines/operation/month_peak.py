"""The import peak of the running billing period: up to it, power is paid for already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore


def billing_start(site: Site, at: datetime) -> datetime:
    """Start (UTC) of the billing period that `at` lies in: local midnight of the tariff's billing day."""
    local = at.astimezone(site.zone)
    first = local.replace(day=site.tariff.billing_day, hour=0, minute=0, second=0, microsecond=0)
    if first > local:
        first = (first.replace(day=1) - timedelta(days=1)).replace(day=site.tariff.billing_day)
    return first.replace(fold=0).astimezone(UTC)


def peak_so_far(db: TenantStore, site: Site, now: datetime) -> float:
    """Highest 15-minute mean import of the billing period so far (kW).

    It is 0 when nothing was measured, and where the site pays no demand charge, so that no peak is paid for already.
    """
    from flexergy_pipelines.store.clean import read_clean

    if site.tariff.demand_charge_eur_per_kw_month <= 0:
        return 0.0
    first = billing_start(site, now)
    imports = read_clean(db, site.id, first, now, [(site.grid_connection.id, "active_power_kw")])
    largest = imports["value"].max() if imports.height else None
    return max(float(largest), 0.0) if isinstance(largest, int | float) else 0.0
