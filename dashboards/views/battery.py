"""View model of battery health: where the state of charge was, and the battery's indicators."""

from __future__ import annotations

import polars as pl

from dashboards.words import energy, number, percent
from flexergy_pipelines.grid import ESS

BANDS = 10


def time_by_soc(soc: pl.DataFrame) -> pl.DataFrame:
    """Share of the time spent in each tenth of the state of charge.

    Parameters
    ----------
    soc : pl.DataFrame
        Column ``value`` (fraction 0..1) of equal intervals; missing ones are left out.

    Returns
    -------
    pl.DataFrame
        Columns ``band`` (text as "20–30 %"), ``share`` (fraction), lowest first, all ten bands.
    """
    known = soc.drop_nulls("value")
    bands = (known["value"].clip(0.0, 1.0) * BANDS).floor().clip(0, BANDS - 1).cast(pl.Int64)
    counts = dict(bands.value_counts().iter_rows())
    total = max(known.height, 1)
    return pl.DataFrame(
        {
            "band": [f"{place * 10}–{place * 10 + 10} %" for place in range(BANDS)],
            "share": [counts.get(place, 0) / total for place in range(BANDS)],
        }
    )


def battery_figures(ess: ESS, kpis: pl.DataFrame, temperature_c: float | None) -> list[tuple[str, str, str]]:
    """Name, value and a line below for the newest indicators of one storage.

    Parameters
    ----------
    kpis : pl.DataFrame
        Daily indicators of the storage (``period_start, kpi, value, reference``).
    """
    newest: dict[str, tuple[float, str]] = {
        row["kpi"]: (row["value"], row["reference"] or "")
        for row in kpis.sort("period_start").iter_rows(named=True)
        if row["value"] is not None
    }
    cycles = kpis.filter((pl.col("kpi") == "equivalent_full_cycles") & pl.col("value").is_not_null())
    health, told = newest.get("soh", (ess.soh, "as configured"))
    figures = [
        ("State of health", percent(health), told),
        (
            "Capacity",
            energy(ess.energy_capacity_kwh),
            f"charge {number(ess.max_charge_kw)} kW, discharge {number(ess.max_discharge_kw)} kW",
        ),
    ]
    if "useful_energy" in newest:
        figures.append(("Useful energy", energy(newest["useful_energy"][0]), newest["useful_energy"][1]))
    if cycles.height:
        total = float(cycles["value"].sum())
        figures.append(("Full cycles", number(total, 2), f"in {cycles['period_start'].n_unique()} days"))
    if "years_to_failure" in newest:
        figures.append(("Years left at this use", number(newest["years_to_failure"][0]), newest["years_to_failure"][1]))
    if "round_trip_efficiency" in newest:
        figures.append(("Round trip", percent(newest["round_trip_efficiency"][0]), "out over in"))
    if temperature_c is not None:
        figures.append(("Temperature", f"{number(temperature_c)} °C", "now"))
    return figures
