"""Points of IEC 61850 devices from SCL files: read, printed as a connection that a site takes, or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from control_loop.protocols.addressing import by_name
from control_loop.protocols.base import DriverError
from control_loop.protocols.cli import app
from control_loop.protocols.factory import drivers_of
from control_loop.protocols.scl import SclError, read_scl
from flexergy_pipelines.grid import Connection, Controller, load_template
from flexergy_pipelines.grid.connection import ObjectPoint
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings

FILE = Path(__file__).with_name("data") / "storage.scd"


@pytest.mark.requirement("com.01.1")
def test_an_scd_file_becomes_the_connection_of_a_controller() -> None:
    done = CliRunner().invoke(app, ["import-scl", str(FILE), "--ied", "BESS1", "--host", "10.0.0.9"])
    assert done.exit_code == 0, done.output
    connection = Connection.model_validate(yaml.safe_load(done.output)["connection"])
    assert (connection.host, connection.port, connection.report) == ("10.0.0.9", 102, "BESS_A/LLN0.BR.brcbMeas")
    template = load_template(connection.template)
    objects = by_name("esc-9", connection.objects, ["ess-9"], {"ess-9": template.quantities})
    assert objects.shown["ess-9", "active_power_kw"].name == "BESS_A/GridMMXU1.TotW"
    assert objects.shown["ess-9", "active_power_kw"].scale == 0.001
    assert objects.shown["ess-9", "soc"].scale == 0.01
    assert objects.orders["ess-9", "active_power_setpoint_kw"].name == "BESS1CTL/DRCC2.OutWSet"
    assert ("ess-9", "frequency_hz") not in objects.shown


def test_every_data_object_can_be_listed_and_a_device_must_be_named() -> None:
    run = CliRunner().invoke
    listed = run(app, ["import-scl", str(FILE), "--ied", "BESS1", "--all"]).output
    assert "BESS_A/DBAT1.BatSt" in listed
    assert "BESS_A/LLN0.RP.urcbMeas01" in listed
    assert "NamPlt" not in listed
    for arguments in ([], ["--ied", "NONE"]):
        refused = run(app, ["import-scl", str(FILE), *arguments])
        assert refused.exit_code == 2
        assert "BESS1, RTU9" in refused.output


def test_units_control_models_and_addresses_are_those_of_the_device_and_not_of_its_class() -> None:
    file = FILE.with_name("units.scd")
    done = CliRunner().invoke(app, ["import-scl", str(file), "--ied", "BESS1"])
    assert done.exit_code == 0, done.output
    connection = Connection.model_validate(yaml.safe_load(done.output)["connection"])
    assert connection.host == "10.1.2.3"
    points = {item.quantity: item for item in connection.objects}
    assert points["active_power_kw"].scale == 1.0
    assert points["reactive_power_kvar"].scale == 1000.0
    assert points["voltage_l1_v"].read == "BESS1LD0/MMXU1.PhV.phsA"
    assert points["active_power_setpoint_kw"].write == "BESS1LD0/DRCC2.WSpt", "the other is for its status only"
    refused = CliRunner().invoke(app, ["import-scl", str(file), "--ied", "CLIENT"])
    assert refused.exit_code == 2
    assert "CLIENT: no data object's name tells its quantity" in refused.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<SCL/>", "names no IED"),
        ("<Plant/>", "is no SCL file"),
        ('<?xml version="1.0" encoding="utf-7"?><SCL/>', "is no XML: multi-byte encodings"),
        ("no xml", "is no XML"),
        ('<SCL xmlns="http://www.iec.ch/61850/2003/SCL"/>', "names no IED"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><SCL>&a;</SCL>', "EntitiesForbidden"),
    ],
)
def test_what_is_no_scl_is_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.icd"
    file.write_text(content)
    with pytest.raises(SclError, match=message):
        read_scl(file)
    with pytest.raises(SclError, match="No such file"):
        read_scl(tmp_path / "none.icd")


def test_names_of_objects_must_fit_the_assets_and_schedules_must_be_whole() -> None:
    wanted = {"a": frozenset({"soc"}), "b": frozenset({"soc"})}
    with pytest.raises(ValueError, match=r"dev: object of soc: asset \(none\) is not one of a, b"):
        by_name("dev", [ObjectPoint(quantity="soc", read="1")], ["a", "b"], wanted)
    slots = [ObjectPoint(asset="a", quantity=f"schedule_{i}", write=str(i)) for i in (1, 2, 4)]
    with pytest.raises(ValueError, match="dev: schedule of a: schedule_3, schedule_start is missing"):
        by_name("dev", [*slots, ObjectPoint(asset="a", quantity="schedule_5", write="5")], ["a", "b"], wanted)
    start = ObjectPoint(asset="a", quantity="schedule_start", write="9")
    whole = [ObjectPoint(asset="a", quantity=f"schedule_{i}", write=str(i)) for i in (1, 2, 3, 4)]
    kept = by_name("dev", [*whole, start, ObjectPoint(quantity="heartbeat", write="77")], ["a", "b"], wanted)
    assert [item.name for item in kept.slots["a"][0]] == ["1", "2", "3", "4"]
    assert kept.heartbeat is not None
    with pytest.raises(ValueError, match="neither read nor write"):
        ObjectPoint(quantity="soc")


def test_one_device_that_is_configured_wrongly_does_not_keep_the_site_from_being_controlled(tmp_path: Path) -> None:
    site = sample_site("microgrid")

    def wrong(controller: Controller) -> Controller:
        if controller.id != "res-1":
            return controller
        objects = (ObjectPoint(asset="pv-9", quantity="active_power_kw", read="1"),)
        told = {"protocol": "iec104", "objects": objects}
        return controller.model_copy(update={"connection": controller.connection.model_copy(update=told)})

    broken = site.model_copy(update={"controllers": tuple(wrong(c) for c in site.controllers)})
    drivers = {driver.device: driver for driver in drivers_of(broken, Settings(tmp_path, None, "demo"))}
    assert set(drivers) == {device.id for device in site.devices() if device.assets}
    assert drivers["res-1"].assets == {"pv-1", "wind-1"}
    with pytest.raises(DriverError, match="res-1: object of active_power_kw: asset pv-9 is not one of pv-1, wind-1"):
        asyncio.run(drivers["res-1"].read())
    with pytest.raises(DriverError, match="was not sent"):
        asyncio.run(drivers["res-1"].write("pv-1", "active_power_limit_kw", 1.0))
