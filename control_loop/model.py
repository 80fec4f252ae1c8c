"""What the control loop needs to know of a site: its actuators, their limits, and the point of connection.

Every rule of the loop works on this small model, so that a rule can be tested without a site file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from flexergy_pipelines.grid.templates.alarm_words import AlarmBit

ActuatorKind = Literal["ess", "pv", "wind", "genset", "controllable_load", "ev"]

CONSUMING_KINDS = frozenset({"controllable_load", "ev"})
STEERED_KINDS = frozenset({"ess", "genset"})
REACTIVE_SETPOINT = "reactive_power_setpoint_kvar"
"""Quantity of actuators that command reactive power; their values are in kvar where others' are in kW."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Limits of one energy storage system.

    Attributes
    ----------
    energy_capacity_kwh : float
        Usable energy between SoC 0 and 1.
    soc_min, soc_max : float
        Allowed state of charge, fractions.
    charge_efficiency, discharge_efficiency : float
        Fractions, each for its own direction.
    temperature_min_c, temperature_max_c : float
        Temperatures between which it may be used [°C].
    """

    energy_capacity_kwh: float
    soc_min: float
    soc_max: float
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0
    temperature_min_c: float = -math.inf
    temperature_max_c: float = math.inf


@dataclass(frozen=True, slots=True)
class CurtailmentRules:
    """How a load may be curtailed.

    Attributes
    ----------
    steps : tuple of float
        Allowed shares of the uncurtailed power.
    min_between_s : float
        Least time from the end of one curtailment to the start of the next [s].
    max_s : float
        Longest time one curtailment may last [s].
    """

    steps: tuple[float, ...]
    min_between_s: float = 0.0
    max_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Actuator:
    """One thing the loop can command.

    Attributes
    ----------
    quantity : str
        The writable quantity: a setpoint (storage, genset) or an upper limit (PV, wind, loads, EV charging).
    minimum_kw, maximum_kw : float
        Nameplate range of the commanded value.
    idle_kw : float
        Value when nobody asks for anything: 0 for setpoints, `maximum_kw` for limits.
    safe_kw : float
        Value when the loop has lost sight of the plant.
    running_minimum_kw : float
        Least power of a genset that runs; values between 0 and this are not possible.
    min_up_s, min_down_s : float
        Least time a genset runs, and rests [s].
    least_kw : float
        Limit a consumer is left with unless protection, the grid operator or the PCC need less.
    priority : int
        Of consumers: 1 is curtailed last, 9 first.
    alarm_words : tuple
        Quantities of its device whose bits are alarms, each with what the bits mean.
    """

    asset_id: str
    kind: ActuatorKind
    quantity: str
    controller: str
    minimum_kw: float
    maximum_kw: float
    idle_kw: float = 0.0
    safe_kw: float = 0.0
    running_minimum_kw: float = 0.0
    min_up_s: float = 0.0
    min_down_s: float = 0.0
    ramp_kw_per_s: float | None = None
    least_kw: float = 0.0
    priority: int = 5
    storage: Storage | None = None
    curtailment: CurtailmentRules | None = None
    alarm_words: tuple[tuple[str, tuple[AlarmBit, ...]], ...] = ()

    @property
    def consumes(self) -> bool:
        """True when positive power is consumption."""
        return self.kind in CONSUMING_KINDS

    @property
    def steered(self) -> bool:
        """True when the value is followed exactly; False when it only limits."""
        return self.kind in STEERED_KINDS or self.quantity == REACTIVE_SETPOINT

    @property
    def unit(self) -> str:
        """Unit of what is commanded."""
        return "kvar" if self.quantity == REACTIVE_SETPOINT else "kW"

    @property
    def shown_as(self) -> str:
        """The measured quantity that answers what is commanded."""
        return "reactive_power_kvar" if self.quantity == REACTIVE_SETPOINT else "active_power_kw"


@dataclass(frozen=True, slots=True)
class Procedure:
    """What is done when an asset is lost (contingency).

    Attributes
    ----------
    asset_id : str
        The asset whose loss sets it going; the PCC's id means its meter.
    powers : tuple of (asset id, kW)
        Power of storage and gensets, and the most that others may take or give.
    after_s, hold_s : float
        How long the asset must be lost, and how long it must be back before this ends [s].
    """

    name: str
    asset_id: str
    powers: tuple[tuple[str, float], ...]
    after_s: float = 10.0
    hold_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SiteModel:
    """A site as the control loop sees it.

    Attributes
    ----------
    import_limit_kw, export_limit_kw : float
        Contracted limits at the point of common coupling (PCC), both positive.
    ramp_kw_per_s : float
        Fastest change of any setpoint that no limit forces.
    cycle_s : float
        Length of a control cycle.
    metered : tuple of str
        Assets that are only measured (loads): nothing is commanded by their silence, but somebody must see to it.
    balance : tuple of (str, float)
        Assets whose powers, times these signs, add up to the import; empty where loads are not metered.
    nominal_v, nominal_hz : float
        What the grid is meant to have, between phase and neutral [V], [Hz]; 0 is not known, and then not watched.
    stale_after_s : float
        Age from which a value no longer counts: three periods.
    exchange_band_kw : float or None
        How far the exchange may be from the planned one before the storage corrects it; None: it is left alone.
    procedures : tuple of Procedure
        What is done on the loss of an asset.
    """

    site_id: str
    actuators: tuple[Actuator, ...]
    import_limit_kw: float
    export_limit_kw: float
    ramp_kw_per_s: float
    cycle_s: float = 1.0
    pcc_id: str = "pcc"
    setpoint_ttl_s: float = 10.0
    exchange_band_kw: float | None = None
    procedures: tuple[Procedure, ...] = ()
    schedule_kinds: frozenset[str] = field(default_factory=lambda: frozenset({"ess", "pv", "wind"}))
    metered: tuple[str, ...] = ()
    balance: tuple[tuple[str, float], ...] = ()
    nominal_v: float = 0.0
    nominal_hz: float = 0.0
    stale_after_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what every look at a value asks for."""
        object.__setattr__(self, "stale_after_s", 3.0 * self.cycle_s)

    def actuator(self, asset_id: str) -> Actuator:
        """The actuator of one asset.

        Raises
        ------
        KeyError
            When the site has no such actuator.
        """
        for actuator in self.actuators:
            if actuator.asset_id == asset_id:
                return actuator
        known = ", ".join(a.asset_id for a in self.actuators)
        raise KeyError(f"{asset_id} is no actuator of {self.site_id}; it has {known}")
