"""What the grid operator asks of a site's assets: power by frequency, and reactive power.

Tables and droops as in Regulation (EU) 2016/631 (RfG), Art. 13 to 15, and for frequency containment reserve Regulation
(EU) 2017/1485 (SO GL), Art. 154; Q(U), Q(P), cos phi and fixed Q as in RfG Art. 17 and 21 and VDE-AR-N 4110.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Fraction, Many, Model, NonNegative, Positive, Slug

Pair = Annotated[tuple[float, float], Field(strict=False)]


def _rising(name: str, points: tuple[tuple[float, float], ...]) -> None:
    if len(points) < 2:
        raise ValueError(f"{name} has {len(points)} points, it needs at least 2")
    for (low, _), (high, _) in pairwise(points):
        if high <= low:
            raise ValueError(f"{name}: {high:g} follows {low:g}; give the points in rising order")


class FrequencyRule(Model):
    """Power that one asset owes by the measured frequency, beyond its schedule: a table, or a droop.

    Attributes
    ----------
    points : tuple of (hz, kw)
        Table; straight between points, constant beyond the ends. It never rises with the frequency.
    droop : float
        Relative change of frequency for the whole reserve, such as 0.004 for 200 mHz at 50 Hz.
    reserve_kw : float
        Power held for a droop, given either way.
    dead_band_hz : float
        Deviation that a droop leaves alone.
    hysteresis_hz : float
        An answer ends only when the frequency is so far inside the part that asks for nothing.
    response_s : float
        Time for the whole reserve; 0 answers at once.
    tolerance_kw : float
        Deviation that still counts as delivered.
    """

    asset: Slug
    points: Many[Pair] = ()
    droop: Annotated[float, Field(gt=0, le=1)] | None = None
    reserve_kw: NonNegative = 0.0
    dead_band_hz: Annotated[float, Field(ge=0, le=1)] = 0.0
    hysteresis_hz: Annotated[float, Field(ge=0, le=1)] = 0.0
    response_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    tolerance_kw: Positive = 1.0

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.points) == (self.droop is not None):
            raise ValueError(f"P(f) of {self.asset}: give either points or droop")
        if self.droop is not None and self.reserve_kw <= 0:
            raise ValueError(f"P(f) of {self.asset}: droop needs reserve_kw above 0")
        if self.points:
            _rising(f"P(f) of {self.asset}: points", self.points)
            for (low, at_low), (high, at_high) in pairwise(self.points):
                if at_high > at_low:
                    raise ValueError(
                        f"P(f) of {self.asset}: power rises from {at_low:g} to {at_high:g} kW between {low:g} and "
                        f"{high:g} Hz; it must fall with the frequency"
                    )
            if not 40 <= self.points[0][0] <= self.points[-1][0] <= 70:
                raise ValueError(f"P(f) of {self.asset}: points lie outside 40 to 70 Hz")
        return self

    def table(self, nominal_hz: float) -> tuple[tuple[float, float], ...]:
        """The curve as (hz, kw), whichever way it was given."""
        if self.droop is None:
            return self.points
        full = self.dead_band_hz + self.droop * nominal_hz
        inner = ((nominal_hz - self.dead_band_hz, 0.0), (nominal_hz + self.dead_band_hz, 0.0))
        return (
            (nominal_hz - full, self.reserve_kw),
            *(inner if self.dead_band_hz > 0 else ((nominal_hz, 0.0),)),
            (nominal_hz + full, -self.reserve_kw),
        )


class ReactiveRule(Model):
    """Reactive power that one inverter owes, positive into the site's busbar (over-excited).

    Attributes
    ----------
    kvar : float
        For ``fixed``.
    cos_phi, supplies : float, bool
        For ``cos_phi``: the power factor of the measured active power, and whether reactive power is supplied or taken.
    points : tuple of (x, kvar)
        For ``q_of_u``: x is the voltage over its nominal value; for ``q_of_p``: active power over the rated one.
    hysteresis_pu : float
        For ``q_of_u``: an answer follows only when the voltage has moved by so much since the last one.
    response_s : float
        Time for the inverter's whole apparent power; 0 answers at once.
    """

    asset: Slug
    mode: Literal["fixed", "cos_phi", "q_of_u", "q_of_p"]
    kvar: float = 0.0
    cos_phi: Annotated[Fraction, Field(gt=0)] = 1.0
    supplies: bool = True
    points: Many[Pair] = ()
    hysteresis_pu: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    response_s: Annotated[float, Field(ge=0, le=600)] = 10.0

    @model_validator(mode="after")
    def _curve_where_needed(self) -> Self:
        if self.mode in {"q_of_u", "q_of_p"}:
            _rising(f"{self.mode} of {self.asset}: points", self.points)
        elif self.points:
            raise ValueError(f"reactive rule of {self.asset}: mode {self.mode} has no points")
        return self


class GridLimit(Model):
    """A standing limit of the grid operator on one asset, or on the exchange (``pcc``, where import is positive).

    Attributes
    ----------
    unless_ordered : bool
        It holds only while no order of the grid operator for the asset stands: what to fall back on without one.
    """

    asset: Slug
    minimum_kw: float | None = None
    maximum_kw: float | None = None
    reason: str = Field(default="standing limit of the grid operator", min_length=1)
    unless_ordered: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.minimum_kw is None and self.maximum_kw is None:
            raise ValueError(f"limit of {self.asset}: give minimum_kw, maximum_kw or both")
        if self.minimum_kw is not None and self.maximum_kw is not None and self.minimum_kw > self.maximum_kw:
            raise ValueError(
                f"limit of {self.asset}: minimum_kw {self.minimum_kw:g} is above maximum_kw {self.maximum_kw:g}"
            )
        return self


class GridCode(Model):
    """Standing orders of the grid operator to single assets; a P(f) curve in the store wins over one given here."""

    frequency: Many[FrequencyRule] = ()
    reactive: Many[ReactiveRule] = ()
    limits: Many[GridLimit] = ()

    def problems(self, kinds: dict[str, str], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
        """What does not fit a site.

        Parameters
        ----------
        kinds : dict
            Kind of each asset by id.
        ranges : mapping
            What each commanded asset, and the exchange, can be limited to [kW].
        """
        found: list[str] = []
        for i, limit in enumerate(self.limits):
            where = f"grid_code.limits[{i}]"
            if limit.asset not in ranges:
                found.append(f"{where}: asset {limit.asset} cannot be limited, only {', '.join(ranges)}")
                continue
            low, high = ranges[limit.asset]
            for name, value in (("minimum_kw", limit.minimum_kw), ("maximum_kw", limit.maximum_kw)):
                if value is not None and not low <= value <= high:
                    found.append(f"{where}: {name} {value:g} of {limit.asset} is outside {low:g}..{high:g} kW")
        for name, rules, fit in (("frequency", self.frequency, {"ess"}), ("reactive", self.reactive, {"ess", "pv"})):
            seen: set[str] = set()
            for i, rule in enumerate(rules):
                where = f"grid_code.{name}[{i}]"
                if rule.asset not in kinds:
                    found.append(f"{where}: asset {rule.asset} is unknown")
                elif kinds[rule.asset] not in fit:
                    found.append(f"{where}: asset {rule.asset} is a {kinds[rule.asset]}, it must be {' or '.join(fit)}")
                if rule.asset in seen:
                    found.append(f"{where}: asset {rule.asset} already has a rule")
                seen.add(rule.asset)
        return found
