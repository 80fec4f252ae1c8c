"""Modbus devices as they are: with holes in their registers, busy, behind gateways, limited, confused, or lying."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_loop.protocols import modbus_unit
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_line import TcpLine
from flexergy_pipelines.grid.templates import DeviceTemplate, TemplatePoint
from tests.control_loop.odd_modbus import Answer, Odd, frame, served

NAMES = [f"q{number}" for number in range(12)]
TEMPLATE = DeviceTemplate(
    name="odd",
    points=(
        *(TemplatePoint(quantity=name, table="holding", address=3 * i, type="int16") for i, name in enumerate(NAMES)),
        TemplatePoint(quantity="order", table="holding", address=100, type="int16", access="rw", scale=-0.1),
        TemplatePoint(
            quantity="active_power_limit_kw", table="holding", address=102, type="uint16", access="rw", scale=4.0
        ),
        TemplatePoint(quantity="start", table="coil", address=7, type="bit", access="rw"),
    ),
)


def on_the_wire(device: Odd, talk: Callable[[ModbusDriver], Awaitable[None]], timeout_s: float = 20.0) -> None:
    async def check() -> None:
        async with served(device) as line:
            options: dict[str, Any] = {"timeout_s": timeout_s, "backoff": Backoff(0.0, 0.0)}
            driver = ModbusDriver("odd", line, TEMPLATE, ["a"], {"a": TEMPLATE.quantities}, **options)
            try:
                await talk(driver)
            finally:
                await driver.close()

    asyncio.run(check())


async def read(driver: ModbusDriver) -> dict[str, float | None]:
    return {quantity: value for (_, quantity), value in (await driver.read()).items()}


WHOLE: dict[str, float | None] = {name: 3.0 * i for i, name in enumerate(NAMES)}


@pytest.mark.requirement("com.01.1")
@pytest.mark.parametrize(
    ("device", "lost"),
    [
        (Odd(holes={1, 10, 11}), set[str]()),  # between the points
        (Odd(holes={9, 10, 11, 30}), {"q3", "q10"}),
        (Odd(holes=set(range(100, 110))), {"order", "active_power_limit_kw"}),
        (Odd(largest=5), set[str]()),
    ],
    ids=["gaps", "points", "block", "size"],
)
def test_a_register_that_a_device_lacks_costs_no_other_point(device: Odd, lost: set[str]) -> None:
    async def talk(driver: ModbusDriver) -> None:
        first = await read(driver)
        assert {q for q, value in first.items() if value is None} == lost
        assert {q: v for q, v in first.items() if q in WHOLE and q not in lost} == {
            q: v for q, v in WHOLE.items() if q not in lost
        }
        if lost:
            assert "odd: refuses " in driver.health.last_error
        failures, device.requests[:] = driver.health.failures, []
        assert await read(driver) == first
        assert driver.health.failures == failures, "what was refused is not asked for again and again"
        assert len(device.requests) == len(driver.blocks)

    on_the_wire(device, talk)


def test_a_device_that_refuses_everything_for_a_while_is_read_as_before_afterwards() -> None:
    device = Odd(holes=set(range(200)), unknown_codes=frozenset({1}))

    async def talk(driver: ModbusDriver) -> None:
        before = driver.blocks
        for _ in range(3):
            with pytest.raises(DriverError, match=r"refused: illegal data address \(2\)|illegal function \(1\)"):
                await driver.read()
        assert len(device.requests) < 60, "it is not asked point by point in each cycle"
        device.holes, device.unknown_codes = set(), frozenset()
        assert (await read(driver))["q3"] == 9.0
        assert driver.blocks == before

    on_the_wire(device, talk)


@pytest.mark.requirement("com.01.3")
def test_a_busy_device_is_asked_again_and_what_it_still_works_on_counts_as_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modbus_unit, "PAUSE_S", 0.001)
    device = Odd(refusals=[6, 5])

    async def talk(driver: ModbusDriver) -> None:
        assert (await read(driver))["q11"] == 33.0
        assert driver.health.retries == 2
        device.refusals = [5]
        requests = len(device.requests)
        await driver.write("a", "order", 1.0)
        assert len(device.requests) == requests + 1
        device.refusals = [6] * 9
        with pytest.raises(DriverError, match=r"odd: write 100: refused: device busy \(6\)"):
            await driver.write("a", "order", 1.0)
        assert len(device.requests) == requests + 1 + modbus_unit.TRIES
        assert driver.health.connected

    on_the_wire(device, talk)


def test_a_gateway_without_its_device_is_no_link() -> None:
    device = Odd(refusals=[11])

    async def talk(driver: ModbusDriver) -> None:
        with pytest.raises(DriverError, match=r"refused: gateway target did not respond \(11\)"):
            await driver.read()
        assert len(device.requests) == 1, "the other blocks would only make the gateway wait"
        assert not driver.health.connected

    on_the_wire(device, talk)


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h, _r: frame(h, bytes([4, 2, 0, 1])), "the answer is to function 4, not [31]"),
        (lambda h, r: frame(h, bytes([r[0], 2, 0, 1])), r"\d+ registers instead of \d+|refuses|no answer"),
        (lambda h, _r: frame(h, bytes([0x84, 2])), "the answer is to function 4, not"),
        (lambda h, r: frame(h, bytes([r[0], 200, 0, 1])), "no Modbus frame|registers instead"),
        (lambda h, _r: frame(h, b""), "no answer within|no Modbus frame"),
        (lambda h, _r: frame(h, bytes([0x2B])), "no Modbus frame|function 43"),
        (lambda h, _r: frame(h, b"\x03\x02\0\1", transaction=(int.from_bytes(h[:2]) + 7) % 65536), "no answer within"),
        (lambda h, _r: frame(h, b"\x03\x02\0\1", protocol=99), "no answer within"),
        (lambda h, _r: frame(h, b"\x03\x02\0\1", unit=77), "no answer within"),
        (lambda _h, _r: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no answer within|no Modbus frame"),
        (lambda _h, _r: b"\0" * 2000, "no answer within|no Modbus frame|registers"),
        (lambda _h, _r: None, "no answer within 0.1 s"),
    ],
)  # fmt: skip
def test_what_is_no_answer_to_the_request_is_no_value(make: Answer, message: str) -> None:
    device = Odd(answer=make)

    async def talk(driver: ModbusDriver) -> None:
        with pytest.raises(DriverError, match=message):
            await driver.read()
        assert not driver.health.connected
        device.answer = None
        driver._timeout_s = 20.0
        assert (await read(driver))["q3"] == 9.0

    on_the_wire(device, talk, timeout_s=0.1)


def test_answers_in_pieces_or_with_something_before_them_are_taken() -> None:
    device = Odd()

    def late_one_first(header: bytes, request: bytes) -> bytes:
        old = frame(header, device.pdu(request), transaction=(int.from_bytes(header[:2]) - 1) % 65536)
        return old + frame(header, device.pdu(request))

    async def talk(driver: ModbusDriver) -> None:
        device.answer = late_one_first
        assert (await read(driver))["q3"] == 9.0

    on_the_wire(device, talk)


@pytest.mark.requirement("com.01.1")
def test_a_device_that_takes_single_values_only_is_written_by_the_codes_for_one() -> None:
    device = Odd(unknown_codes=frozenset({15, 16}))

    async def talk(driver: ModbusDriver) -> None:
        await driver.write("a", "order", -12.3)
        await driver.write("a", "start", 1.0)
        await driver.write("a", "order", 5.0)
        assert [request[0] for request in device.requests] == [16, 6, 5, 6]
        assert device.written == {100: 0xFFFF - 49, 7: 1}
        values = await read(driver)
        assert (values["order"], values["start"]) == (5.0, 1.0)

    on_the_wire(device, talk)


def test_an_answer_to_another_write_is_no_confirmation() -> None:
    device = Odd(answer=lambda header, _: frame(header, bytes([16, 0, 99, 0, 1])))

    async def talk(driver: ModbusDriver) -> None:
        with pytest.raises(DriverError, match=r"write 100: the answer is to 99\+1, not 100\+1"):
            await driver.write("a", "order", 1.0)

    on_the_wire(device, talk)


def test_a_limit_is_never_rounded_up_and_stands_as_it_was_told_when_the_registers_hold_it() -> None:
    device = Odd()

    async def talk(driver: ModbusDriver) -> None:
        await driver.write("a", "active_power_limit_kw", 50.5)
        assert device.written[102] == 12  # 48 kW: the register knows steps of 4 kW
        assert (await read(driver))["active_power_limit_kw"] == 50.5
        device.written[102] = 25
        assert (await read(driver))["active_power_limit_kw"] == 100.0

    on_the_wire(device, talk)


def test_a_reading_and_an_order_at_once_make_one_connection() -> None:
    device = Odd()

    async def talk(driver: ModbusDriver) -> None:
        await asyncio.gather(driver.read(), driver.write("a", "order", 1.0), driver.read())
        assert device.connections == 1

    on_the_wire(device, talk)


def test_addresses_beyond_the_last_are_named() -> None:
    far = TEMPLATE.model_copy(update={"asset_stride": 40_000})
    wanted: dict[str, frozenset[str]] = dict.fromkeys(("a", "b", "c"), TEMPLATE.quantities)
    with pytest.raises(ValueError, match="far: q0 of c would lie at holding 80000; addresses end at 65535"):
        ModbusDriver("far", TcpLine(lambda: ("127.0.0.1", 1)), far, list(wanted), wanted)
