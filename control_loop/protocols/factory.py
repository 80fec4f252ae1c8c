"""From a site's devices to their drivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from control_loop.protocols import iec104, iec61850
from control_loop.protocols.addressing import by_name, by_rule
from control_loop.protocols.base import AbsentDriver, Driver
from control_loop.protocols.dlms import DlmsDriver
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_line import ModbusLine, SerialBus, TcpLine
from control_loop.protocols.objects import ObjectDriver, ObjectHub
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_access import ChargingAccess
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_post import Post
from control_loop.protocols.sunspec import SunSpecDriver
from control_loop.protocols.talq import TalqDriver
from flexergy_pipelines.grid import Device, EvChargingManager, Site, load_template, points_of
from flexergy_pipelines.grid.ratings import rated_power_kw
from flexergy_pipelines.grid.tls import CERTIFICATES, client_context, server_context
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.metering.keys import access_of
from flexergy_pipelines.settings import Settings, read_endpoints

LEAST_METER_TIMEOUT_S = 2.0


def drivers_of(site: Site, settings: Settings) -> list[Driver]:
    """A driver for each device of the site that has assets behind it.

    Addresses that the devices' host has published win over those of the configuration. A device that cannot be talked
    to as it is configured gets a driver that says so.
    """
    shared = Shared()
    drivers: list[Driver] = []
    for device in site.devices():
        if not device.assets:
            continue
        try:
            drivers.append(driver_of(site, device, settings, shared))
        except ValueError as error:
            get_logger(__name__).error("device cannot be talked to", site=site.id, device=device.id, error=str(error))
            drivers.append(AbsentDriver(device.id, [asset.id for asset in device.assets], str(error)))
    return drivers


@dataclass
class Shared:
    """What the drivers of one site share: workers of protocols, and serial lines by device file.

    Devices that a standby reads have a worker of their own, for a worker dials all it is told of.
    """

    hubs: dict[tuple[str, bool], ObjectHub] = field(default_factory=dict)
    lines: dict[str, SerialBus] = field(default_factory=dict)


def driver_of(site: Site, device: Device, settings: Settings, shared: Shared) -> Driver:
    """The driver of one device.

    Raises
    ------
    ValueError
        Its protocol is not one the loop speaks, or its connection does not fit its assets.
    """
    match device.connection.protocol:
        case "modbus_tcp" | "modbus_rtu":
            return _modbus(site, device, settings, shared)
        case "iec104" | "iec61850":
            return _objects(site, device, settings, shared)
        case "ocpp16":
            return _ocpp(site, device, settings)
        case "dlms":
            return _dlms(device, settings)
        case "talq":
            return _talq(site, device, settings)
        case other:
            raise ValueError(f"{device.id}: the control loop does not speak {other}")


def _modbus(site: Site, device: Device, settings: Settings, shared: Shared) -> Driver:
    template = load_template(device.connection.template)
    make = ModbusDriver if template.sunspec is None else SunSpecDriver
    return make(
        device.id,
        modbus_line(device, settings, shared),
        template,
        [asset.id for asset in device.assets],
        _quantities(device),
        ratings={asset.id: rated_power_kw(asset) for asset in device.assets},
        unit_id=device.connection.unit_id,
        timeout_s=device.connection.timeout_s,
        setpoint_ttl_s=site.operation.setpoint_ttl_s,
    )


def modbus_line(device: Device, settings: Settings, shared: Shared) -> ModbusLine:
    """The way to a Modbus device: its serial line, or a connection of its own."""
    connection = device.connection
    if connection.serial is not None:
        named = connection.serial.device
        bus = SerialBus(connection.serial, lambda: read_endpoints(settings).get(device.key, named))
        return shared.lines.setdefault(named, bus)
    tls = connection.tls
    if tls is None:
        return TcpLine(address_of(device, settings))
    folder = settings.home / CERTIFICATES
    return TcpLine(
        address_of(device, settings), lambda: client_context(tls, folder), tls.server_name or connection.host
    )


def _objects(site: Site, device: Device, settings: Settings, shared: Shared) -> Driver:
    connection = device.connection
    template = load_template(connection.template)
    assets, quantities = [asset.id for asset in device.assets], _quantities(device)
    more: dict[str, Any] = {"tls": tls_of(device, settings), "report": connection.report}
    if connection.protocol == "iec104":
        hub = shared.hubs.setdefault(("iec104", connection.standby_link), ObjectHub(iec104.WORKER))
        names = iec104.Iec104Addressing(template.asset_stride, connection.control)
        objects = by_rule(names, template, assets, quantities, select=connection.control.startswith("select"))
    else:
        hub = shared.hubs.setdefault(("iec61850", False), ObjectHub(iec61850.WORKER))
        names = iec61850.Iec61850Addressing(device.id, template, connection.control)
        objects = by_rule(names, template, assets, quantities)
        if not connection.objects:
            more["report"] = connection.report or names.report
    if connection.objects:
        objects = by_name(device.id, connection.objects, assets, quantities)
    return ObjectDriver(
        hub,
        device.id,
        objects,
        address=address_of(device, settings),
        assets=assets,
        unit_id=connection.unit_id,
        setpoint_ttl_s=site.operation.setpoint_ttl_s,
        timeout_s=connection.timeout_s,
        more=more,
    )


def _dlms(device: Device, settings: Settings) -> Driver:
    return DlmsDriver(
        device.id,
        address_of(device, settings),
        load_template(device.connection.template),
        [asset.id for asset in device.assets],
        _quantities(device),
        credentials=lambda: access_of(settings, device),
        timeout_s=max(LEAST_METER_TIMEOUT_S, device.connection.timeout_s),
    )


def _talq(site: Site, device: Device, settings: Settings) -> Driver:
    connection, folder = device.connection, settings.home / CERTIFICATES
    tls = connection.tls
    mutual = tls is not None and tls.certificate is not None
    return TalqDriver(
        device.id,
        address_of(device, settings),
        load_template(connection.template),
        [asset.id for asset in device.assets],
        _quantities(device),
        rated_kw=sum(rated_power_kw(asset) for asset in device.assets),
        zone=site.zone,
        listen_port=connection.listen_port,
        timeout_s=connection.timeout_s,
        setpoint_ttl_s=site.operation.setpoint_ttl_s,
        tls=None if tls is None else lambda: client_context(tls, folder),
        server_tls=(lambda: server_context(tls, folder, ask_client=True)) if tls is not None and mutual else None,
    )


def _ocpp(site: Site, device: Device, settings: Settings) -> Driver:
    manager = site.controller_of(device.assets[0].id)
    if not isinstance(manager, EvChargingManager):
        raise ValueError(f"{device.id}: OCPP is spoken with EV charging managers only, not with a {device.kind}")
    connection, folder = device.connection, settings.home / CERTIFICATES
    tls = connection.tls
    certified = tls is not None and tls.require_client_certificate
    return OcppDriver(
        device.id,
        device.assets[0].id,
        host=connection.host,
        port=connection.port,
        posts=[Post(p.identity or p.id, p.max_kw, p.phases, p.priority) for p in manager.charge_points],
        access=ChargingAccess(needs_key=connection.basic_auth, needs_certificate=certified),
        tls=None if tls is None else lambda: server_context(tls, folder, ask_client=certified),
        journal=Journal(settings.spool_dir / f"{settings.tenant}-{site.id}-{device.id}-charging.sqlite"),
    )


def tls_of(device: Device, settings: Settings) -> dict[str, Any] | None:
    """Transport security of a device's link as a worker process takes it."""
    tls = device.connection.tls
    if tls is None:
        return None
    return {"files": tls.model_dump(), "folder": str(settings.home / CERTIFICATES)}


def address_of(device: Device, settings: Settings) -> Callable[[], tuple[str, int]]:
    """Host and port of a device whenever asked: as published by its host, else as configured."""
    connection = device.connection

    def address() -> tuple[str, int]:
        published = read_endpoints(settings).get(device.key)
        if published is None:
            return connection.host, connection.port
        host, _, port = published.rpartition(":")
        return host, int(port)

    return address


def _quantities(device: Device) -> dict[str, frozenset[str]]:
    return {asset.id: frozenset(point.quantity for point in points_of(asset)) for asset in device.assets}
