"""How a site is run: mode, plan, forecasts, and what history is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Many, Model, NonNegative, Positive, Slug


class ContingencyProcedure(Model):
    """What the control loop does when it loses an asset.

    Attributes
    ----------
    asset : str
        It is lost when nothing is read of it, when it says that it is not available, or when its alarms forbid all
        power; ``pcc`` is lost with its meter.
    powers_kw : dict
        By asset: power of a storage system or genset, and the most that any other may take or give.
    after_s, hold_s : float
        How long it must be lost first, and how long it must be back before the procedure ends [s].
    """

    name: Slug
    asset: Slug
    powers_kw: dict[Slug, float] = Field(min_length=1)
    after_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    hold_s: Annotated[float, Field(ge=0, le=86400)] = 60.0


class Operation(Model):
    """Mode, planning and control settings.

    Attributes
    ----------
    wear_weight : float
        Weight of battery wear in the plan's objective (1 = at its price, 0 = ignored).
    max_ramp_kw_per_s : float
        Fastest change of any setpoint when a mode or plan changes [kW/s].
    exchange_band_kw : float or None
        The storage keeps the exchange within so much of the planned one while forecasts miss, until the next plan;
        None: it follows its own setpoints of the plan.
    """

    mode: Literal["self_consumption", "tariff_management"] = "tariff_management"
    use_case: int = Field(default=3, ge=1, le=5)
    plan_step_minutes: Literal[5, 15, 30, 60] = 15
    horizon_hours: int = Field(default=24, ge=2, le=168)
    day_ahead_time: str = Field(default="00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    intraday_period_minutes: int = Field(default=60, ge=5, le=1440)
    wear_weight: NonNegative = 1.0
    control_cycle_s: float = Field(default=1.0, ge=0.1, le=60)
    max_ramp_kw_per_s: Positive = 50.0
    setpoint_ttl_s: Positive = 60.0
    exchange_band_kw: NonNegative | None = None
    contingency: Many[ContingencyProcedure] = ()

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Operation:
        if self.setpoint_ttl_s < 2 * self.control_cycle_s:
            raise ValueError(
                f"operation: setpoint_ttl_s {self.setpoint_ttl_s:g} must be at least twice control_cycle_s "
                f"{self.control_cycle_s:g}, or setpoints end before they are renewed"
            )
        return self

    def problems(self, known: frozenset[str], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
        """What does not fit a site.

        Parameters
        ----------
        known : frozenset of str
            Its assets.
        ranges : mapping
            Range of what each commanded asset can be told, and of the exchange [kW].
        """
        ranges = {asset: limits for asset, limits in ranges.items() if asset != "pcc"}
        found: list[str] = []
        names = [procedure.name for procedure in self.contingency]
        for i, procedure in enumerate(self.contingency):
            where = f"operation.contingency[{i}] {procedure.name}"
            if procedure.name in names[:i]:
                found.append(f"{where}: the name is given twice")
            if procedure.asset not in known:
                found.append(f"{where}: asset {procedure.asset} is unknown")
            for asset, power_kw in procedure.powers_kw.items():
                low, high = ranges.get(asset, (0.0, 0.0))
                if asset not in ranges:
                    found.append(f"{where}: {asset} cannot be commanded; powers_kw takes {', '.join(ranges)}")
                elif not low <= power_kw <= high:
                    found.append(f"{where}: {power_kw:g} kW of {asset} is outside {low:g}..{high:g} kW")
        return found


class HistoryRule(Model):
    """When a value of one quantity is stored: cyclically, and in between when it left the dead band."""

    quantity: str = Field(min_length=1)
    asset: str | None = None
    cyclic_s: Positive | None = None
    deadband: NonNegative | None = None
    retention_days: int | None = Field(default=None, ge=1, le=36500)

    @model_validator(mode="after")
    def _says_something(self) -> HistoryRule:
        if self.cyclic_s is None and self.deadband is None and self.retention_days is None:
            raise ValueError(f"rule for {self.quantity} sets none of cyclic_s, deadband, retention_days")
        return self


class History(Model):
    """Telemetry policy of the site, and exceptions per quantity (and asset)."""

    cyclic_s: Positive = 60.0
    deadband: NonNegative = 0.0
    retention_days: int = Field(default=3650, ge=1, le=36500)
    rules: tuple[HistoryRule, ...] = Field(default=(), strict=False)

    def rule_for(self, asset_id: str, quantity: str) -> HistoryRule:
        """Policy that holds for one point: the rule of its asset, else of its quantity, else the site's."""
        cyclic_s, deadband, retention_days = self.cyclic_s, self.deadband, self.retention_days
        matching = [r for r in self.rules if r.quantity == quantity and r.asset in (None, asset_id)]
        for rule in sorted(matching, key=lambda r: r.asset is not None):
            cyclic_s = cyclic_s if rule.cyclic_s is None else rule.cyclic_s
            deadband = deadband if rule.deadband is None else rule.deadband
            retention_days = retention_days if rule.retention_days is None else rule.retention_days
        return HistoryRule(
            quantity=quantity, asset=asset_id, cyclic_s=cyclic_s, deadband=deadband, retention_days=retention_days
        )
