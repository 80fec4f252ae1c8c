"""Flows of small periods whose figures can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from flexergy_pipelines.kpis.flows import Flows

START = datetime(2026, 5, 1, tzinfo=UTC)


def flows(
    load: Sequence[float],
    pv: Sequence[float],
    ess: Sequence[float],
    *,
    genset: Sequence[float] | None = None,
    possible: Sequence[float] | None = None,
    price: Sequence[float] | float = 0.2,
    export_price: Sequence[float] | float = 0.05,
    export_limit_kw: float = 100.0,
    step_hours: float = 1.0,
    soc: Sequence[float] | None = None,
) -> Flows:
    """A period of one load, one PV plant, one ESS and the grid; the PCC closes the balance. NaN: not measured."""
    count = len(load)
    power = {name: np.array(values, dtype=float) for name, values in (("load-1", load), ("pv-1", pv), ("ess-1", ess))}
    kinds = {"load-1": "load", "pv-1": "pv", "ess-1": "ess"}
    burnt = np.zeros(count)
    if genset is not None:
        power["genset-1"], kinds["genset-1"] = np.array(genset, dtype=float), "genset"
        burnt = power["genset-1"]
    power["pcc"], kinds["pcc"] = power["load-1"] - power["pv-1"] - power["ess-1"] - burnt, "pcc"
    return Flows(
        start=START,
        step_hours=step_hours,
        kinds=kinds,
        power_kw=power,
        good={asset: ~np.isnan(values) for asset, values in power.items()},
        import_price=np.broadcast_to(np.asarray(price, dtype=float), count).copy(),
        export_price=np.broadcast_to(np.asarray(export_price, dtype=float), count).copy(),
        export_limit_kw=export_limit_kw,
        available_kw={} if possible is None else {"pv-1": np.array(possible, dtype=float)},
        soc={"ess-1": np.full(count, np.nan) if soc is None else np.array(soc)},
        available={"ess-1": np.full(count, np.nan)},
    )
