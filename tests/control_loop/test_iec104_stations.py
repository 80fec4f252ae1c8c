"""IEC 60870-5-104 with stations of every habit: types, time tags, qualities, refusals, several behind a line, cuts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_loop.discovery.devices import interrogate_iec104
from control_loop.discovery.found import SearchError
from control_loop.protocols import iec104_asdu
from control_loop.protocols.addressing import NamedObject, ObjectMap
from control_loop.protocols.base import DriverError
from control_loop.protocols.iec104 import WORKER
from control_loop.protocols.objects import ObjectDriver, ObjectHub
from tests.control_loop.rtu import (
    CLOCK,
    CONFIRMED,
    COUNTER_INTERROGATION,
    COUNTERS,
    END_OF_INITIALIZATION,
    INITIALIZED,
    INTERROGATION,
    NEGATIVE,
    SPONTANEOUS,
    STATION,
    TERMINATED,
    UNKNOWN_OBJECT,
    UNKNOWN_STATION,
    Asdu,
    Rtu,
    cp56,
    short,
    station,
)

NOON = datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=UTC)
CP56, CP24 = cp56(NOON), struct.pack("<HB", 250, 0)


def read(asdu: Asdu) -> list[tuple[int, float | None, bool, float | None]]:
    body = asdu.encoded()
    told = iec104_asdu.told(bytes([0x68, 4 + len(body), 0, 0, 0, 0]) + body, NOON + timedelta(minutes=20))
    assert told is not None
    return [(seen.address, seen.value, seen.good, seen.stamp_s) for seen in told.seen]


@pytest.mark.requirement("com.01.2")
@pytest.mark.parametrize(("kinds", "octets", "value", "bad"), [
    ((1, 2, 30), b"\x01", 1.0, b"\x81"), ((3, 4, 31), b"\x02", 1.0, b"\x42"), ((3, 4, 31), b"\x00", None, b"\x10"),
    ((5, 6, 32), b"\x7b\x00", -5.0, b"\x7b\x01"), ((9, 10, 34), b"\x00\xc0\x00", -0.5, b"\x00\xc0\x20"),
    ((7, 8, 33), b"\x01\x00\x00\xa0\x00", 2684354561.0, b"\x00" * 4 + b"\x80"),
    ((11, 12, 35), b"\x85\xff\x00", -123.0, b"\x85\xff\x40"), ((13, 14, 36), short(1.5), 1.5, short(1.5, 0x01)),
    ((13, 14, 36), short(math.inf), None, short(math.nan, 0x80)),
    ((15, 16, 37), struct.pack("<iB", -7, 0x65), -7.0, struct.pack("<iB", 0, 0x80)),
])  # fmt: skip
def test_every_monitored_type_is_read_with_and_without_time(
    kinds: tuple[int, int, int], octets: bytes, value: float | None, bad: bytes
) -> None:
    for kind, tag in zip(kinds, (b"", CP24, CP56), strict=True):
        stamp_s = NOON.timestamp() if tag else None
        assert read(Asdu(kind, SPONTANEOUS, 1, 7, octets + tag)) == [(7, value, True, stamp_s)]
        assert [good for _, _, good, _ in read(Asdu(kind, SPONTANEOUS, 1, 7, bad + tag))] == [False]
        assert read(Asdu(kind, SPONTANEOUS | 0x80, 1, 7, octets + tag)) == []  # a test is no value
        if tag:
            unsure = tag[:2] + bytes([tag[2] | 0x80]) + tag[3:]
            assert read(Asdu(kind, SPONTANEOUS, 1, 7, octets + unsure)) == [(7, value, True, None)]
    two = octets + (9).to_bytes(3, "little") + octets
    assert [row[:2] for row in read(Asdu(kinds[0], STATION, 1, 7, two, 2))] == [(7, value), (9, value)]
    assert [row[:2] for row in read(Asdu(kinds[0], STATION, 1, 7, octets * 3, 0x83))] == [
        (7, value),
        (8, value),
        (9, value),
    ]


@given(st.binary(max_size=60), st.sampled_from(sorted(iec104_asdu.MONITORED)), st.integers(0, 255))
def test_no_frame_is_misread(octets: bytes, kind: int, structure: int) -> None:
    assert iec104_asdu.told(octets, NOON) is None or len(octets) >= 15
    body = bytes([kind, structure, 3, 0, 1, 0]) + octets
    told = iec104_asdu.told(bytes([0x68, (4 + len(body)) % 256, 0, 0, 0, 0]) + body, NOON)
    assert told is None or len(told.seen) in {0, structure & 0x7F}


@pytest.mark.parametrize(("minute", "ago"), [(50, -10), (20, -40), (0, 0), (59, -1), (10, 10)])
def test_a_short_time_tag_is_of_the_nearest_hour(minute: int, ago: int) -> None:
    now = NOON.replace(microsecond=0)
    body = Asdu(14, SPONTANEOUS, 1, 7, short(1.0) + struct.pack("<HB", 0, minute)).encoded()
    told = iec104_asdu.told(bytes([0x68, 4 + len(body), 0, 0, 0, 0]) + body, now)
    assert told is not None
    nearest = {(now + timedelta(minutes=ago)).timestamp(), (now + timedelta(minutes=ago, hours=1)).timestamp()}
    assert told.seen[0].stamp_s in nearest


def confirming(*objects: Asdu, counters: Sequence[Asdu] = ()) -> Callable[[Asdu], list[Asdu | bytes]]:
    """A station that shows objects when it is interrogated, and confirms everything."""

    def answer(asked: Asdu) -> list[Asdu | bytes]:
        shown = {INTERROGATION: objects, COUNTER_INTERROGATION: counters}.get(asked.kind, ())
        mine = [item for item in shown if asked.station in {item.station, 65_535}]
        ends = [Asdu(asked.kind, c, asked.station, asked.ioa, asked.octets) for c in (CONFIRMED, TERMINATED)]
        return [ends[0], *mine, *([] if asked.kind == CLOCK else ends[1:])]

    return answer


class Link:
    """A driver of one station behind the test's line."""

    def __init__(
        self, hub: ObjectHub, rtu: Rtu, unit_id: int, shown: Sequence[str], orders: Sequence[NamedObject]
    ) -> None:
        self.driver = ObjectDriver(
            hub,
            f"rtu-{unit_id}",
            ObjectMap({("a", name): NamedObject(name) for name in shown}, {("a", o.name): o for o in orders}, {}),
            address=lambda: ("127.0.0.1", rtu.port),
            assets=["a"],
            unit_id=unit_id,
        )

    async def values(self) -> dict[str, float | None]:
        with contextlib.suppress(DriverError):
            return {name: value for (_, name), value in (await self.driver.read()).items()}
        return {}

    async def until(self, **wanted: float | None) -> None:
        """Wait until the objects show these values; a leading letter of the keyword is dropped."""
        expected = {name[1:]: value for name, value in wanted.items()}
        async with asyncio.timeout(60):
            while {name: value for name, value in (await self.values()).items() if name in expected} != expected:
                await asyncio.sleep(0.02)

    async def order(self, name: str, value: float) -> str:
        """Give an order; returns why it failed, empty when it did not."""
        try:
            await self.driver.write("a", name, value)
        except DriverError as error:
            return str(error)
        return ""


@contextlib.asynccontextmanager
async def linked(
    answer: Callable[[Asdu], list[Asdu | bytes]],
    shown: Sequence[str],
    orders: Sequence[NamedObject] = (),
    stations: Sequence[int] = (1,),
) -> AsyncIterator[tuple[Rtu, list[Link]]]:
    async with station(answer) as rtu:
        hub = ObjectHub(WORKER)
        links = [Link(hub, rtu, number, shown, orders) for number in stations]
        try:
            yield rtu, links
        finally:
            for link in links:
                await link.driver.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.requirement("com.01.2", "com.01.3")
def test_an_object_is_followed_whatever_type_it_comes_by() -> None:
    counted = Asdu(15, COUNTERS, 1, 20, struct.pack("<iB", 123_456, 0))
    answer = confirming(Asdu(13, STATION, 1, 8, short(7.0)), Asdu(1, STATION, 1, 9, b"\x01"), counters=[counted])

    async def check() -> None:
        async with linked(answer, ["8", "9", "M_IT_TB_1:20"]) as (rtu, (link,)):
            await link.until(_8=7.0, _9=1.0)
            await until(lambda: rtu.of(COUNTER_INTERROGATION))
            async with asyncio.timeout(60):
                while (await link.values()).get("M_IT_TB_1:20") != 123_456.0:
                    await asyncio.sleep(0.02)
            stamp = datetime.now(UTC).replace(microsecond=0)
            rtu.say(
                Asdu(36, SPONTANEOUS, 1, 8, short(8.5, 0, stamp)), Asdu(30, SPONTANEOUS, 1, 9, b"\x00" + cp56(stamp))
            )
            await link.until(_8=8.5, _9=0.0)
            assert link.driver.source_times()["a", "8"] == stamp
            rtu.say(Asdu(13, SPONTANEOUS, 1, 8, short(9.0, 0x20)))  # substituted: nobody measures it
            await link.until(_8=None)
            asked = len(rtu.of(INTERROGATION))
            rtu.say(Asdu(END_OF_INITIALIZATION, INITIALIZED, 1, 0, b"\x00"))
            await until(lambda: len(rtu.of(INTERROGATION)) > asked)
            await link.until(_8=7.0)

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_a_refusal_is_told_as_the_station_means_it() -> None:
    orders = [NamedObject("50"), NamedObject("51", select=True), NamedObject("C_SE_NA_1:52"), NamedObject("8")]

    def refusing(cause: int) -> Callable[[Asdu], list[Asdu | bytes]]:
        return lambda asked: [Asdu(asked.kind, cause, asked.station, asked.ioa, asked.octets)]

    async def check() -> None:
        answer = confirming(Asdu(13, STATION, 1, 8, short(7.0)))
        async with linked(answer, ["8"], orders) as (rtu, (link,)):
            await link.until(_8=7.0)
            assert await link.order("50", 1.5) == await link.order("51", 1.5) == ""
            assert await link.order("8", 1.5) == ""  # an order may have the address of what shows it
            given = [(a.ioa, a.octets[4] >> 7) for a in rtu.of(50)]
            assert given == [(50, 0), (51, 1), (51, 0), (8, 0)]
            assert "does not fit into C_SE_NA_1" in await link.order("C_SE_NA_1:52", 40.0)
            rtu.answer = refusing(CONFIRMED | NEGATIVE)
            assert await link.order("50", 2.5) == "rtu-1: command 2.5 to object 50 was not confirmed: refused"
            rtu.answer = lambda asked: [*refusing(CONFIRMED | NEGATIVE)(asked), *refusing(UNKNOWN_OBJECT)(asked)]
            assert "object 50 was not confirmed: unknown object address" in await link.order("50", 2.5)
            rtu.answer = refusing(UNKNOWN_OBJECT | NEGATIVE)
            assert "object 51 was not confirmed: unknown object address" in await link.order("51", 2.5)
            assert len(rtu.of(50)) == 7  # a clear word is not asked for again
            rtu.answer = refusing(CONFIRMED)  # and never an end, which a station may leave out
            assert await link.order("51", 3.5) == ""
            assert len(rtu.of(50)) == 9

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_stations_behind_one_line_are_kept_apart(caplog: pytest.LogCaptureFixture) -> None:
    shows = confirming(Asdu(13, STATION, 1, 8, short(1.0)), Asdu(13, STATION, 4711, 8, short(2.0)))

    def answer(asked: Asdu) -> list[Asdu | bytes]:
        if asked.station == 65_534:
            return [Asdu(asked.kind, UNKNOWN_STATION | NEGATIVE, asked.station, asked.ioa, asked.octets)]
        return shows(asked)

    async def check() -> None:
        async with linked(answer, ["8"], [NamedObject("50")], [1, 4711, 65_534]) as (rtu, (one, two, nobody)):
            await one.until(_8=1.0)
            await two.until(_8=2.0)
            assert rtu.dialled == 1
            assert await two.order("50", 3.0) == ""
            assert [asdu.station for asdu in rtu.of(50)] == [4711]
            await until(lambda: "unknown common address" in nobody.driver.health.last_error)
            assert await nobody.values() == {}
            found = await interrogate_iec104("127.0.0.1", rtu.port)
            assert [item.address.rpartition(" ")[2] for item in found] == ["1", "4711"]
            assert found[0].identity["objects"] == {"M_ME_NC_1:8": 1.0}
            with pytest.raises(SearchError, match="common address 65534: unknown common address"):
                await interrogate_iec104("127.0.0.1", rtu.port, 65_534)

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
@pytest.mark.parametrize("hostile", [
    [b"GET / HTTP/1.1\r\n\r\n"],
    pytest.param([
        b"\x68\x04\x01\x00\xff\xff", b"\x68\xff" + b"\x00" * 255, b"\x68\x03\x07\x00\x00", b"\x00" * 300,
        b"\x68\x0e\x00\x00\x00\x00\xfa\x01\x03\x00\x01\x00\x08\x00\x00\x00",
        b"\x68\x0a\xfe\x7f\x00\x00\x0d\x7f\x03\x00\x01\x00",
    ], marks=pytest.mark.soak),
])  # fmt: skip
def test_broken_frames_storms_and_cut_lines_leave_the_next_value_right(hostile: list[bytes]) -> None:
    answer = confirming(Asdu(13, STATION, 1, 8, short(7.0)))

    async def check() -> None:
        async with linked(answer, ["8"]) as (rtu, (link,)):
            await link.until(_8=7.0)
            for number in range(3000):
                rtu.say(Asdu(36, SPONTANEOUS, 1, 8, short(float(number), 0, NOON)))
            await link.until(_8=2999.0)
            for octets in hostile:
                rtu.say(octets)
                asked = len(rtu.of(INTERROGATION))
                rtu.hang_up()
                await until(lambda asked=asked: len(rtu.of(INTERROGATION)) > asked)
                await link.until(_8=7.0)

    asyncio.run(check())


@pytest.mark.soak
@pytest.mark.requirement("com.01.2", "com.01.3")
def test_a_line_that_fell_silent_is_no_data() -> None:
    async def check() -> None:
        async with linked(confirming(Asdu(13, STATION, 1, 8, short(7.0))), ["8"]) as (rtu, (link,)):
            await link.until(_8=7.0)
            rtu.silent = True
            async with asyncio.timeout(60):
                while await link.values():
                    await asyncio.sleep(0.1)
            assert "the station is silent" in link.driver.health.last_error
            rtu.silent = False
            await link.until(_8=7.0)

    asyncio.run(check())
