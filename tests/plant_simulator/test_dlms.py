"""DLMS/COSEM on the wire with a client nobody here wrote: objects, load profile by range, password, keys, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from dlms_cosem import cosem, enumerations, exceptions
from dlms_cosem.client import DataResultError, DlmsClient
from dlms_cosem.connection import DlmsConnection
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.io import BlockingTcpIO, TcpTransport
from dlms_cosem.protocol import xdlms
from dlms_cosem.security import (
    HighLevelSecurityGmacAuthentication,
    LowLevelSecurityAuthentication,
    NoSecurityAuthentication,
)
from dlms_cosem.time import datetime_from_bytes
from dlms_cosem.utils import parse_as_dlms_data
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.grid import SimulatedClock
from plant_simulator.dlms_meter import PROFILE_DAYS, DlmsMeter
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD, Association
from plant_simulator.faults import FaultRequest
from plant_simulator.fronts import DlmsFront
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import START, PlainSeries, make_plant, run

Interface = enumerations.CosemInterface


@dataclasses.dataclass
class Bench:
    """The load's meter on a free port."""

    plant: Plant
    clock: SimulatedClock
    front: DlmsFront

    async def pass_time(self, seconds: int, dt_s: float = 1.0) -> None:
        for _ in range(round(seconds / dt_s)):
            run(self.plant, self.clock, dt_s, dt_s)
            await self.front.refresh()

    def client(self, authentication: Any, **more: Any) -> DlmsClient:
        transport = TcpTransport(1, 1, BlockingTcpIO("127.0.0.1", self.front.server.port, timeout=20))
        return DlmsClient(transport=transport, authentication=authentication, **more)

    def trusted(self) -> DlmsClient:
        return self.client(LowLevelSecurityAuthentication(secret=PASSWORD))

    def ciphered(self, counter: int, key: bytes = ENCRYPTION_KEY) -> DlmsClient:
        return self.client(
            HighLevelSecurityGmacAuthentication(challenge_length=16),
            encryption_key=key,
            authentication_key=AUTHENTICATION_KEY,
            client_system_title=b"FLXCLI01",
            client_initial_invocation_counter=counter,
        )


@contextlib.contextmanager
def session(client: DlmsClient) -> Iterator[DlmsClient]:
    """An association that is ended whatever happens in it."""
    client.connect()
    try:
        client.associate()
        yield client
        client.release_association()
    finally:
        client.disconnect()


def read(client: DlmsClient, interface: Interface, obis: str, attribute: int = 2, selection: Any = None) -> Any:
    where = cosem.CosemAttribute(interface, cosem.Obis(*map(int, obis.split("."))), attribute)
    return parse_as_dlms_data(client.get(where, selection))


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "load-meter")
    connection = device.connection.model_copy(update={"protocol": "dlms", "port": 24_059})
    front = DlmsFront(dataclasses.replace(device, connection=connection), plant, 1)
    await front.start("127.0.0.1")
    try:
        yield Bench(plant, clock, front)
    finally:
        await front.stop()


def on_the_wire(check: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with bench() as it:
            await check(it)

    asyncio.run(body())


def test_registers_and_clock_by_password() -> None:
    def ask(it: Bench) -> dict[str, Any]:
        with session(it.trusted()) as client:
            return {
                "power_w": read(client, Interface.REGISTER, "1.0.1.7.0.255"),
                "unit": read(client, Interface.REGISTER, "1.0.1.7.0.255", 3),
                "by_phase_w": [read(client, Interface.REGISTER, f"1.0.{20 * n + 1}.7.0.255") for n in (1, 2, 3)],
                "frequency": read(client, Interface.REGISTER, "1.0.14.7.0.255"),
                "voltage": read(client, Interface.REGISTER, "1.0.32.7.0.255"),
                "energy_wh": read(client, Interface.REGISTER, "1.0.1.8.0.255"),
                "clock": datetime_from_bytes(bytes(read(client, Interface.CLOCK, "0.0.1.0.0.255")))[0],
            }

    async def check(it: Bench) -> None:
        await it.pass_time(60)
        got = await asyncio.to_thread(ask, it)
        assert got["power_w"] == pytest.approx(1000 * it.plant.measure("load-1", "active_power_kw"), abs=1)
        assert got["unit"] == [0, 27]
        assert sum(got["by_phase_w"]) == pytest.approx(got["power_w"], abs=2)
        assert got["frequency"] == pytest.approx(50_000, abs=200)
        assert got["voltage"] == pytest.approx(2300, rel=0.05)
        assert got["energy_wh"] == pytest.approx(1000 * it.plant.measure("load-1", "import_energy_kwh"), abs=1)
        assert got["clock"] == it.clock.now()

    on_the_wire(check)


def test_a_load_profile_by_range_and_as_a_whole_in_blocks() -> None:
    begin, end = START - timedelta(days=2), START - timedelta(days=1)

    def ask(it: Bench) -> tuple[Any, Any, Any]:
        clock = cosem.CosemAttribute(Interface.CLOCK, cosem.Obis(0, 0, 1, 0, 0, 255), 2)
        selection = RangeDescriptor(CaptureObject(clock), begin, end)
        with session(it.trusted()) as client:
            profile = (Interface.PROFILE_GENERIC, "1.0.99.1.0.255")
            return (
                read(client, *profile, selection=selection),
                read(client, *profile),
                read(client, *profile, 3),
            )

    async def check(it: Bench) -> None:
        await it.pass_time(1800, dt_s=10.0)
        one_day, everything, columns = await asyncio.to_thread(ask, it)
        assert len(one_day) == 97
        stamps = [datetime_from_bytes(bytes(row[0]))[0] for row in one_day]
        assert (stamps[0], stamps[-1]) == (begin, end)
        wanted = PlainSeries(it.plant.site).value("load-1", begin)
        assert one_day[0][2] == pytest.approx(250 * wanted, abs=1)
        assert len(everything) == PROFILE_DAYS * 96
        assert datetime_from_bytes(bytes(everything[-1][0]))[0] == START + timedelta(minutes=30)
        assert everything[-1][2] == pytest.approx(250 * wanted, rel=0.05)
        assert [column[0] for column in columns] == [8, 1, 3, 3]

    on_the_wire(check)


def test_entries_of_the_profile_by_number_and_what_objects_say_of_themselves() -> None:
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "load-meter")
    meter = DlmsMeter(device, plant)
    association = Association(meter)
    association.trusted = association._open = True
    where = bytes([0, 7, 1, 0, 99, 1, 0, 255, 2])
    numbers = b"\x06\x00\x00\x00\x03\x06\x00\x00\x00\x04\x12\x00\x01\x12\x00\x00"
    answer = association.answer(b"\xc0\x01\xc1" + where + b"\x01\x02\x02\x04" + numbers)
    rows = cast("list[list[Any]]", parse_as_dlms_data(answer[4:]))
    assert [row[2] for row in rows] == [entry.import_wh for entry in list(meter.profile)[2:4]]
    name = association.answer(b"\xc0\x01\xc1" + bytes([0, 3, 1, 0, 1, 7, 0, 255, 1]) + b"\x00")
    assert name[4:] == bytes([9, 6, 1, 0, 1, 7, 0, 255])
    zone = association.answer(b"\xc0\x01\xc1" + bytes([0, 8, 0, 0, 1, 0, 0, 255, 3]) + b"\x00")
    standard = clock.now().astimezone(plant.site.zone).replace(month=1).utcoffset()
    assert standard is not None
    assert int.from_bytes(zone[5:7], signed=True) == -standard.total_seconds() / 60


def test_keys_with_gmac_and_a_counter_that_must_grow() -> None:
    def ask(it: Bench, counter: int, key: bytes = ENCRYPTION_KEY) -> Any:
        with session(it.ciphered(counter, key)) as client:
            return read(client, Interface.REGISTER, "1.0.1.7.0.255")

    def last_counter(it: Bench) -> int:
        with session(it.client(NoSecurityAuthentication())) as client:
            return read(client, Interface.DATA, "0.0.43.1.0.255")

    async def check(it: Bench) -> None:
        power_w = 1000 * it.plant.measure("load-1", "active_power_kw")
        assert await asyncio.to_thread(ask, it, 1) == pytest.approx(power_w, abs=1)
        counter = await asyncio.to_thread(last_counter, it)
        assert counter >= 3
        with pytest.raises((exceptions.DlmsClientException, exceptions.LocalDlmsProtocolError)):
            await asyncio.to_thread(ask, it, 1)
        with pytest.raises((exceptions.DlmsClientException, exceptions.LocalDlmsProtocolError)):
            await asyncio.to_thread(ask, it, counter + 1, bytes(16))
        assert await asyncio.to_thread(ask, it, counter + 1) == pytest.approx(power_w, abs=1)

    on_the_wire(check)


def test_who_is_not_trusted_reads_only_what_is_public() -> None:
    def ask(it: Bench) -> None:
        with session(it.client(NoSecurityAuthentication())) as client:
            assert bytes(read(client, Interface.DATA, "0.0.42.0.0.255")).startswith(b"FLX")
            with pytest.raises(DataResultError, match="READ_WRITE_DENIED"):
                read(client, Interface.REGISTER, "1.0.1.7.0.255")
        with session(it.trusted()) as client, pytest.raises(DataResultError, match="OBJECT_UNDEFINED"):
            read(client, Interface.REGISTER, "1.0.99.99.0.255")
        wrong = it.client(LowLevelSecurityAuthentication(secret=b"guess"))
        wrong.connect()
        with pytest.raises(exceptions.DlmsClientException, match="AUTHENTICATION_FAILED"):
            wrong.associate()
        wrong.disconnect()

    async def check(it: Bench) -> None:
        await asyncio.to_thread(ask, it)

    on_the_wire(check)


def test_faults_of_values_and_clock() -> None:
    def ask(it: Bench) -> datetime:
        with session(it.trusted()) as client:
            with pytest.raises(DataResultError, match="TEMPORARY_FAILURE"):
                read(client, Interface.REGISTER, "1.0.1.7.0.255")
            return datetime_from_bytes(bytes(read(client, Interface.CLOCK, "0.0.1.0.0.255")))[0]

    async def check(it: Bench) -> None:
        it.plant.faults.set(FaultRequest(target="microgrid/load-meter", kind="nan"))
        it.plant.faults.set(FaultRequest(target="microgrid/load-meter", kind="clock_skew", value=3600.0))
        await it.pass_time(2)
        shown = await asyncio.to_thread(ask, it)
        assert shown - it.clock.now() == timedelta(hours=1)

    on_the_wire(check)


def test_garbage_is_answered_or_hung_up_on_and_the_meter_lives() -> None:
    unreadable = b"\x00\x01\x00\x01\x00\x01\x00\x03\xc0\x01\xff"

    def still_alive(it: Bench) -> bool:
        with session(it.client(NoSecurityAuthentication())) as client:
            return bool(read(client, Interface.DATA, "0.0.42.0.0.255"))

    async def check(it: Bench) -> None:
        for junk in (unreadable, b"GET / HTTP/1.1\r\n\r\n", b"\x00\x01" + b"\xff" * 30):
            reader, writer = await asyncio.open_connection("127.0.0.1", it.front.server.port)
            writer.write(junk)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
        assert await asyncio.to_thread(still_alive, it)

    on_the_wire(check)


def a_meter() -> DlmsMeter:
    plant, _ = make_plant()
    return DlmsMeter(next(d for d in plant.site.devices() if d.id == "load-meter"), plant)


METER = a_meter()
VALID = [
    xdlms.GetRequestNormal(cosem.CosemAttribute(Interface.REGISTER, cosem.Obis(1, 0, 1, 7, 0, 255), 2)).to_bytes(),
    xdlms.GetRequestNext(block_number=1).to_bytes(),
    DlmsConnection(cast(Any, LowLevelSecurityAuthentication(secret=PASSWORD)), b"FLXCLI01").get_aarq().to_bytes(),
]


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from([*VALID, b""]),
    cuts=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    junk=st.binary(max_size=20),
    trusted=st.booleans(),
)
def test_no_message_brings_the_meter_down(start: bytes, cuts: tuple[int, int], junk: bytes, *, trusted: bool) -> None:
    association = Association(METER)
    if trusted:
        association.answer(VALID[2])
        assert association.trusted
    low, high = sorted(cuts)
    message = start[:low] + junk + start[high:]
    if message:
        assert association.answer(message)


def test_the_load_profile_has_the_meters_own_integration_period() -> None:
    plant, clock = make_plant()
    meters = tuple(meter.model_copy(update={"integration_period_minutes": 5}) for meter in plant.site.meters)
    plant.site = plant.site.model_copy(update={"meters": meters})
    meter = DlmsMeter(next(d for d in plant.site.devices() if d.id == "pcc-meter"), plant)
    assert len(meter.profile) == PROFILE_DAYS * 288
    meter.refresh()
    run(plant, clock, 330)
    meter.refresh()
    assert meter.profile[-1].end == START + timedelta(minutes=5)
    assert meter.profile[-1].end - meter.profile[-2].end == timedelta(minutes=5)
    assert meter.profile[-1].export_wh > 0
