"""OCPP 1.6J charge points towards a central system: a whole session, limits, remote orders, and life offline."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from ocpp.routing import on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call, call_result
from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import AuthorizationStatus, ChargingRateUnitType, RegistrationStatus, ResetType
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from flexergy_pipelines.grid import SimulatedClock
from plant_simulator.charging import ChargePoint
from plant_simulator.faults import FaultRequest
from plant_simulator.fronts import OcppFront
from plant_simulator.ocpp_charger import Charger
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run


class Heard(OcppChargePoint):
    """The central system's side of one charge point; keeps what it hears."""

    def __init__(self, name: str, connection: ServerConnection, central: Central) -> None:
        super().__init__(name, connection, response_timeout=20)
        self.central = central

    def note(self, action: str, payload: dict[str, Any]) -> None:
        self.central.messages.append((self.id, action, payload))

    @on("BootNotification")
    def on_boot(self, **payload: Any) -> Any:
        self.note("BootNotification", payload)
        return call_result.BootNotification(
            current_time="2026-06-03T10:00:00Z", interval=300, status=RegistrationStatus.accepted
        )

    @on("Heartbeat")
    def on_heartbeat(self) -> Any:
        self.note("Heartbeat", {})
        return call_result.Heartbeat(current_time="2026-06-03T10:00:00Z")

    @on("StatusNotification")
    def on_status(self, **payload: Any) -> Any:
        self.note("StatusNotification", payload)
        return call_result.StatusNotification()

    @on("Authorize")
    def on_authorize(self, id_tag: str) -> Any:
        self.note("Authorize", {"id_tag": id_tag})
        return call_result.Authorize(id_tag_info=IdTagInfo(status=self.central.verdict))

    @on("StartTransaction")
    def on_start(self, **payload: Any) -> Any:
        self.note("StartTransaction", payload)
        self.central.transactions += 1
        return call_result.StartTransaction(
            transaction_id=self.central.transactions, id_tag_info=IdTagInfo(status=self.central.verdict)
        )

    @on("MeterValues")
    def on_meter_values(self, **payload: Any) -> Any:
        self.note("MeterValues", payload)
        return call_result.MeterValues()

    @on("StopTransaction")
    def on_stop(self, **payload: Any) -> Any:
        self.note("StopTransaction", payload)
        return call_result.StopTransaction()


class Central:
    """A small central system for the tests."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, dict[str, Any]]] = []
        self.points: dict[str, Heard] = {}
        self.transactions = 0
        self.verdict = AuthorizationStatus.accepted
        self._server: Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await serve(self._meet, "127.0.0.1", self.port, subprotocols=[Subprotocol("ocpp1.6")])
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _meet(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        name = connection.request.path.rsplit("/", 1)[-1]
        self.points[name] = Heard(name, connection, self)
        with contextlib.suppress(ConnectionClosed):
            await self.points[name].start()

    def of(self, name: str, action: str) -> list[dict[str, Any]]:
        return [payload for who, what, payload in self.messages if (who, what) == (name, action)]


@dataclasses.dataclass
class Bench:
    """Charge points of a running plant and the central system they talk to."""

    plant: Plant
    clock: SimulatedClock
    front: OcppFront
    central: Central
    running: asyncio.Task[None] | None = None

    @property
    def charger(self) -> Charger:
        return self.front.chargers[0]

    @property
    def point(self) -> ChargePoint:
        return self.charger.point

    async def run(self) -> None:
        while True:
            run(self.plant, self.clock, 1)
            await self.front.refresh()
            await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                assert self.running is not None
                if self.running.done():
                    self.running.result()
                await asyncio.sleep(0.01)

    async def ask(self, payload: Any) -> Any:
        return await self.central.points["cp-01"].call(payload)


@contextlib.asynccontextmanager
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("plant_simulator.ocpp_link.FIRST_BACKOFF_S", 0.05)
    plant, clock = make_plant()
    central = Central()
    await central.start()
    device = next(d for d in plant.site.devices() if d.id == "ev-1")
    connection = device.connection.model_copy(update={"protocol": "ocpp16", "port": central.port})
    front = OcppFront(dataclasses.replace(device, connection=connection), plant, 1)
    it = Bench(plant, clock, front, central)
    await front.start("127.0.0.1")
    it.running = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        it.running.cancel()
        await asyncio.gather(it.running, return_exceptions=True)
        await front.stop()
        await central.stop()


def with_bench(monkeypatch: pytest.MonkeyPatch, check: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with bench(monkeypatch) as it:
            await check(it)

    asyncio.run(body())


def limit_profile(number: int, limit_w: float) -> dict[str, Any]:
    return {
        "chargingProfileId": number,
        "stackLevel": 1,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {
            "startSchedule": "2026-06-03T00:00:00Z",
            "chargingRateUnit": "W",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_w}],
        },
    }


def test_a_session_from_boot_to_meter_values(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.central.of("cp-01", "MeterValues"))
        actions = [what for who, what, _ in it.central.messages if who == "cp-01" and what != "StatusNotification"]
        assert actions[:3] == ["BootNotification", "Authorize", "StartTransaction"]
        statuses = [payload["status"] for payload in it.central.of("cp-01", "StatusNotification")]
        assert statuses[0] == "Preparing"
        await it.until(lambda: it.central.of("cp-01", "StatusNotification")[-1]["status"] == "Charging")
        values = it.central.of("cp-01", "MeterValues")[-1]
        measured = {v["measurand"]: float(v["value"]) for v in values["meter_value"][0]["sampled_value"]}
        assert measured["Power.Active.Import"] == pytest.approx(11_000, rel=0.1)
        assert 0 < measured["SoC"] < 100
        assert values["transaction_id"] >= 1

    with_bench(monkeypatch, check)


def test_profiles_limit_the_car_and_are_cleared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.point.power_kw > 10)
        answer = await it.ask(call.SetChargingProfile(connector_id=1, cs_charging_profiles=limit_profile(1, 4830.0)))
        assert answer.status == "Accepted"
        await it.until(lambda: it.point.power_kw == pytest.approx(4.83))
        for unit, limit in ((ChargingRateUnitType.watts, 4830.0), (ChargingRateUnitType.amps, 7.0)):
            asked = call.GetCompositeSchedule(connector_id=1, duration=2**31 - 1, charging_rate_unit=unit)
            schedule = (await it.ask(asked)).charging_schedule
            assert schedule["charging_rate_unit"] == unit
            assert schedule["charging_schedule_period"] == [{"start_period": 0, "limit": limit}]
        assert (await it.ask(call.GetCompositeSchedule(connector_id=7, duration=600))).status == "Rejected"
        # Less than 6 A a phase (4.14 kW) is no charging current: the car pauses.
        answer = await it.ask(call.SetChargingProfile(connector_id=1, cs_charging_profiles=limit_profile(2, 4000.0)))
        await it.until(lambda: it.central.of("cp-01", "StatusNotification")[-1]["status"] == "SuspendedEVSE")
        assert (await it.ask(call.ClearChargingProfile(id=2))).status == "Accepted"
        await it.until(lambda: it.point.power_kw > 10)

    with_bench(monkeypatch, check)


def test_a_refused_driver_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        it.central.verdict = AuthorizationStatus.blocked
        await it.until(lambda: len(it.central.of("cp-01", "Authorize")) >= 2)
        assert it.point.energy_kwh == 0.0
        assert it.central.of("cp-01", "StartTransaction") == []
        it.central.verdict = AuthorizationStatus.accepted
        await it.until(lambda: it.point.power_kw > 0)

    with_bench(monkeypatch, check)


def test_remote_stop_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.charger.running is not None and it.charger.running.transaction_id)
        assert it.charger.running is not None
        number = it.charger.running.transaction_id
        assert number is not None
        assert (await it.ask(call.RemoteStopTransaction(transaction_id=number + 99))).status == "Rejected"
        assert (await it.ask(call.RemoteStopTransaction(transaction_id=number))).status == "Accepted"
        await it.until(lambda: it.central.of("cp-01", "StopTransaction"))
        assert it.central.of("cp-01", "StopTransaction")[0]["reason"] == "Remote"
        await it.until(lambda: it.point.power_kw == 0.0)
        change = call.ChangeConfiguration(key="MeterValueSampleInterval", value="5")
        assert (await it.ask(change)).status == "Accepted"
        read = await it.ask(call.GetConfiguration(key=["MeterValueSampleInterval", "Colour"]))
        assert read.configuration_key[0]["value"] == "5"
        assert read.unknown_key == ["Colour"]
        assert (await it.ask(call.ChangeConfiguration(key="NumberOfConnectors", value="9"))).status == "Rejected"

    with_bench(monkeypatch, check)


def test_transactions_while_the_central_system_is_away_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.central.of("cp-01", "MeterValues"))
        await it.central.stop()
        await it.until(lambda: not it.charger.registered)
        told = len(it.central.of("cp-01", "MeterValues"))
        await it.until(lambda: len(it.charger.outbox) >= 5)
        it.charger.point.send_away()
        await it.until(lambda: it.charger.running is None)
        waiting = sum(note.is_sample for note in it.charger.outbox)
        await it.central.start()
        await it.until(lambda: it.central.of("cp-01", "StopTransaction"))
        assert len(it.central.of("cp-01", "MeterValues")) >= told + waiting
        stop = it.central.of("cp-01", "StopTransaction")[0]
        assert stop["transaction_id"] == 1 or stop["transaction_id"] > 0
        assert stop["meter_stop"] > 0
        stamps = [m["meter_value"][0]["timestamp"] for m in it.central.of("cp-01", "MeterValues")]
        assert stamps == sorted(stamps)

    with_bench(monkeypatch, check)


def test_a_reset_hangs_up_and_boots_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.central.of("cp-01", "StartTransaction"))
        assert (await it.ask(call.Reset(type=ResetType.soft))).status == "Accepted"
        await it.until(lambda: len(it.central.of("cp-01", "BootNotification")) == 2)
        assert it.central.of("cp-01", "StopTransaction")[0]["reason"] == "SoftReset"

    with_bench(monkeypatch, check)


def test_a_cut_line_and_a_skewed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(it: Bench) -> None:
        await it.until(lambda: it.charger.registered)
        it.plant.faults.set(FaultRequest(target="microgrid/ev-1", kind="down"))
        await it.until(lambda: not any(charger.registered for charger in it.front.chargers))
        it.plant.faults.clear()
        it.plant.faults.set(FaultRequest(target="microgrid/ev-1", kind="clock_skew", value=-86_400.0))
        begun = len(it.central.messages)
        await it.until(
            lambda: any(
                payload.get("timestamp", "").startswith("2026-06-02")
                for who, what, payload in it.central.messages[begun:]
                if what == "StatusNotification" and who == "cp-01"
            )
        )

    with_bench(monkeypatch, check)
