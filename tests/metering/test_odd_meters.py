"""Meters that do it their own way: profiles they do not select from, local time, odd types, and answers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.metering.axdr import AxdrError, decode
from flexergy_pipelines.metering.cosem_time import read_time, write_time
from flexergy_pipelines.metering.dlms import PROFILE_OBIS, DlmsClient, MeterError, MeterRefusal
from flexergy_pipelines.metering.keys import Credentials
from flexergy_pipelines.metering.load_profile import Profile, read_profile
from plant_simulator import dlms_server
from plant_simulator.dlms_selection import EntryRange, TimeRange
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD
from tests.metering.odd_meter import OddMeter, array, column, octets, serving

ZONE = ZoneInfo("Europe/Amsterdam")
CLOCK, TAKEN, COUNTER = "0.0.1.0.0.255", "1.0.1.29.0.255", "1.0.1.8.0.255"
QUARTER = timedelta(minutes=15)
AUTUMN = datetime(2026, 10, 24, 23, tzinfo=UTC)
"""An hour before the night's second 02:00."""
BY_PASSWORD = Credentials(password=PASSWORD)
BY_KEYS = Credentials(encryption_key=ENCRYPTION_KEY, authentication_key=AUTHENTICATION_KEY)
WATT_HOURS = b"\x02\x02\x0f\x00\x16\x1e"


def talk(meter: OddMeter, ask: Callable[[DlmsClient], Awaitable[Any]], credentials: Credentials = BY_PASSWORD) -> Any:
    async def body() -> Any:
        async with (
            serving(meter) as port,
            DlmsClient("127.0.0.1", port, credentials, timeout_s=5.0, zone=ZONE) as client,
        ):
            return await ask(client)

    return asyncio.run(body())


def local(moment: datetime, *, status: int | None = None, deviates: bool = False) -> bytes:
    told = write_time(moment.astimezone(ZONE), with_deviation=deviates)
    return octets(told if status is None else told[:-1] + bytes([status]))


def profiled(
    ends: list[datetime],
    refuses: tuple[type, ...] = (),
    *,
    status: int | None = None,
    deviates: bool = False,
    newest_first: bool = False,
) -> OddMeter:
    """A meter with a profile of increments, the number of each entry as its value."""
    rows = [
        b"\x02\x02" + local(end, status=status, deviates=deviates) + b"\x06" + n.to_bytes(4)
        for n, end in enumerate(ends)
    ]
    numbered = list(zip(ends, rows, strict=True))[:: -1 if newest_first else 1]

    def buffer(selection: TimeRange | EntryRange | None) -> bytes:
        if isinstance(selection, refuses):
            raise KeyError(selection)
        if isinstance(selection, EntryRange):
            return array([row for _, row in numbered[selection.first - 1 : selection.last]])
        return array([row for end, row in numbered if selection is None or selection.holds(end, ZONE)])

    return OddMeter({
        (CLOCK, 2): local(ends[-1], status=status, deviates=deviates),
        (PROFILE_OBIS, 2): buffer,
        (PROFILE_OBIS, 3): array([column(8, CLOCK), column(3, TAKEN)]),
        (PROFILE_OBIS, 4): b"\x06" + (900).to_bytes(4),
        (PROFILE_OBIS, 7): b"\x06" + len(ends).to_bytes(4),
    })  # fmt: skip


def read(meter: OddMeter, start: datetime, end: datetime) -> Profile:
    return talk(meter, lambda client: read_profile(client, PROFILE_OBIS, start, end))


@pytest.mark.requirement("infra.02.6")
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("refuses", [(), (TimeRange,), (TimeRange, EntryRange)], ids=["range", "entries", "whole"])
def test_a_profile_is_read_however_a_meter_selects(refuses: tuple[type, ...], newest_first: bool) -> None:
    ends = [datetime(2026, 3, 1, tzinfo=UTC) + n * QUARTER for n in range(700)]
    meter = profiled(ends, refuses, newest_first=newest_first)
    profile = read(meter, ends[-100], ends[-1])
    assert [stamp for stamp, _ in profile.rows] == ends[-100:]
    assert [round(1000 * row[0].value) for _, row in profile.rows if row[0] is not None] == list(range(600, 700))
    asked = [s for s in meter.asked if isinstance(s, EntryRange)]
    if refuses == (TimeRange,):
        assert asked[0] == EntryRange(501, 700)
        assert len(asked) == (1 if not newest_first else 4)  # how it sorts shows in the first answer


@pytest.mark.requirement("infra.02.6")
@pytest.mark.parametrize("status", [None, 0xFF], ids=["status tells summer time", "status tells nothing"])
@pytest.mark.parametrize("deviates", [True, False])
def test_no_interval_is_lost_or_doubled_in_the_night_of_two_two_oclocks(deviates: bool, status: int | None) -> None:
    ends = [AUTUMN + n * QUARTER for n in range(16)]
    profile = read(profiled(ends, status=status, deviates=deviates), ends[0], ends[-1])
    assert [stamp for stamp, _ in profile.rows] == ends


def test_a_meter_that_keeps_standard_time_all_year_is_asked_in_its_own_time() -> None:
    standard = timedelta(hours=1)
    ends = [datetime(2026, 7, 1, tzinfo=UTC) + n * QUARTER for n in range(96)]
    meter = profiled(ends, deviates=True)

    def shown(moment: datetime) -> bytes:
        naive = (moment + standard).replace(tzinfo=None)
        return octets(
            write_time(naive.replace(tzinfo=UTC), with_deviation=False)[:9] + (-60).to_bytes(2, signed=True) + b"\0"
        )

    meter.objects[CLOCK, 2] = shown(ends[-1])
    meter.objects[PROFILE_OBIS, 2] = lambda _selection: array([b"\x02\x02" + shown(e) + b"\x06\0\0\0\1" for e in ends])
    profile = read(meter, ends[4], ends[8])
    assert [stamp for stamp, _ in profile.rows] == ends[4:9]
    (selection,) = meter.asked
    assert isinstance(selection, TimeRange)
    assert selection.first[5] == (ends[4] + standard).hour  # a meter that compares local times compares like with like


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"\x17" + struct.pack(">f", 230.5), 230.5),
        (b"\x18" + struct.pack(">d", 230.5), 230.5),
        (b"\x0d\x42", 42.0),
        (b"\x14" + (-5).to_bytes(8, signed=True), -5.0),
        (b"\x17" + struct.pack(">f", float("nan")), None),
        (b"\x18" + struct.pack(">d", float("inf")), None),
        (b"\x00", None),
        (b"\x03\x01", None),
        (b"\x09\x02\x00\x01", None),
    ],
)
def test_any_type_of_number_counts_and_anything_else_is_missing(encoded: bytes, value: float | None) -> None:
    meter = OddMeter({(COUNTER, 2): encoded, (COUNTER, 3): b"\x02\x02\x0f\x00\x16\x23"})
    found = talk(meter, lambda client: client.read_many([COUNTER]))[COUNTER]
    assert (None if found is None else found.value) == value


def cut(after: int) -> Callable[[bytes], bytes]:
    """What is left of a get response's value, in a frame that is whole."""

    def mangle(answer: bytes) -> bytes:
        if answer[8] != 0xC4:
            return answer
        return answer[:6] + (len(answer) - 8 - after).to_bytes(2) + answer[8 : len(answer) - after]

    return mangle


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (cut(2), "cut off: 4 bytes are wanted"),
        (lambda a: a if a[8] != 0xC4 else a[:6] + (len(a) - 7).to_bytes(2) + a[8:] + b"\0", "1 bytes follow the value"),
        (lambda a: a if a[8] != 0xC4 else a[:-3], "no answer within"),
        (lambda a: a if a[8] != 0xC4 else None, "closed the connection"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", r"is no DLMS/COSEM meter: its answer begins with 48 54 54 50"),
        (lambda _: bytes.fromhex("7ea00a0002002303930000"), "speaks HDLC; the TCP wrapper is wanted"),
        (lambda a: a[:6] + b"\0\0", "makes no sense"),
    ],
    ids=["value cut", "longer than the value", "frame cut", "hung up", "web server", "HDLC", "empty"],
)
def test_what_is_not_whole_is_an_error_and_never_a_number(mangle: Any, message: str) -> None:
    meter = OddMeter({(COUNTER, 2): b"\x06\x00\x01\x02\x03", (COUNTER, 3): WATT_HOURS}, mangle)

    async def ask(client: DlmsClient) -> None:
        client.link._timeout_s = 0.3
        await client.get(3, COUNTER)

    with pytest.raises(MeterError, match=message):
        talk(meter, ask)


def test_a_ciphered_meter_that_answers_in_plain_is_not_believed() -> None:
    meter = OddMeter({("0.0.43.1.0.255", 2): b"\x06\0\0\0\1", (COUNTER, 2): b"\x06\0\0\0\1"})
    seen = itertools.count()

    def plain(answer: bytes) -> bytes:
        if answer[8] == 0xDB and next(seen) > 0:  # after the proof of keys
            return answer[:6] + b"\0\x09" + b"\xc4\x01\xc1\x00\x06\x7f\xff\xff\xff"
        return answer

    meter.mangle = plain
    with pytest.raises(MeterError, match="answers in plain what was asked enciphered"):
        talk(meter, lambda client: client.get(3, COUNTER), BY_KEYS)


def test_an_answer_sent_again_is_not_taken_for_a_new_one() -> None:
    meter = OddMeter({("0.0.43.1.0.255", 2): b"\x06\0\0\0\1", (COUNTER, 2): b"\x06\0\0\0\1"})
    kept: list[bytes] = []

    def again(answer: bytes) -> bytes:
        kept.append(answer)
        return kept[-2] if len(kept) > 2 and answer[8] == 0xDB and kept[-2][8] == 0xDB and len(kept) > 8 else answer

    meter.mangle = again

    async def ask(client: DlmsClient) -> None:
        for _ in range(9):
            await client.get(3, COUNTER)

    with pytest.raises(MeterError, match="was sent before: its counter does not grow"):
        talk(meter, ask, BY_KEYS)


@pytest.mark.parametrize("key", [ENCRYPTION_KEY, bytes(16)], ids=["right key", "wrong key"])
def test_a_meter_that_others_read_by_the_same_key_meanwhile_is_read_all_the_same(key: bytes) -> None:
    meter = OddMeter({(COUNTER, 2): b"\x06\0\0\0\1"})
    tries: list[int] = []

    def counter(_selection: Any) -> bytes:
        told = meter.client_counter
        if key == ENCRYPTION_KEY:
            meter.client_counter += 20  # of the other one
        return b"\x06" + told.to_bytes(4)

    def watch(answer: bytes) -> bytes:
        if answer[8] in {0x61, 0xD8}:
            tries.append(answer[8])
        return answer

    meter.objects["0.0.43.1.0.255", 2] = counter
    meter.mangle = watch
    credentials = Credentials(encryption_key=key, authentication_key=AUTHENTICATION_KEY)
    if key == ENCRYPTION_KEY:
        assert talk(meter, lambda client: client.get(3, COUNTER), credentials) == 1
        assert tries == [0x61, 0xD8, 0x61, 0x61]
    else:
        with pytest.raises(MeterError, match="the keys may not be those of this meter"):
            talk(meter, lambda client: client.get(3, COUNTER), credentials)
        assert tries.count(0xD8) == 1  # some meters lock who tries wrong keys again and again


def test_the_counter_is_where_the_file_of_keys_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlms_server, "PUBLIC", {"0.0.43.1.1.255"})
    meter = OddMeter({("0.0.43.1.1.255", 2): b"\x06\0\0\0\x09", (COUNTER, 2): b"\x06\0\0\0\1"}, client_counter=9)
    elsewhere = dataclasses.replace(BY_KEYS, counter_object="0.0.43.1.1.255")
    assert talk(meter, lambda client: client.get(3, COUNTER), elsewhere) == 1
    with pytest.raises(MeterError, match=r"0\.0\.43\.1\.0\.255 attribute 2: the meter answers 'read write denied'"):
        talk(meter, lambda client: client.get(3, COUNTER), BY_KEYS)


def test_an_association_ends_when_the_meter_no_longer_understands_it() -> None:
    meter = OddMeter({("0.0.43.1.0.255", 2): b"\x06\0\0\0\1", (COUNTER, 2): b"\x06\0\0\0\1"})

    async def ask(client: DlmsClient) -> None:
        await client.get(3, COUNTER)
        meter.client_counter += 100  # somebody else was here
        with pytest.raises(MeterError, match="'exception: service not allowed, invocation counter error'") as told:
            await client.get(3, COUNTER)
        assert not isinstance(told.value, MeterRefusal)  # which would count as a missing value, and go on for ever
        with pytest.raises(MeterError, match="the connection is closed"):
            await client.get(3, COUNTER)

    talk(meter, ask, BY_KEYS)


def test_a_refusal_is_told_by_its_name_and_the_association_goes_on() -> None:
    meter = OddMeter({(COUNTER, 2): b"\x06\0\0\0\1"})
    meter.mangle = lambda a: a if a[8] != 0xC5 else a[:6] + b"\0\x03" + b"\xd8\x01\x02"  # to a set: an exception

    async def ask(client: DlmsClient) -> Any:
        with pytest.raises(MeterRefusal, match=r"1\.0\.9\.9\.9\.255 attribute 2: the meter answers 'object undefined'"):
            await client.get(3, "1.0.9.9.9.255")
        with pytest.raises(MeterRefusal, match="'exception: service not allowed, service not supported'"):
            await client.set(3, COUNTER, 2, b"\x00")
        return await client.get(3, COUNTER)

    assert talk(meter, ask) == 1


def test_late_answers_are_never_taken_for_those_to_later_questions() -> None:
    meter = OddMeter({(COUNTER, 2): b"\x06\0\0\0\1"})

    async def ask(client: DlmsClient) -> None:
        client.link._timeout_s = 0.2
        meter.mangle = lambda answer: answer[:9]  # the rest of it would come with the next one
        with pytest.raises(MeterError, match="no answer within"):
            await client.get(3, COUNTER)
        meter.mangle = lambda answer: answer
        with pytest.raises(MeterError, match="the connection is closed"):
            await client.get(3, COUNTER)

    talk(meter, ask)


def test_compact_arrays_are_read() -> None:
    content = b"\x02ab\x00\x00\x00\x01" + b"\x00\xff\xff\xff\xff"
    compact = b"\x13" + b"\x02\x02\x09\x05" + bytes([len(content)]) + content
    assert decode(compact) == [[b"ab", 1], [b"", -1]]
    with pytest.raises(AxdrError, match="cut off"):
        decode(b"\x13\x02\x01\x09\x03\x01a\x05")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(AxdrError):
        decode(data)


@given(st.integers(1_000_000_000, 4_000_000_000), st.booleans())
def test_a_moment_told_and_read_is_the_same_moment(second: int, deviates: bool) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    assert read_time(write_time(moment.astimezone(ZONE), with_deviation=deviates), ZONE).time == moment
