"""Balance by phase: energy supplied, consumed and lost on L1, L2 and L3.

What a meter measures by phase counts as measured. Where none does, an asset's power is taken to lie where it is
connected: all of it on its own phase, or a third of it on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from flexergy_pipelines.kpis.energy import BALANCE
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import DEMANDS, Array, Flows, positive

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

PHASES: Final = ("L1", "L2", "L3")


def balance_by_phase(
    flows: Flows, connected: Mapping[str, str], measured_kw: Mapping[tuple[str, str], Array]
) -> list[Figure]:
    """Energy supplied, consumed and lost of each phase [kWh], scope ``L1`` to ``L3``.

    Parameters
    ----------
    flows : Flows
        Powers of the period.
    connected : mapping
        Phase connection of each asset: ``L1``, ``L2``, ``L3`` or ``three_phase`` (also for an asset left out).
    measured_kw : mapping
        (asset, phase) → measured mean power of each interval [kW], NaN where it was not.

    Notes
    -----
    As in the balance of the whole site only intervals count in which all flows are known.
    """
    figures: list[Figure] = []
    coverage = flows.coverage(*BALANCE)
    by_meter = sorted({asset for asset, _ in measured_kw})
    told = f"measured by phase: {', '.join(by_meter) or 'nothing'}; the rest by its connection"
    for phase in PHASES:
        power = {asset: _on_phase(flows, asset, phase, connected, measured_kw) for asset in flows.kinds}
        zero = np.zeros(flows.intervals)

        def total(*kinds: str, power: Mapping[str, Array] = power, zero: Array = zero) -> Array:
            return sum((power[asset] for asset in flows.ids(*kinds)), zero)

        pcc, storage = total("pcc"), total("ess")
        supplied = positive(pcc) + positive(storage) + total("pv", "wind", "genset")
        consumed = total(*DEMANDS) + positive(-pcc) + positive(-storage)
        known = ~np.isnan(supplied + consumed)
        gave, took = (flows.energy(np.where(known, part, np.nan)) for part in (supplied, consumed))
        figures += [
            Figure("energy_supplied", gave, "kWh", coverage, scope=phase, reference=told),
            Figure("energy_consumed", took, "kWh", coverage, scope=phase, reference=told),
            Figure("technical_losses", gave - took, "kWh", coverage, scope=phase, reference=told),
        ]
    return figures


def _on_phase(
    flows: Flows, asset: str, phase: str, connected: Mapping[str, str], measured_kw: Mapping[tuple[str, str], Array]
) -> Array:
    connection = connected.get(asset, "three_phase")
    share = 1 / len(PHASES) if connection == "three_phase" else float(connection == phase)
    presumed = share * flows.power_kw[asset]
    measured = measured_kw.get((asset, phase))
    return presumed if measured is None else np.where(np.isnan(measured), presumed, measured)


def phase_powers(db: TenantStore, site: Site, flows: Flows) -> dict[tuple[str, str], Array]:
    """Measured power by asset and phase of the intervals of `flows` [kW]; only of assets whose meters tell it."""
    from flexergy_pipelines.store.readings import latest_reading_time, read_readings

    step = timedelta(hours=flows.step_hours)
    names = {f"active_power_{phase.lower()}_kw": phase for phase in PHASES}
    points = [(point.asset_id, point.quantity) for point in site.points() if point.quantity in names]
    told = {asset for asset, quantity in points if latest_reading_time(db, site.id, asset, quantity) is not None}
    wanted = [point for point in points if point[0] in told]
    if not wanted:
        return {}
    minutes = int(step.total_seconds() // 60)
    rows = read_readings(db, site.id, flows.start, flows.start + flows.intervals * step, wanted, step=f"{minutes}m")
    return {
        (str(asset), names[str(quantity)]): part["value"].fill_null(np.nan).to_numpy()
        for (asset, quantity), part in rows.sort("time").partition_by("asset_id", "quantity", as_dict=True).items()
        if part.select(pl.col("value").is_not_null().any()).item()
    }


def connections_of(site: Site) -> dict[str, str]:
    """Phase connection of each asset."""
    return {asset.id: asset.phase_connection for asset in site.assets()}
