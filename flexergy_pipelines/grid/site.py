"""Site: the assets of one owner at one location behind one point of connection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from flexergy_pipelines.grid.assets import (
    ESS,
    Asset,
    ControllableLoad,
    EVBlock,
    Genset,
    GridConnection,
    NonControllableLoad,
    PVPlant,
    WindTurbine,
)
from flexergy_pipelines.grid.base import Many, Model, Name, Slug, known_zone
from flexergy_pipelines.grid.controllers import (
    Connection,
    Controller,
    DataConcentrator,
    EnergyStorageController,
    EvChargingManager,
    GensetController,
    Ied,
    LoadController,
    Meter,
    ResController,
)
from flexergy_pipelines.grid.forecast_settings import ForecastSettings
from flexergy_pipelines.grid.grid_code import GridCode
from flexergy_pipelines.grid.network import Network
from flexergy_pipelines.grid.operation import History, Operation
from flexergy_pipelines.grid.points import COMMANDED, REQUIRED_QUANTITIES, Point, points_of
from flexergy_pipelines.grid.replay_source import ReplaySource
from flexergy_pipelines.grid.tariff import Emissions, Tariff
from flexergy_pipelines.grid.templates import TemplateError, load_template


class Location(Model):
    latitude_deg: float = Field(ge=-90, le=90)
    longitude_deg: float = Field(ge=-180, le=180)
    altitude_m: float = Field(default=0.0, ge=-430, le=9000)


@dataclass(frozen=True, slots=True)
class Device:
    """A controller or meter that is talked to, and the assets behind it in the order of their register blocks."""

    id: str
    key: str
    kind: str
    connection: Connection
    assets: tuple[Asset, ...]


class Site(Model):
    """A microgrid, a prosumer or a power plant.

    Attributes
    ----------
    id : str
        Identifier of the site in store, commands and addresses.
    time_zone : str
        IANA name; daily things happen in it.
    country : str
        ISO 3166 code, for public holidays.
    replay : ReplaySource or None
        Only sample sites have one: which shipped data stand for reality.
    """

    id: Slug
    name: Name
    kind: Literal["microgrid", "prosumer", "power_plant"]
    owner: str | None = None
    time_zone: str
    location: Location
    country: str = Field(pattern=r"^[A-Z]{2}$")
    grid_connection: GridConnection
    tariff: Tariff
    emissions: Emissions = Emissions()
    meters: Many[Meter]
    concentrators: Many[DataConcentrator] = ()
    ieds: Many[Ied] = ()
    controllers: Many[Annotated[Controller, Field(discriminator="kind")]] = ()
    loads: Many[NonControllableLoad] = ()
    network: Network | None = None
    operation: Operation = Operation()
    grid_code: GridCode = GridCode()
    forecasts: ForecastSettings = ForecastSettings()
    history: History = History()
    replay: ReplaySource | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return known_zone(value)

    @model_validator(mode="after")
    def _holds_together(self) -> Site:
        problems = [
            *self._id_problems(),
            *self._meter_problems(),
            *self._concentrator_problems(),
            *self._template_problems(),
            *self._reference_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _id_problems(self) -> list[str]:
        ids = [self.grid_connection.id, *(load.id for load in self.loads), *(meter.id for meter in self.meters)]
        ids += [c.id for c in self.concentrators] + [ied.id for ied in self.ieds]
        for controller in self.controllers:
            ids.append(controller.id)
            if isinstance(controller, EvChargingManager):
                ids += [point.id for point in controller.charge_points]
            else:
                ids += [asset.id for asset in controller.assets]
        problems = [
            f"id {i} is given {n} times; every id of a site is unique" for i, n in Counter(ids).items() if n > 1
        ]
        if self.grid_connection.id != "pcc":
            problems.append(f"grid_connection: id is {self.grid_connection.id}, it must be pcc")
        return problems

    def _meter_problems(self) -> list[str]:
        at_pcc = [meter.id for meter in self.meters if meter.role == "pcc"]
        problems = []
        if not at_pcc:
            problems.append("meters: no meter has role pcc; a site needs exactly one at its grid connection")
        if len(at_pcc) > 1:
            problems.append(f"meters: {' and '.join(at_pcc)} have role pcc; a site needs exactly one")
        meters = {meter.id: meter for meter in self.meters}
        used: dict[str, str] = {}
        for i, load in enumerate(self.loads):
            where = f"loads[{i}] {load.id}"
            if load.meter not in meters:
                problems.append(f"{where}: meter {load.meter} is unknown")
            elif meters[load.meter].role != "load":
                problems.append(f"{where}: meter {load.meter} has role {meters[load.meter].role}, it must be load")
            elif load.meter in used:
                problems.append(f"{where}: meter {load.meter} already measures {used[load.meter]}")
            used.setdefault(load.meter, load.id)
        return problems

    def _concentrator_problems(self) -> list[str]:
        parents = {c.id: c.parent for c in self.concentrators}
        problems = []
        for i, concentrator in enumerate(self.concentrators):
            where = f"concentrators[{i}] {concentrator.id}"
            if concentrator.parent is not None and concentrator.parent not in parents:
                problems.append(f"{where}: parent {concentrator.parent} is unknown")
                continue
            seen: list[str] = [concentrator.id]
            above = concentrator.parent
            while above is not None and above not in seen:
                seen.append(above)
                above = parents.get(above)
            if above == concentrator.id:
                problems.append(f"{where}: parents form a cycle: {' > '.join([*seen, concentrator.id])}")
        for i, meter in enumerate(self.meters):
            if meter.concentrator is not None and meter.concentrator not in parents:
                problems.append(f"meters[{i}] {meter.id}: concentrator {meter.concentrator} is unknown")
        return problems

    def _template_problems(self) -> list[str]:
        problems = []
        for where, device in self._located_devices():
            try:
                template = load_template(device.connection.template)
            except TemplateError as error:
                problems.append(f"{where}.connection {device.id}: {error}")
                continue
            for asset in device.assets:
                missing = [q for q in REQUIRED_QUANTITIES[asset.kind] if q not in template.quantities]
                if missing:
                    problems.append(
                        f"{where} {device.id}: template {template.name} does not provide {', '.join(missing)} "
                        f"of {asset.kind} {asset.id}"
                    )
            if len(device.assets) > 1 and template.asset_stride == 0:
                problems.append(
                    f"{where} {device.id}: template {template.name} holds one asset, not {len(device.assets)}"
                )
        return problems

    def _reference_problems(self) -> list[str]:
        problems = []
        ids = {asset.id for asset in self.assets()}
        addresses: dict[str, str] = {}
        for where, device in self._located_devices():
            place = device.connection.place
            other = addresses.setdefault(place, device.id)
            if other != device.id:
                problems.append(f"{where} {device.id}: {place} is already the address of {other}")
        for i, meter in enumerate(self.meters):
            if meter.asset is not None and meter.asset not in ids:
                problems.append(f"meters[{i}] {meter.id}: asset {meter.asset} is unknown")
        problems += self.forecasts.problems({asset.id: asset.kind for asset in self.assets()})
        problems += [
            f"history.rules[{i}]: asset {rule.asset} is unknown"
            for i, rule in enumerate(self.history.rules)
            if rule.asset is not None and rule.asset not in ids
        ]
        ranges = self.ranges_kw()
        problems += self.grid_code.problems({asset.id: asset.kind for asset in self.assets()}, ranges)
        problems += self.operation.problems(frozenset(ids), ranges)
        if self.replay is not None:
            problems += [
                f"replay.series[{i}]: asset {series.asset} is unknown"
                for i, series in enumerate(self.replay.series)
                if series.asset not in ids
            ]
        buses = {bus.id for bus in self.network.buses} if self.network else set()
        for asset in self.assets():
            if asset.bus is not None and asset.bus not in buses:
                problems.append(f"{asset.id}: bus {asset.bus} is unknown")
        return problems

    def _located_devices(self) -> list[tuple[str, Device]]:
        paths = [f"controllers[{i}]" for i in range(len(self.controllers))]
        paths += [f"meters[{i}]" for i in range(len(self.meters))]
        return list(zip(paths, self.devices(), strict=True))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def _assets_by_id(self) -> dict[str, Asset]:
        assets: list[Asset] = [asset for controller in self.controllers for asset in controller.assets]
        return {asset.id: asset for asset in [*assets, *self.loads, self.grid_connection]}

    def assets(self) -> tuple[Asset, ...]:
        """All assets: those behind controllers in their order, the non-controllable loads, and the PCC last."""
        return tuple(self._assets_by_id().values())

    def asset(self, asset_id: str) -> Asset:
        """The asset with this id.

        Raises
        ------
        KeyError
            There is no such asset.
        """
        assets = self._assets_by_id()
        if asset_id not in assets:
            raise KeyError(f"site {self.id} has no asset {asset_id}, only {', '.join(assets)}")
        return assets[asset_id]

    def controller_of(self, asset_id: str) -> Controller | None:
        """Controller that manages the asset; None for what is only metered (loads, PCC)."""
        self.asset(asset_id)
        return next((c for c in self.controllers if any(a.id == asset_id for a in c.assets)), None)

    def meter_of(self, asset_id: str) -> Meter | None:
        """Meter that measures the asset; None for assets behind a controller that have none."""
        asset = self.asset(asset_id)
        if isinstance(asset, GridConnection):
            return next(meter for meter in self.meters if meter.role == "pcc")
        if isinstance(asset, NonControllableLoad):
            return next(meter for meter in self.meters if meter.id == asset.meter)
        return next((meter for meter in self.meters if meter.asset == asset_id), None)

    def devices(self) -> tuple[Device, ...]:
        """Everything that is talked to: controllers, then meters."""
        devices = [Device(c.id, f"{self.id}/{c.id}", c.kind, c.connection, tuple(c.assets)) for c in self.controllers]
        for meter in self.meters:
            measured: tuple[Asset, ...] = ()
            if meter.role == "pcc":
                measured = (self.grid_connection,)
            elif meter.role == "load":
                measured = tuple(load for load in self.loads if load.meter == meter.id)
            devices.append(Device(meter.id, f"{self.id}/{meter.id}", f"{meter.role}_meter", meter.connection, measured))
        return tuple(devices)

    def ess(self) -> tuple[ESS, ...]:
        return tuple(e for c in self.controllers if isinstance(c, EnergyStorageController) for e in c.ess)

    def sources(self) -> tuple[PVPlant | WindTurbine, ...]:
        return tuple(s for c in self.controllers if isinstance(c, ResController) for s in c.sources)

    def gensets(self) -> tuple[Genset, ...]:
        return tuple(g for c in self.controllers if isinstance(c, GensetController) for g in c.gensets)

    def controllable_loads(self) -> tuple[ControllableLoad, ...]:
        return tuple(load for c in self.controllers if isinstance(c, LoadController) for load in c.loads)

    def ev_blocks(self) -> tuple[EVBlock, ...]:
        return tuple(c.block for c in self.controllers if isinstance(c, EvChargingManager))

    def points(self) -> tuple[Point, ...]:
        """Every point of every asset."""
        return tuple(point for asset in self.assets() for point in points_of(asset))

    def ranges_kw(self) -> dict[str, tuple[float, float]]:
        """Active power that each commanded asset can be told, and that the exchange may be (import positive) [kW]."""
        pcc = self.grid_connection
        fixed = {a.id for a in self.assets() if isinstance(a, PVPlant | WindTurbine) and not a.curtailable}
        told = [p for p in self.points() if p.quantity in COMMANDED and p.asset_id not in fixed]
        return {
            pcc.id: (-pcc.export_limit_kw, pcc.import_limit_kw),
            **{p.asset_id: (p.minimum, p.maximum) for p in told},
        }

    def point(self, asset_id: str, quantity: str) -> Point:
        """One point.

        Raises
        ------
        KeyError
            The asset has no such quantity.
        """
        points = points_of(self.asset(asset_id))
        for point in points:
            if point.quantity == quantity:
                return point
        raise KeyError(f"{asset_id} has no {quantity}, only {', '.join(p.quantity for p in points)}")
