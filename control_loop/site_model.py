"""From a site's configuration to what the control loop needs: its model, its drivers, its telemetry policy."""

from __future__ import annotations

from collections.abc import Callable

from control_loop.model import Actuator, CurtailmentRules, SiteModel, Storage
from control_loop.protocols import iec104, iec61850
from control_loop.protocols.base import Driver
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.objects import Addressing, ObjectDriver, ObjectHub
from control_loop.protocols.ocpp16 import OcppDriver, Post
from control_loop.protocols.ocpp_journal import Journal
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid import (
    ESS,
    Asset,
    ControllableLoad,
    Device,
    EVBlock,
    EvChargingManager,
    Genset,
    PVPlant,
    Site,
    WindTurbine,
    load_template,
    points_of,
)
from flexergy_pipelines.settings import Settings, read_endpoints

SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"


def model_of(site: Site) -> SiteModel:
    """The control loop's view of a site.

    Notes
    -----
    Safe values, for when the PCC meter or an asset is lost: storage and gensets stop; renewables are held to the share
    of their rating at which, all together, they cannot break the export limit whatever the load; controllable
    consumers together get half of the import limit.
    """
    assets = [asset for asset in site.assets() if asset.in_service]
    sources_kw = sum(a.rated_kw for a in assets if isinstance(a, PVPlant | WindTurbine))
    consumers_kw = sum(a.rated_kw for a in assets if isinstance(a, ControllableLoad | EVBlock))
    pcc = site.grid_connection
    source_share = min(1.0, pcc.export_limit_kw / sources_kw) if sources_kw else 1.0
    consumer_share = min(1.0, 0.5 * pcc.import_limit_kw / consumers_kw) if consumers_kw else 1.0
    actuators: list[Actuator] = []
    for asset in assets:
        controller = site.controller_of(asset.id)
        if controller is not None:
            actuator = _actuator(asset, controller.id, source_share, consumer_share)
            if actuator is not None:
                actuators.append(actuator)
    return SiteModel(
        site_id=site.id,
        actuators=tuple(actuators),
        import_limit_kw=pcc.import_limit_kw,
        export_limit_kw=pcc.export_limit_kw,
        ramp_kw_per_s=site.operation.max_ramp_kw_per_s,
        cycle_s=site.operation.control_cycle_s,
        pcc_id=pcc.id,
        setpoint_ttl_s=site.operation.setpoint_ttl_s,
    )


def _actuator(asset: Asset, controller: str, source_share: float, consumer_share: float) -> Actuator | None:
    if isinstance(asset, ESS):
        return Actuator(
            asset.id,
            "ess",
            SETPOINT,
            controller,
            -asset.max_charge_kw,
            asset.max_discharge_kw,
            storage=Storage(
                asset.energy_capacity_kwh * asset.soh,
                asset.soc_min,
                asset.soc_max,
                asset.charge_efficiency,
                asset.discharge_efficiency,
            ),
        )
    if isinstance(asset, PVPlant | WindTurbine):
        if not asset.curtailable:
            return None
        rated_kw = asset.rated_kw
        return Actuator(
            asset.id, asset.kind, LIMIT, controller, 0.0, rated_kw, idle_kw=rated_kw, safe_kw=rated_kw * source_share
        )
    if isinstance(asset, Genset):
        return Actuator(
            asset.id,
            "genset",
            SETPOINT,
            controller,
            0.0,
            asset.max_kw,
            running_minimum_kw=asset.min_kw,
            min_up_s=60.0 * asset.min_up_minutes,
            min_down_s=60.0 * asset.min_down_minutes,
            ramp_kw_per_s=asset.ramp_kw_per_s,
        )
    if isinstance(asset, ControllableLoad | EVBlock):
        return Actuator(
            asset.id,
            asset.kind,
            LIMIT,
            controller,
            0.0,
            asset.rated_kw,
            idle_kw=asset.rated_kw,
            safe_kw=asset.rated_kw * consumer_share,
            least_kw=asset.min_limit_kw if isinstance(asset, EVBlock) else 0.0,
            priority=asset.priority if isinstance(asset, ControllableLoad) else EV_PRIORITY,
            curtailment=_curtailment(asset) if isinstance(asset, ControllableLoad) else None,
        )
    return None


def _curtailment(load: ControllableLoad) -> CurtailmentRules:
    return CurtailmentRules(
        load.curtail_steps, 60.0 * load.min_minutes_between_curtailments, 60.0 * load.max_curtailed_minutes
    )


EV_PRIORITY = 5
"""EV charging as a whole ranks in the middle of 1 (curtailed last) .. 9 (first)."""


def drivers_of(site: Site, settings: Settings) -> list[Driver]:
    """A driver for each device of the site that has assets behind it.

    Addresses that the devices' host has published win over those of the configuration.

    Raises
    ------
    ValueError
        A device's protocol is not one the loop speaks.
    """
    drivers: list[Driver] = []
    hubs: dict[str, ObjectHub] = {}
    for device in site.devices():
        if not device.assets:
            continue
        address = _address(device, settings)
        template = load_template(device.connection.template)
        assets = [asset.id for asset in device.assets]
        quantities = {asset.id: frozenset(point.quantity for point in points_of(asset)) for asset in device.assets}
        ttl_s = site.operation.setpoint_ttl_s
        if device.connection.protocol == "modbus_tcp":
            drivers.append(
                ModbusDriver(
                    device.id,
                    address,
                    template,
                    assets,
                    quantities,
                    unit_id=device.connection.unit_id,
                    timeout_s=device.connection.timeout_s,
                    setpoint_ttl_s=ttl_s,
                )
            )
        elif device.connection.protocol in {"iec104", "iec61850"}:
            names: Addressing
            if device.connection.protocol == "iec104":
                hub = hubs.setdefault("iec104", ObjectHub(iec104.WORKER))
                names = iec104.Iec104Addressing(template.asset_stride)
            else:
                hub = hubs.setdefault("iec61850", ObjectHub(iec61850.WORKER))
                names = iec61850.Iec61850Addressing(device.id, template)
            drivers.append(
                ObjectDriver(
                    hub,
                    names,
                    device.id,
                    address=address,
                    template=template,
                    assets=assets,
                    quantities=quantities,
                    unit_id=device.connection.unit_id,
                    setpoint_ttl_s=ttl_s,
                )
            )
        elif device.connection.protocol == "ocpp16":
            drivers.append(_ocpp_driver(site, device, settings))
        else:
            raise ValueError(f"{device.id}: the control loop does not speak {device.connection.protocol}")
    return drivers


def _ocpp_driver(site: Site, device: Device, settings: Settings) -> OcppDriver:
    manager = site.controller_of(device.assets[0].id)
    if not isinstance(manager, EvChargingManager):
        raise ValueError(f"{device.id}: OCPP is spoken with EV charging managers only, not with a {device.kind}")
    return OcppDriver(
        device.id,
        device.assets[0].id,
        host=device.connection.host,
        port=device.connection.port,
        posts=[Post(p.id, p.max_kw, p.phases, p.priority) for p in manager.charge_points],
        journal=Journal(settings.spool_dir / f"{settings.tenant}-{site.id}-{device.id}-charging.sqlite"),
    )


def _address(device: Device, settings: Settings) -> Callable[[], tuple[str, int]]:
    connection = device.connection

    def address() -> tuple[str, int]:
        published = read_endpoints(settings).get(device.key)
        if published is None:
            return connection.host, connection.port
        host, _, port = published.rpartition(":")
        return host, int(port)

    return address


def telemetry_filter(site: Site) -> TelemetryFilter:
    """The site's policy of what readings are kept; a dead band of 0 means cyclically only."""

    def policy(asset_id: str, quantity: str) -> PointPolicy:
        rule = site.history.rule_for(asset_id, quantity)
        return PointPolicy(rule.cyclic_s or site.history.cyclic_s, rule.deadband or None)

    return TelemetryFilter(policy)
