"""Devices are found on the wire, wait as proposals, and become part of their site when somebody approves them."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_loop.discovery.cli import app
from control_loop.discovery.devices import associate_dlms, browse_iec61850, interrogate_iec104
from control_loop.discovery.found import Found, SearchError, hosts_of, numbers_of
from control_loop.discovery.sunspec import scan
from control_loop.protocols.factory import Shared, driver_of
from control_loop.protocols.sunspec import SunSpecDriver
from flexergy_pipelines.grid import SiteError
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.metering.dlms import MeterError
from flexergy_pipelines.metering.keys import Credentials
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import Store, TenantStore, registering
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.field_devices import list_proposals, propose_device
from flexergy_pipelines.store.sites import load_site, save_site
from plant_simulator.dlms_server import PASSWORD
from plant_simulator.fronts import DlmsFront, ModbusFront, iec104_front, iec61850_front
from tests.plant_simulator.fakes import WorkerBench, make_plant


def simulated(device_id: str, template: str) -> ModbusFront:
    plant, _ = make_plant()
    device = next(d for d in plant.site.devices() if d.id == device_id)
    link = device.connection.model_copy(update={"template": template, "port": 25_500})
    return ModbusFront(dataclasses.replace(device, connection=link, assets=device.assets[:1]), plant, 1)


def propose(db: TenantStore, found: Found) -> int:
    return propose_device(
        db,
        "microgrid",
        protocol=found.protocol,
        address=found.address,
        identity=found.identity,
        template=found.template,
    ).proposal_id


@pytest.mark.requirement("asset.03.1", "infra.01.2")
def test_sunspec_devices_of_a_range_are_found_approved_and_talked_to(db: TenantStore, tmp_path: Path) -> None:
    save_site(db, sample_site("microgrid"))
    fronts = [
        simulated("res-1", "sunspec_inverter"),
        simulated("esc-1", "sunspec_storage"),
        simulated("esc-1", "generic_esc"),
    ]

    async def find() -> list[Found]:
        for front in fronts:
            await front.start("127.0.0.1")
        ports = [int(front.address.split(":")[1]) for front in fronts]
        return await scan(["127.0.0.1", "127.0.0.9"], [*ports, 9], [1, 2], timeout_s=1.0)

    async def check() -> None:
        found = {item.template: item for item in await find()}
        assert set(found) == {"sunspec_inverter", "sunspec_storage"}
        inverter, storage = found["sunspec_inverter"], found["sunspec_storage"]
        assert inverter.identity["rated_kw"] == pytest.approx(400.0)
        assert storage.identity["manufacturer"] == "Flexergy"
        first, second = propose(db, inverter), propose(db, storage)
        registering.approve(db, first, "roof-2", {"tilt_deg": 15.0}, "anna")
        with pytest.raises(SiteError, match="energy_capacity_kwh"):
            registering.approve(db, second, "esc-2", {}, "anna")
        site, version = registering.approve(db, second, "esc-2", {"energy_capacity_kwh": 90.0}, "anna")
        assert version == 3
        assert load_site(db, "microgrid") == site
        assert list_proposals(db) == []
        with pytest.raises(InvalidDataError, match="approved before"):
            registering.approve(db, first, "roof-3", {}, "anna")
        device = next(d for d in site.devices() if d.id == "roof-2")
        driver = driver_of(site, device, Settings(tmp_path, None, "demo"), Shared())
        assert isinstance(driver, SunSpecDriver)
        assert ("roof-2-1", "active_power_kw") in await driver.read()
        await driver.close()
        for front in fronts:
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("infra.01.2")
def test_stations_ieds_and_meters_tell_what_they_offer() -> None:
    async def check() -> None:
        async with WorkerBench("iec61850", iec61850_front) as it:
            host, _, port = it.front.address.partition(":")
            found = await browse_iec61850(host, int(port))
            assert found.identity["logical_devices"] == ["FLXesc1"]
            assert "FLXesc1/GGIO1.AnOut2" in found.identity["commanded"]
            assert "FLXesc1/GGIO1.AnIn1" in found.identity["objects"]
            assert "FLXesc1/LLN0.BR.brcbValues01" in found.identity["reports"]
        async with WorkerBench("iec104", iec104_front) as it:
            host, _, port = it.front.address.partition(":")
            (station,) = await interrogate_iec104(host, int(port))
            assert station.address == f"{host}:{port} unit 1"
            assert station.identity["objects"]["M_ME_NC_1:3"] == pytest.approx(0.5, abs=0.01)
            assert station.identity["objects"]["M_SP_NA_1:6"] == 1.0
        plant, _ = make_plant()
        meter = next(d for d in plant.site.devices() if d.id == "pcc-meter")
        link = meter.connection.model_copy(update={"protocol": "dlms", "port": 25_600})
        front = DlmsFront(dataclasses.replace(meter, connection=link), plant, 1)
        await front.start("127.0.0.1")
        host, _, port = front.address.partition(":")
        named = await associate_dlms(host, int(port), Credentials(password=PASSWORD))
        assert named.template == "generic_meter"
        assert {"1.0.1.8.0.255", "1.0.99.1.0.255"} <= set(named.identity["objects"])
        assert named.identity["serial"] == front.meter.serial
        with pytest.raises(MeterError, match="authentication failed"):
            await associate_dlms(host, int(port), Credentials(password=b"wrong"))
        await front.stop()
        with pytest.raises(MeterError, match=f"no connection to {host}:{port}"):
            await associate_dlms(host, int(port), Credentials(), timeout_s=0.5)

    asyncio.run(check())


@pytest.mark.requirement("infra.01.2")
def test_the_command_approves_a_charge_point_and_refuses_what_does_not_fit(
    store: Store, db: TenantStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store.app_url)
    save_site(db, sample_site("microgrid"))
    identity = {"manager": "ev-1", "charge_point_vendor": "Acme"}
    number = propose(db, Found("ocpp16", "CP Nord".replace(" ", "-"), identity, None))
    meter = propose(db, Found("dlms", "10.0.0.7:4059 unit 1", {"serial": "77"}, "generic_meter"))
    run = CliRunner().invoke
    assert "Acme" in run(app, ["list"]).output
    bad = run(app, ["approve", str(number), "--id", "Not A Slug"])
    assert bad.exit_code == 2
    assert "Not A Slug" in bad.output
    done = run(app, ["approve", str(number), "--id", "cp-99", "--set", "max_kw=11"])
    assert done.output == "microgrid: cp-99 registered, version 2\n"
    manager = next(c for c in load_site(db, "microgrid").controllers if c.kind == "ev_charging_manager")
    point = manager.charge_points[-1]
    assert (point.id, point.identity, point.max_kw) == ("cp-99", "CP-Nord", 11.0)
    assert run(app, ["approve", "999", "--id", "x"]).exit_code == 2
    assert run(app, ["sunspec", "microgrid", "10.0.0.0/4"]).exit_code == 2
    assert "rejected" in run(app, ["reject", str(meter)]).output
    assert run(app, ["list"]).output == "no device waits\n"
    assert '"serial": "77"' in run(app, ["show", str(meter)]).output


def test_ranges_are_understood_or_refused() -> None:
    assert hosts_of("10.0.0.5, 10.0.0.8-10.0.0.10") == ["10.0.0.5", "10.0.0.8", "10.0.0.9", "10.0.0.10"]
    assert hosts_of("10.0.0.0/30") == ["10.0.0.1", "10.0.0.2"]
    assert hosts_of("inverter-7.local") == ["inverter-7.local"]
    assert numbers_of("1,3-5", 0, 247, "units") == [1, 3, 4, 5]
    for text in ("", "10.0.0.9-10.0.0.5", "10.0.0.0/2", "10.0.0.300/30"):
        with pytest.raises(SearchError):
            hosts_of(text)
    for text in ("", "x", "1-", "248"):
        with pytest.raises(SearchError, match="units"):
            numbers_of(text, 0, 247, "units")
