"""IEC 61850 devices that differ from the simulator's in what the standard leaves open."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence

import pytest

from control_loop.discovery.devices import browse_iec61850
from control_loop.discovery.found import Found, SearchError
from control_loop.protocols import iec61850
from control_loop.protocols.addressing import by_name
from control_loop.protocols.base import DriverError
from control_loop.protocols.objects import ObjectDriver, ObjectHub
from flexergy_pipelines.grid import SiteError
from flexergy_pipelines.grid.connection import ObjectPoint
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore, registering
from flexergy_pipelines.store.field_devices import propose_device
from flexergy_pipelines.store.sites import save_site
from tests.control_loop.wire_bench import commanded, serving, shown

SCRIPT = "iec61850_ied.py"
OBJECTS = (
    ObjectPoint(quantity="active_power_kw", read="ACMEld/MMXU1.TotW", scale=-0.001),
    ObjectPoint(quantity="reactive_power_kvar", read="ACMEld/MMXU1.TotVAr"),
    ObjectPoint(quantity="frequency_hz", read="ACMEld/MMXU1.Hz"),
    ObjectPoint(quantity="voltage_l2_v", read="ACMEld/MMXU1.PhV.phsB"),
    ObjectPoint(quantity="available", read="ACMEld/Q0XCBR1.Pos", write="ACMEld/Q0XCBR1.Pos", kind="double"),
    ObjectPoint(quantity="running", read="ACMEld/GGIO1.SPCSO1", write="ACMEld/GGIO1.SPCSO1", kind="single"),
    ObjectPoint(quantity="step", read="ACMEld/GGIO1.ISCSO1", write="ACMEld/GGIO1.ISCSO1", kind="integer"),
    ObjectPoint(quantity="active_power_setpoint_kw", read="ACMEld/DSCC1.WSpt", write="ACMEld/DSCC1.WSpt", scale=0.001),
)
HERTZ = 49_987 * struct.unpack("f", struct.pack("f", 0.001))[0]
SHOWN: dict[str, float | None] = {
    "active_power_kw": -0.0425, "reactive_power_kvar": None, "frequency_hz": HERTZ,
    "voltage_l2_v": 231.5, "available": 1.0, "running": 0.0, "step": 0.0, "active_power_setpoint_kw": 0.0,
}  # fmt: skip


@contextlib.asynccontextmanager
async def talking_to(
    port: int, objects: Sequence[ObjectPoint], report: str | None = None
) -> AsyncIterator[ObjectDriver]:
    driver = ObjectDriver(
        ObjectHub(iec61850.WORKER),
        "esc-1",
        by_name("esc-1", objects, ["ess-1"], {"ess-1": frozenset(item.quantity for item in objects)}),
        address=lambda: ("127.0.0.1", port),
        assets=["ess-1"],
        more={"report": report},
    )
    try:
        yield driver
    finally:
        await driver.close()


@pytest.mark.requirement("com.01.1")
@pytest.mark.parametrize("report", [None, "ACMEld/LLN0.BR.brcbA"])
def test_values_and_orders_go_by_the_names_of_attributes_and_not_by_their_places(report: str | None) -> None:
    async def check() -> None:
        async with serving(SCRIPT) as port, talking_to(port, OBJECTS, report) as driver:
            await shown(driver, SHOWN)
            orders = {"available": 0.0, "running": 1.0, "step": -7.0, "active_power_setpoint_kw": 12.5}
            for quantity, value in orders.items():
                await commanded(driver, quantity, value)
            await shown(driver, SHOWN | orders)
            # What really goes over the link: far more than its values.
            async with asyncio.timeout(60):
                while driver.health.bytes_received < 5000:
                    with contextlib.suppress(DriverError):
                        await driver.read()
                    await asyncio.sleep(0.05)
            assert driver.health.bytes_sent > 1000
            assert 0 < driver.health.latency_s < 10
            with pytest.raises(DriverError, match=r"not confirmed: 3000000000 is outside -2147483648\.\.2147483647"):
                await driver.write("ess-1", "step", 3e9)  # more than 32 bits

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_a_report_that_another_client_has_is_left_to_it() -> None:
    block = "ACMEld/LLN0.BR.brcbA01"
    wished: dict[str, float | None] = {"active_power_kw": -0.0425}

    async def check() -> None:
        async with (
            serving(SCRIPT) as port,
            talking_to(port, OBJECTS[:1], block) as first,
            talking_to(port, OBJECTS[:1], block) as second,
            talking_to(port, OBJECTS[:1], block) as third,
        ):
            for driver in (first, second, third):
                await shown(driver, wished)
            assert "report" not in first.health.last_error
            assert f"report {block} is not free; ACMEld/LLN0.BR.brcbA02 is taken" in second.health.last_error
            assert f"no report, its points are polled: {block} has another client" in third.health.last_error

    asyncio.run(check())


@pytest.mark.requirement("infra.01.2")
def test_a_browsed_device_is_proposed_with_what_it_is_and_registered_with_its_points(db: TenantStore) -> None:
    async def find() -> Found:
        async with serving(SCRIPT) as port:
            found = await browse_iec61850("127.0.0.1", port)
        with pytest.raises(SearchError, match=f"127.0.0.1:{port}: no association"):
            await browse_iec61850("127.0.0.1", port)
        return found

    save_site(db, sample_site("microgrid"))
    found = asyncio.run(find())
    assert found.template == "generic_genset_controller"
    number = propose_device(
        db, "microgrid", protocol="iec61850", address=found.address, identity=found.identity, template=found.template
    ).proposal_id
    with pytest.raises(SiteError, match="min_kw"):
        registering.approve(db, number, "genset-9", {"max_kw": 100.0}, "anna")
    told = {"min_kw": 10.0, "max_kw": 100.0, "fuel_cost_eur_per_kwh": 0.3, "bus": "busbar"}
    site, _ = registering.approve(db, number, "genset-9", told, "anna")
    connection = next(d for d in site.devices() if d.id == "genset-9").connection
    points = {item.quantity: item for item in connection.objects}
    assert (points["active_power_kw"].read, points["active_power_kw"].scale) == ("ACMEld/MMXU1.TotW", 0.001)
    assert points["voltage_l2_v"].read == "ACMEld/MMXU1.PhV.phsB"
    assert points["active_power_setpoint_kw"].write == "ACMEld/DSCC1.WSpt"
    assert connection.report == "ACMEld/LLN0.BR.brcbA01"
