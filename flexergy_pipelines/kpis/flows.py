"""Power flows of a period: what every figure is computed from. A value that was not measured is NaN, never zero."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

Array = np.ndarray
SOURCES: Final = ("pv", "wind")
DEMANDS: Final = ("load", "ev", "controllable_load")


@dataclass(frozen=True)
class Flows:
    """Mean power of each asset in each interval of a period.

    Attributes
    ----------
    start : datetime
        Start of the first interval.
    step_hours : float
        Length of an interval [h].
    kinds : dict of str
        Kind of each asset ("ess", "pv", "wind", "genset", "controllable_load", "load", "ev", "pcc").
    power_kw : dict of array
        Mean power by asset [kW]; sources, ESS and PCC positive into the busbar, demands positive when consuming.
    good : dict of bool array
        Where the power was really measured, neither missing nor filled in.
    available_kw : dict of array
        What PV and wind could have given [kW].
    soc : dict of array
        State of charge of each ESS at the start of each interval (0..1).
    available, soh : dict of array
        Share of each interval in which an ESS could follow setpoints, and its own state of health.
    import_price, export_price : array
        EUR/kWh of energy bought and sold in each interval.
    export_limit_kw, import_limit_kw : float
        What the grid connection can take and give [kW].
    """

    start: datetime
    step_hours: float
    kinds: dict[str, str]
    power_kw: dict[str, Array]
    good: dict[str, Array]
    import_price: Array
    export_price: Array
    export_limit_kw: float
    import_limit_kw: float = float("inf")
    available_kw: dict[str, Array] = field(default_factory=dict)
    soc: dict[str, Array] = field(default_factory=dict)
    available: dict[str, Array] = field(default_factory=dict)
    soh: dict[str, Array] = field(default_factory=dict)

    @property
    def intervals(self) -> int:
        return len(self.import_price)

    def part(self, first: int, last: int) -> Flows:
        """The intervals from `first` up to, not including, `last`."""

        def cut(series: dict[str, Array]) -> dict[str, Array]:
            return {name: values[first:last] for name, values in series.items()}

        return replace(
            self,
            start=self.start + timedelta(hours=self.step_hours) * first,
            power_kw=cut(self.power_kw),
            good=cut(self.good),
            import_price=self.import_price[first:last],
            export_price=self.export_price[first:last],
            available_kw=cut(self.available_kw),
            soc=cut(self.soc),
            available=cut(self.available),
            soh=cut(self.soh),
        )

    def ids(self, *kinds: str) -> list[str]:
        """Assets of the given kinds, in order."""
        return [asset for asset, kind in self.kinds.items() if kind in kinds]

    def total(self, *kinds: str) -> Array:
        """Summed power of all assets of some kinds [kW]; NaN where one of them is not known."""
        return sum((self.power_kw[asset] for asset in self.ids(*kinds)), np.zeros(self.intervals))

    def possible(self) -> Array:
        """What PV and wind could have given together [kW]; what they gave where that is not known."""
        total = np.zeros(self.intervals)
        for asset in self.ids(*SOURCES):
            power = self.power_kw[asset]
            could = self.available_kw.get(asset)
            total += power if could is None else np.fmax(could, power)
        return total

    def coverage(self, *kinds: str) -> float:
        """Share of intervals in which all assets of some kinds were really measured (all assets for no kind)."""
        wanted = self.ids(*kinds) if kinds else list(self.kinds)
        if not self.intervals or not wanted:
            return 0.0 if not self.intervals else 1.0
        return float(np.mean(np.logical_and.reduce([self.good[asset] for asset in wanted])))

    def demand(self) -> Array:
        """Power of all loads and EV chargers [kW]."""
        return self.total(*DEMANDS)

    def renewable(self) -> Array:
        """Power of PV and wind [kW]."""
        return self.total(*SOURCES)

    def pcc(self) -> Array:
        """Power at the grid connection [kW], positive when importing."""
        return self.total("pcc")

    def pcc_without_ess(self) -> Array:
        """The same period with the storage idle: demand - PV - wind - gensets, curtailed at the export limit [kW].

        More PV or wind than demand and export limit could take is curtailed, so the value never falls below
        ``-export_limit_kw`` for their sake.
        """
        return np.maximum(self.demand() - self.renewable() - self.total("genset"), -self.export_limit_kw)

    def energy(self, power_kw: Array) -> float:
        """Integral of a power series over what is known of it [kWh]; NaN when nothing is."""
        if not np.any(~np.isnan(power_kw)):
            return float("nan")
        return float(np.nansum(power_kw) * self.step_hours)


def positive(values: Array) -> Array:
    """The positive part; NaN stays NaN."""
    return np.where(np.isnan(values), np.nan, np.maximum(values, 0.0))


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where the whole is nothing."""
    return part / whole if abs(whole) > 1e-9 else None
