"""All protocols side by side in one field: addresses, values, state, and faults that hit only their device."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flexergy_pipelines.grid import SimulatedClock, Site
from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.faults import FaultRequest
from plant_simulator.field import Field, UnknownTargetError
from plant_simulator.fronts import make_front
from tests.plant_simulator.fakes import make_plant

NOW = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)
PROTOCOLS = {"esc-1": "iec104", "res-1": "iec61850", "ev-1": "ocpp16", "load-meter": "dlms"}


def mixed_site() -> Site:
    """The microgrid with a protocol of its own for almost every device."""
    site = sample_site("microgrid")

    def spoken(device: Any) -> Any:
        protocol = PROTOCOLS.get(device.id, "modbus_tcp")
        return device.model_copy(update={"connection": device.connection.model_copy(update={"protocol": protocol})})

    return site.model_copy(
        update={
            "controllers": tuple(spoken(controller) for controller in site.controllers),
            "meters": tuple(spoken(meter) for meter in site.meters),
        }
    )


@contextlib.asynccontextmanager
async def running_field() -> AsyncIterator[tuple[Field, dict[str, str], Callable[[Callable[[], bool]], Any]]]:
    site, clock = mixed_site(), SimulatedClock(NOW)
    field = Field([(site, ReplayedSite(site, ReplayRule.for_now(NOW, site.zone)))], clock, 1)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                clock.advance(0.25)
                await field.step(0.25)
                await asyncio.sleep(0.02)

    addresses = await field.open("127.0.0.1")
    try:
        yield field, addresses, until
    finally:
        await field.close()


def test_every_protocol_is_served_and_stopped() -> None:
    async def check() -> None:
        async with running_field() as (field, addresses, until):
            assert set(addresses) == set(field.devices) - {"microgrid/ev-1"}
            assert len(set(addresses.values())) == len(addresses)
            await until(lambda: all(getattr(d, "ready", True) for d in field.devices.values()))
            spoken = {key: d["protocol"] for key, d in field.state()["sites"]["microgrid"]["devices"].items()}
            assert spoken["microgrid/esc-1"] == "iec104"
            assert spoken["microgrid/res-1"] == "iec61850"
            assert spoken["microgrid/ev-1"] == "ocpp16"
            assert spoken["microgrid/load-meter"] == "dlms"
            assert spoken["microgrid/pcc-meter"] == "modbus_tcp"
            field.fail(FaultRequest(target="microgrid/esc-1", kind="down"))
            await field.step(0.25)
            for key, address in addresses.items():
                host, port = address.split(":")
                if key == "microgrid/esc-1":
                    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
                        await asyncio.open_connection(host, int(port))
                else:
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.close()

    asyncio.run(check())


def test_what_cannot_fail_so_is_refused() -> None:
    site = sample_site("microgrid")
    field = Field([(site, ReplayedSite(site, ReplayRule.for_now(NOW, site.zone)))], SimulatedClock(NOW))
    with pytest.raises(
        UnknownTargetError, match="microgrid/ess-1 cannot have 'down'; possible: bms_trip, bms_alarm, hot_cells"
    ):
        field.fail(FaultRequest(target="microgrid/ess-1", kind="down"))


def test_a_protocol_that_nobody_speaks_is_refused() -> None:
    plant, _ = make_plant()
    device = next(d for d in mixed_site().devices() if d.id == "load-meter")
    meter = type(device)(
        device.id, device.key, device.kind, device.connection.model_copy(update={"protocol": "ocpp16"}), device.assets
    )
    with pytest.raises(ValueError, match="microgrid/load-meter: the simulator does not speak ocpp16"):
        make_front(meter, plant, 1)


def test_a_site_given_twice_is_refused() -> None:
    site = sample_site("microgrid")
    replayed = ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))
    with pytest.raises(ValueError, match="site microgrid is given twice"):
        Field([(site, replayed), (site, replayed)], SimulatedClock(NOW))


def test_a_fast_clock_loses_no_time() -> None:
    site, clock = sample_site("microgrid"), SimulatedClock(NOW)
    field = Field([(site, ReplayedSite(site, ReplayRule.for_now(NOW, site.zone)))], clock, 1)
    plant = field.plants["microgrid"]

    async def half_an_hour() -> None:
        plant.orders.set_ttl_s("ess-1", 7200.0)
        plant.command("ess-1", "active_power_setpoint_kw", -100.0)
        clock.advance(1800.0)
        await field.step(1800.0)

    asyncio.run(half_an_hour())
    assert plant.batteries["ess-1"].charged_kwh == pytest.approx(50.0, rel=0.02)
    # Sun and users go on meanwhile: what a load took is the mean of its series, not its last value.
    series = field.replayed["microgrid"].series("load-1", NOW, NOW + timedelta(minutes=30))
    assert plant.loads["load-1"].energy_kwh == pytest.approx(0.5 * series["value"].mean(), rel=0.03)  # pyright: ignore[reportOperatorIssue]
