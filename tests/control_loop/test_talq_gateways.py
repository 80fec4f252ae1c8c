"""TALQ gateways as they are in the field: without groups, with answers of their own, slow, wrong and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from control_loop.protocols import talq_client
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.talq import LIMIT, TalqDriver
from control_loop.protocols.talq_messages import FULL, programs_of
from flexergy_pipelines.grid import load_template

ZONE = ZoneInfo("Europe/Amsterdam")
POWER = "active_power_kw"
RATED_KW = 4.0
Answer = tuple[int, bytes] | tuple[int, bytes, float]


def lamp(name: str, level: Any = 100, watt: Any = 1000.0, calendar: str | None = None) -> dict[str, Any]:
    actuator: dict[str, Any] = {"id": "a", "type": "LampActuatorFunction"}
    actuator["actualLightState"] = {"type": "AttributeLevelState", "value": level}
    if calendar is not None:
        actuator["calendarID"] = {"type": "AttributeString", "value": calendar}
    monitor: dict[str, Any] = {"id": "m", "type": "LampMonitorFunction", "activePower": {"type": "AttributeFloat"}}
    if watt is not None:
        monitor["activePower"]["value"] = watt
    return {"address": name, "class": "Lamp", "functions": [actuator, monitor]}


class OddGateway:
    """A gateway whose answers the test makes; what it was asked is kept."""

    def __init__(self, shown: Any, **answers: Answer) -> None:
        self.devices = shown
        self.answers: dict[str, Answer] = {path.replace("_", "-"): answer for path, answer in answers.items()}
        self.asked: list[tuple[str, str, Any]] = []

    def of(self, path: str) -> list[Any]:
        return [body for _, asked, body in self.asked if asked == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, _ = head.split(" ", 2)
                lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(lines.get("content-length", "0")))
                path = target.partition("?")[0].strip("/")
                self.asked.append((method, path, json.loads(body) if body else None))
                default: Answer = (200, json.dumps(self.devices).encode()) if path == "devices" else (201, b"")
                status, content, *pause = self.answers.get(path, default)
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(content)}\r\n\r\n".encode())
                for place in range(0, len(content), 1 if pause else len(content) or 1):
                    writer.write(content[place : place + (1 if pause else len(content))])
                    await writer.drain()
                    await asyncio.sleep(pause[0] if pause else 0)
        writer.transport.abort()


def with_driver(
    gateway: OddGateway, talk: Callable[[TalqDriver], Awaitable[None]], template: str = "talq_lamps"
) -> None:
    async def body() -> None:
        server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        driver = TalqDriver(
            "lamps", lambda: ("127.0.0.1", port), load_template(template), ["street"],
            {"street": frozenset({POWER, LIMIT, "import_energy_kwh"})}, rated_kw=RATED_KW, zone=ZONE,
            backoff=Backoff(0.0, 0.0),
        )  # fmt: skip
        try:
            await talk(driver)
        finally:
            await driver.close()
            server.close()

    asyncio.run(body())


HTML = b"<html><body>Not Found</body></html>"
ODD = [
    ((404, HTML), "GET /devices: 404"),
    ((404, b'[{"key": "resourceNotFound", "description": "no devices"}]'), "404 resourceNotFound: no devices"),
    ((500, b"internal error in module 7"), "500 internal error in module 7"),
    ((401, b""), "401 it wants a log-in"),
    ((200, HTML), "the answer is no JSON, it begins with b'<html>"),
    ((200, b'{"devices": []}'), "a list of devices is wanted, not dict"),
    ((200, b'[1, "x", {"name": "y"}]'), "no entry of the list of devices has an address"),
    ((200, b"[" * 100_000), "the answer is no JSON"),
    ((200, b" " * 40_000), "the answer is longer than"),
    ((200, b"[        ]", 0.05), "the answer does not come to an end"),
]


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(("answer", "message"), ODD)
def test_an_answer_that_makes_no_sense_is_told_in_a_line_and_tried_again(
    answer: Answer, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = OddGateway([lamp("l1")], devices=answer)

    async def talk(driver: TalqDriver) -> None:
        if "longer" in message:
            monkeypatch.setattr(talq_client, "LARGEST_ANSWER", 30_000)
        if "end" in message:
            monkeypatch.setattr(talq_client, "WHOLE_ANSWER_TIMEOUTS", 0.1)
        for _ in range(2):
            with pytest.raises(DriverError, match="lamps: ") as told:
                await driver.read()
            assert message in str(told.value)
            assert "\n" not in str(told.value)
            assert not driver.health.connected
        gateway.answers.clear()
        assert (await driver.read())["street", POWER] == 1.0

    with_driver(gateway, talk)


@pytest.mark.requirement("com.01.2")
def test_lamps_of_a_gateway_without_groups_and_loggers_are_told_one_by_one() -> None:
    refusal = (405, b'[{"key": "genericError", "description": "no groups here"}]')
    gateway = OddGateway([lamp("l1"), lamp("l2"), {"address": "bin", "functions": "none"}, 7], groups=refusal)

    async def talk(driver: TalqDriver) -> None:
        await driver.read()
        await driver.write("street", LIMIT, 0.5 * RATED_KW)
        (order,) = gateway.of("override-commands")
        assert [target["address"] for target in order["addresses"]] == ["l1", "l2"]
        assert order["targetCommand"]["state"]["value"] == 50
        gateway.devices = [*gateway.devices, lamp("l3")]
        driver.announce([])
        await driver.read()
        await driver.write("street", LIMIT, 0.5 * RATED_KW)
        assert len(gateway.of("override-commands")[-1]["addresses"]) == 3

    with_driver(gateway, talk)


def test_a_lamp_that_comes_later_is_dimmed_with_the_others() -> None:
    gateway = OddGateway([lamp("l1")])

    async def talk(driver: TalqDriver) -> None:
        await driver.read()
        gateway.devices = [lamp("l1"), lamp("l2")]
        await driver.read()
        assert [m["address"] for m in gateway.of("groups")[-1][0]["members"]] == ["l1", "l2"]
        asked = len(gateway.of("groups"))
        await driver.read()
        assert len(gateway.of("groups")) == asked

    with_driver(gateway, talk)


@pytest.mark.parametrize(
    ("devices", "power_kw", "limit_kw"),
    [
        ([lamp("l1"), lamp("l2", watt=None)], None, 4.0),
        ([lamp("l1"), lamp("l2", watt=True)], None, 4.0),
        ([lamp("l1"), lamp("l2", watt="1000")], None, 4.0),
        ([lamp("l1", level={"name": "LevelState", "value": 0}), lamp("l2", level=0.0)], 2.0, 4.0),
        ([lamp("l1", level=None)], 1.0, None),
        ([lamp("l1", level=True)], 1.0, None),
        ([lamp("l1", level=150)], 1.0, None),
        ([], None, None),
    ],
    ids=["one silent", "true", "text", "dark by day", "no level", "level true", "level 150", "no lamps"],
)
def test_a_sum_is_of_all_lamps_or_missing_and_dark_lamps_obey(
    devices: Any, power_kw: float | None, limit_kw: float | None
) -> None:
    async def talk(driver: TalqDriver) -> None:
        found = await driver.read()
        assert (found["street", POWER], found["street", LIMIT]) == (power_kw, limit_kw)

    with_driver(OddGateway(devices), talk)


def test_an_order_without_effect_shows_and_one_that_lamps_are_below_does_not() -> None:
    gateway = OddGateway([lamp("l1", level=100)])

    async def talk(driver: TalqDriver) -> None:
        await driver.read()
        await driver.write("street", LIMIT, 0.5 * RATED_KW)
        assert (await driver.read())["street", LIMIT] == RATED_KW  # nothing happened
        for level in (50, 20, 0):
            gateway.devices = [lamp("l1", level=level)]
            assert (await driver.read())["street", LIMIT] == 0.5 * RATED_KW

    with_driver(gateway, talk)


def test_several_meters_of_one_cabinet_are_added() -> None:
    meters = [{"id": n, "type": "ElectricalMeterFunction", "totalPower": {"value": 500.0}} for n in ("m1", "m2")]

    async def talk(driver: TalqDriver) -> None:
        assert (await driver.read())["street", POWER] == 1.0
        driver.take_reports([{"entries": [{"data": {
            "type": "AttributeLogData", "srcAddress": "cab/m2", "attributeName": "totalPower",
            "attributeValue": {"value": 700.0},
        }}, 5, {"data": None}]}, {"entries": "x"}])  # fmt: skip
        driver.take_reports([{"entries": [{"data": {
            "type": "AttributeLogData", "srcAddress": "stranger/m2", "attributeName": "totalPower",
            "attributeValue": {"value": 9e9},
        }}]}])  # fmt: skip
        assert (await driver.read())["street", POWER] == pytest.approx(1.2)

    with_driver(OddGateway([{"address": "cab", "functions": meters}]), talk, "talq_cabinet")


@pytest.mark.requirement("com.01.2", "energy.12.1")
def test_lamps_get_their_own_calendar_back_when_nothing_is_to_be_held_back() -> None:
    gateway = OddGateway([lamp("l1", calendar="night"), lamp("l2", calendar="park")])
    start = datetime(2026, 3, 1, 20, tzinfo=ZONE)

    async def talk(driver: TalqDriver) -> None:
        await driver.read()
        await driver.write_schedule("street", start, [RATED_KW] * 4)
        assert gateway.of("assign-commands") == []  # nothing is taken from them
        await driver.write_schedule("street", start, [RATED_KW, 2.0, 2.0, RATED_KW])
        assert gateway.of("assign-commands")[0]["entity"]["address"] == "lamps-next-hour"
        await driver.write_schedule("street", start + timedelta(hours=1), [RATED_KW] * 4)
        given = {
            c["entity"]["address"]: [a["address"] for a in c["addresses"]] for c in gateway.of("assign-commands")[1:]
        }
        assert given == {"night": ["l1"], "park": ["l2"]}
        await driver.write_schedule("street", start + timedelta(hours=2), [RATED_KW] * 4)
        assert len(gateway.of("assign-commands")) == 3

    with_driver(gateway, talk)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (datetime(2026, 3, 1, 20, tzinfo=ZONE), [{"00:00:00": 100, "20:00:00": 10, "20:15:00": 20, "20:30:00": 30,
                                                   "20:45:00": 40, "21:00:00": 100}]),
        (datetime(2026, 3, 1, 23, 30, tzinfo=ZONE), [{"00:00:00": 100, "23:30:00": 10, "23:45:00": 20},
                                                      {"00:00:00": 30, "00:15:00": 40, "00:30:00": 100}]),
        (datetime(2026, 10, 25, 2, 15, tzinfo=ZONE), [{"00:00:00": 100, "02:00:00": 40, "02:15:00": 10, "02:30:00": 20,
                                                        "02:45:00": 30, "03:15:00": 100}]),
        (datetime(2026, 3, 29, 1, 30, tzinfo=ZONE), [{"00:00:00": 100, "01:30:00": 10, "01:45:00": 20, "03:00:00": 30,
                                                       "03:15:00": 40, "03:30:00": 100}]),
    ],
    ids=["evening", "over midnight", "in the night of two two o'clocks", "over the hour that is left out"],
)  # fmt: skip
def test_programs_are_of_one_day_each_in_rising_order(start: datetime, told: list[dict[str, int]]) -> None:
    programs = programs_of("p", "cms", start, timedelta(minutes=15), [10, 20, 30, 40], ZONE)
    found = [
        {c["startTime"]: c["command"]["state"]["value"] for c in program["fixedTimeControls"]}
        for program in programs.values()
    ]
    assert found == told
    assert [list(day) for day in found] == [sorted(day) for day in found]
    assert list(programs) == sorted(programs)
    assert FULL in found[-1].values()
