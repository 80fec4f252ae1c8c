"""Our DLMS/COSEM client against the simulator's meter: values, load profiles by range, keys, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from dlms_cosem.time import datetime_from_bytes

from flexergy_pipelines.metering.dlms import PROFILE_OBIS, DlmsClient, MeterError
from flexergy_pipelines.metering.keys import Credentials, KeysError, credentials_of
from flexergy_pipelines.metering.load_profile import read_profile
from flexergy_pipelines.settings import Settings
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD
from plant_simulator.faults import FaultRequest
from tests.metering.meter_bench import MeterBench, meter_bench

BY_PASSWORD = Credentials(password=PASSWORD)
BY_KEYS = Credentials(encryption_key=ENCRYPTION_KEY, authentication_key=AUTHENTICATION_KEY)


def with_meter(check: Callable[[MeterBench], Awaitable[None]]) -> None:
    async def body() -> None:
        async with meter_bench() as it:
            await check(it)

    asyncio.run(body())


WAYS = pytest.mark.parametrize(
    ("credentials", "general"),
    [(BY_PASSWORD, True), (BY_KEYS, True), (BY_KEYS, False)],
    ids=["password", "keys", "keys, each service enciphered by its own tag"],
)


@pytest.mark.requirement("com.01.2")
@WAYS
def test_registers_come_in_the_units_of_the_platform(credentials: Credentials, general: bool) -> None:
    async def check(it: MeterBench) -> None:
        it.front.meter.general_protection = general
        async with DlmsClient("127.0.0.1", it.port, credentials) as meter:
            found = await meter.read_many(["1.0.1.7.0.255", "1.0.32.7.0.255", "1.0.1.8.0.255", "1.0.99.99.0.255"])
        power = it.plant.measure("load-1", "active_power_kw")
        first = found["1.0.1.7.0.255"]
        assert first is not None
        assert (first.value, first.unit) == (pytest.approx(power, abs=0.01), "kW")
        assert found["1.0.99.99.0.255"] is None

    with_meter(check)


@pytest.mark.parametrize("general", [True, False])
def test_a_ciphered_meter_is_set_whichever_way_it_enciphers(general: bool) -> None:
    async def check(it: MeterBench) -> None:
        it.front.meter.general_protection = general
        async with DlmsClient("127.0.0.1", it.port, BY_KEYS) as meter:
            await meter.set(7, PROFILE_OBIS, 4, bytes([6]) + (3600).to_bytes(4))
            assert await meter.get(7, PROFILE_OBIS, 4) == 3600
            local = it.now.astimezone(it.plant.site.zone) + timedelta(minutes=3)
            given = local.timetuple()
            stamp = given.tm_year.to_bytes(2) + bytes([given.tm_mon, given.tm_mday, 0xFF, given.tm_hour, given.tm_min])
            undated = stamp + bytes([given.tm_sec, 0xFF, 0x80, 0x00, 0xFF])  # without a deviation: local time
            await meter.set(8, "0.0.1.0.0.255", 2, bytes([9, 12]) + undated)
            shown, _ = datetime_from_bytes(bytes(await meter.get(8, "0.0.1.0.0.255", 2)))
            assert abs(shown - it.now - timedelta(minutes=3)) < timedelta(seconds=2)

    with_meter(check)


@pytest.mark.requirement("infra.02.6")
@WAYS
def test_a_load_profile_is_read_by_range_in_blocks(credentials: Credentials, general: bool) -> None:
    async def check(it: MeterBench) -> None:
        it.front.meter.general_protection = general
        end = it.now.replace(minute=0, second=0, microsecond=0)
        async with DlmsClient("127.0.0.1", it.port, credentials) as meter:
            day = await read_profile(meter, PROFILE_OBIS, end - timedelta(days=1) + timedelta(seconds=1), end)
            none = await read_profile(meter, PROFILE_OBIS, end + timedelta(days=1), end + timedelta(days=2))
        assert day.obis == ("1.0.1.29.0.255", "1.0.2.29.0.255")
        assert len(day.rows) == 86_400 / day.period_s
        stamps = [stamp for stamp, _ in day.rows]
        assert stamps == [end - timedelta(seconds=day.period_s * n) for n in range(len(stamps) - 1, -1, -1)]
        stored = {entry.end: entry.import_wh for entry in it.front.meter.profile}
        for stamp, (taken, given) in day.rows:
            assert taken is not None
            assert given is not None
            assert (taken.unit, taken.value) == ("kWh", pytest.approx(stored[stamp] / 1000, rel=1e-12))
        assert none.rows == ()

    with_meter(check)


def test_the_counter_of_a_ciphered_meter_is_asked_for_so_that_it_can_be_read_again_and_again() -> None:
    async def check(it: MeterBench) -> None:
        for _ in range(3):
            async with DlmsClient("127.0.0.1", it.port, BY_KEYS) as meter:
                await meter.read("1.0.1.7.0.255")

    with_meter(check)


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        (Credentials(password=b"wrong"), "password, keys or address are not those of this meter"),
        (Credentials(encryption_key=bytes(16), authentication_key=AUTHENTICATION_KEY), "127.0.0.1:"),
    ],
    ids=["password", "key"],
)
def test_wrong_secrets_are_refused_with_one_line_that_does_not_tell_them(
    credentials: Credentials, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def check(it: MeterBench) -> None:
        with pytest.raises(MeterError, match=message) as caught:
            async with DlmsClient("127.0.0.1", it.port, credentials) as meter:
                await meter.read("1.0.1.7.0.255")
        assert "\n" not in str(caught.value)

    with_meter(check)
    said = capfd.readouterr()
    assert "wrong" not in said.out + said.err


@pytest.mark.requirement("com.01.3")
def test_a_meter_that_stops_answering_costs_its_timeout_and_not_more() -> None:
    async def check(it: MeterBench) -> None:
        async with DlmsClient("127.0.0.1", it.port, BY_PASSWORD, timeout_s=0.2) as meter:
            it.plant.faults.set(FaultRequest(target=it.front.meter.device.key, kind="silent"))
            await it.front.refresh()
            with pytest.raises(MeterError, match=r"no answer within 0\.2 s"):
                await meter.read("1.0.1.7.0.255")

    with_meter(check)


def test_nobody_there_is_said_so() -> None:
    async def ask() -> None:
        async with DlmsClient("127.0.0.1", 9, BY_PASSWORD, timeout_s=0.5):
            raise AssertionError

    with pytest.raises(MeterError, match=r"no connection to 127\.0\.0\.1:9"):
        asyncio.run(ask())


def keys_file(home: Path, text: str, mode: int = 0o600) -> Settings:
    path = home / "meter_keys.yaml"
    path.write_text(text)
    path.chmod(mode)
    return Settings(home=home, database_url=None, tenant="demo")


def test_keys_are_looked_up_by_device_then_for_all(tmp_path: Path) -> None:
    key = "00112233445566778899aabbccddeeff"
    text = f"site/m: {{encryption_key: '{key}', authentication_key: '{key}'}}\n'*': {{password: '12345678'}}\n"
    settings = keys_file(tmp_path, text)
    assert credentials_of(settings, "site/m") == Credentials(
        encryption_key=bytes.fromhex(key), authentication_key=bytes.fromhex(key)
    )
    assert credentials_of(settings, "site/other").password == b"12345678"
    assert credentials_of(Settings(home=tmp_path / "none", database_url=None, tenant="t"), "x") == Credentials()


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("'*': {password: 'topsecret'}", 0o644, "others may read it"),
        ("'*': {password: 12345678}", 0o600, "password is no text; put it in quotes"),
        ("'*': {encryption_key: 'topsecret', authentication_key: 'ff'}", 0o600, "32 hexadecimal digits"),
        (f"'*': {{encryption_key: '{'ab' * 16}'}}", 0o600, "go together"),
        ("'*': {passwort: 'topsecret'}", 0o600, "unknown field passwort; allowed: password"),
        ("'*': {password: 'topsecret', client_address: true}", 0o600, "client_address True is outside 1 to 65535"),
        ("'*': {counter_object: 43.1}", 0o600, r"counter_object 43\.1 is no logical name, such as 0\.0\.43\.1\.0\.255"),
        ("- topsecret", 0o600, "is no mapping of devices"),
        ("'*': [", 0o600, "is no YAML"),
    ],
)
def test_a_wrong_file_of_keys_is_told_in_one_line_without_its_secrets(
    tmp_path: Path, text: str, mode: int, message: str
) -> None:
    with pytest.raises(KeysError, match=message) as caught:
        credentials_of(keys_file(tmp_path, text, mode), "site/m")
    assert "topsecret" not in str(caught.value)
    assert "\n" not in str(caught.value)
