"""Controllers and meters: the devices that the platform talks to, and the assets each of them manages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.assets import ESS, ControllableLoad, EVBlock, Genset, PhaseConnection, PVPlant, WindTurbine
from flexergy_pipelines.grid.base import Many, Model, Name, NonNegative, Papers, Positive, Slug
from flexergy_pipelines.grid.connection import Connection, NetworkType


class ControllerBase(Papers):
    id: Slug
    name: Name
    connection: Connection


class EnergyStorageController(ControllerBase):
    """Manages one or more storage systems."""

    kind: Literal["esc"] = "esc"
    ess: Many[ESS] = Field(min_length=1)

    @property
    def assets(self) -> tuple[ESS, ...]:
        return self.ess


class ResController(ControllerBase):
    """Manages one or more PV plants or wind turbines."""

    kind: Literal["res_controller"] = "res_controller"
    sources: Many[Annotated[PVPlant | WindTurbine, Field(discriminator="kind")]] = Field(min_length=1)

    @property
    def assets(self) -> tuple[PVPlant | WindTurbine, ...]:
        return self.sources


class GensetController(ControllerBase):
    """Manages one or more gensets."""

    kind: Literal["genset_controller"] = "genset_controller"
    gensets: Many[Genset] = Field(min_length=1)

    @property
    def assets(self) -> tuple[Genset, ...]:
        return self.gensets


class LoadController(ControllerBase):
    """Manages one or more controllable loads."""

    kind: Literal["load_controller"] = "load_controller"
    loads: Many[ControllableLoad] = Field(min_length=1)

    @property
    def assets(self) -> tuple[ControllableLoad, ...]:
        return self.loads


class Connector(Model):
    """Plug of a charge point."""

    id: int = Field(ge=1, le=16)
    max_kw: Positive
    plug: Literal["type2", "ccs2", "chademo", "type1", "schuko"] = "type2"


class ChargePoint(Model):
    """Charge point with its connectors.

    Attributes
    ----------
    identity : str or None
        What it calls itself towards the central system (OCPP); None means its id.
    """

    id: Slug
    identity: str | None = Field(default=None, pattern=r"^[^/\s]{1,48}$")
    max_kw: Positive
    phases: int = Field(default=3, ge=1, le=3)
    phase_connection: PhaseConnection = "three_phase"
    connectors: Many[Connector] = ()
    priority: int = Field(default=5, ge=1, le=9)

    @model_validator(mode="after")
    def _connectors_fit(self) -> ChargePoint:
        seen: set[int] = set()
        for connector in self.connectors:
            if connector.id in seen:
                raise ValueError(f"connector id {connector.id} is given twice")
            seen.add(connector.id)
            if connector.max_kw > self.max_kw:
                raise ValueError(f"connector {connector.id}: max_kw {connector.max_kw} is above {self.max_kw}")
        return self


class EvChargingManager(ControllerBase):
    """Manages charge points; planned and limited as one load whose asset id is the manager's own.

    Attributes
    ----------
    max_kw : float or None
        Power of the feeder [kW]; None means the sum of the charge points.
    min_limit_kw : float
        Lowest limit that may be sent, so that cars keep charging [kW].
    """

    kind: Literal["ev_charging_manager"] = "ev_charging_manager"
    charge_points: Many[ChargePoint] = Field(min_length=1)
    max_kw: Positive | None = None
    min_limit_kw: NonNegative = 0.0
    curtailment_cost_eur_per_kwh: NonNegative = 0.5
    bus: Slug | None = None

    @property
    def block(self) -> EVBlock:
        """The charge points as one load."""
        return EVBlock(
            id=self.id,
            name=self.name,
            bus=self.bus,
            rated_kw=self.max_kw or sum(point.max_kw for point in self.charge_points),
            min_limit_kw=self.min_limit_kw,
            curtailment_cost_eur_per_kwh=self.curtailment_cost_eur_per_kwh,
        )

    @property
    def assets(self) -> tuple[EVBlock, ...]:
        return (self.block,)


Controller = EnergyStorageController | ResController | GensetController | LoadController | EvChargingManager


class Meter(Papers):
    """Smart meter or sensor.

    Attributes
    ----------
    role : str
        "pcc" measures the exchange with the public grid (exactly one a site), "load" a non-controllable load,
        "sub" anything else.
    concentrator : str or None
        Data concentrator that collects this meter.
    integration_period_minutes : int
        Period of its load profile [min].
    billing_day : int
        Day of the month on which its registers are read for the bill.
    tariff : str or None
        Name of the contract's tariff for this meter; None means the site's own.
    """

    id: Slug
    name: Name | None = None
    role: Literal["pcc", "load", "sub"]
    connection: Connection
    concentrator: Slug | None = None
    asset: Slug | None = None
    integration_period_minutes: Literal[1, 5, 10, 15, 30, 60] = 15
    billing_day: int = Field(default=1, ge=1, le=28)
    tariff: Name | None = None
    phase_connection: PhaseConnection = "three_phase"
    ct_ratio: Positive = 1.0
    vt_ratio: Positive = 1.0


class DataConcentrator(Papers):
    """Collects meters that cannot report by themselves; concentrators may be cascaded."""

    id: Slug
    name: Name | None = None
    connection: Connection | None = None
    parent: Slug | None = None
    network_type: NetworkType = "ethernet"


class Ied(Papers):
    """Sensor or RTU of the site's network."""

    id: Slug
    name: Name | None = None
    role: Literal["sensor", "rtu", "relay"] = "sensor"
    connection: Connection | None = None
    bus: Slug | None = None
