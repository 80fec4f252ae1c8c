"""What the store knows of batteries and meters, handed to a simulated plant to begin where the history ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

LOOK_BACK = timedelta(days=2)
"""How much older than the newest reading of all a good one may be."""


def stored_soc(db: TenantStore) -> list[str]:
    """The newest good state of charge of each battery, as `flexergy simulate --soc` takes it.

    Returns
    -------
    list of str
        ``<site>/<battery>=<fraction>@<ISO time>``; nothing for a battery of which the store knows nothing.
    """
    import polars as pl

    from flexergy_pipelines.store.readings import latest_reading_time, read_readings
    from flexergy_pipelines.store.sites import list_sites, load_site

    words: list[str] = []
    for site_id in list_sites(db):
        for ess in load_site(db, site_id).ess():
            newest = latest_reading_time(db, site_id, ess.id, "soc")
            if newest is None:
                continue
            end = newest + timedelta(seconds=1)
            past = read_readings(db, site_id, end - LOOK_BACK, end, [(ess.id, "soc")])
            good = past.filter((pl.col("quality") == 0) & pl.col("value").is_between(0.0, 1.0)).sort("time")
            if good.height:
                words.append(f"{site_id}/{ess.id}={good['value'][-1]:.4f}@{good['time'][-1].isoformat()}")
    return words


def stored_registers(db: TenantStore) -> list[str]:
    """The newest good reading of each connection's energy registers, as `flexergy simulate --register` takes it.

    Returns
    -------
    list of str
        ``<site>/<connection>/<quantity>=<kWh>@<ISO time>``; nothing for a register that was never read.
    """
    import polars as pl

    from flexergy_pipelines.store.readings import latest_reading_time, read_readings
    from flexergy_pipelines.store.sites import list_sites, load_site

    words: list[str] = []
    for site_id in list_sites(db):
        pcc = load_site(db, site_id).grid_connection.id
        for quantity in ("import_energy_kwh", "export_energy_kwh"):
            newest = latest_reading_time(db, site_id, pcc, quantity)
            if newest is None:
                continue
            end = newest + timedelta(seconds=1)
            past = read_readings(db, site_id, end - LOOK_BACK, end, [(pcc, quantity)])
            good = past.filter((pl.col("quality") == 0) & (pl.col("value") >= 0.0)).sort("time")
            if good.height:
                words.append(f"{site_id}/{pcc}/{quantity}={good['value'][-1]:.3f}@{good['time'][-1].isoformat()}")
    return words
