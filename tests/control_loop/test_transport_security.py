"""TLS on the wire: mutual, with names and validity checked, over Modbus, IEC 60870-5-104, IEC 61850 and DLMS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_loop.protocols import iec104, iec61850
from control_loop.protocols.addressing import by_name
from control_loop.protocols.base import Driver, DriverError
from control_loop.protocols.factory import Shared, driver_of
from control_loop.protocols.objects import ObjectDriver, ObjectHub
from control_loop.protocols.tunnel import TlsTunnel
from flexergy_pipelines.grid.certificates import create_authority, issue
from flexergy_pipelines.grid.connection import ObjectPoint, TlsFiles
from flexergy_pipelines.grid.tls import CERTIFICATES, TlsError, client_context, server_context
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY
from plant_simulator.fronts import make_front
from tests.control_loop.wire_bench import Bench, commanded, on_the_wire, serving, shown
from tests.plant_simulator.fakes import make_plant

SETPOINT = "active_power_setpoint_kw"
MUTUAL = TlsFiles(ca="ca.pem", certificate="manager.pem", key="manager.key")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose certificates are in order, and some that are not."""
    home = tmp_path_factory.mktemp("home")
    folder = home / CERTIFICATES
    create_authority(folder)
    issue(folder, "simulator", common_name="simulator", hosts=["127.0.0.1", "localhost"])
    issue(folder, "manager", common_name="manager")
    issue(folder, "old", common_name="old", days=1, begins=datetime.now(UTC) - timedelta(days=3))
    issue(folder, "old-server", common_name="x", hosts=["127.0.0.1"], days=1, begins=datetime(2024, 1, 1, tzinfo=UTC))
    create_authority(folder / "other", "Somebody else")
    issue(folder / "other", "manager", common_name="manager")
    return home


@pytest.mark.requirement("com.01.1")
@pytest.mark.parametrize("protocol", ["iec104", "iec61850"])
def test_a_station_is_read_and_commanded_over_mutual_tls(protocol: str, home: Path) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["soc"] is not None)
        await commanded(bench.driver, SETPOINT, -33.5)
        await bench.until(lambda: bench.plant.orders.in_force("ess-1", SETPOINT) == -33.5)

    on_the_wire(protocol, home, talk, tls=MUTUAL)


def over_modbus(home: Path, tls: TlsFiles, talk: Callable[[Driver], Awaitable[None]]) -> None:
    """A conversation with a simulated storage controller that wants TLS and a client certificate."""

    async def check() -> None:
        plant, _ = make_plant()
        device = next(d for d in plant.site.devices() if d.id == "esc-1")
        serving = dataclasses.replace(device, connection=device.connection.model_copy(update={"tls": MUTUAL}))
        front = make_front(serving, plant, 1, home / CERTIFICATES)
        await front.start("127.0.0.1")
        settings = Settings(home, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        link = device.connection.model_copy(update={"tls": tls, "timeout_s": 5.0})
        driver = driver_of(plant.site, dataclasses.replace(device, connection=link), settings, Shared())
        try:
            await talk(driver)
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_modbus_security_carries_values_and_setpoints(home: Path) -> None:
    async def talk(driver: Driver) -> None:
        assert (await driver.read())["ess-1", "soc"] == pytest.approx(0.5, abs=0.01)
        await driver.write("ess-1", SETPOINT, 20.0)
        assert (await driver.read())["ess-1", SETPOINT] == pytest.approx(20.0)

    over_modbus(home, MUTUAL, talk)


def over_dlms(home: Path, tls: TlsFiles | None, keys: str, talk: Callable[[Driver], Awaitable[None]]) -> None:
    """A conversation with a simulated meter that wants TLS, a client certificate, and keys of its own within."""
    (home / "meter_keys.yaml").write_text(f"'*': {{{keys}}}\n")
    (home / "meter_keys.yaml").chmod(0o600)

    async def check() -> None:
        plant, _ = make_plant()
        meter = next(d for d in plant.site.devices() if d.id == "load-meter")
        spoken = meter.connection.model_copy(update={"protocol": "dlms", "tls": MUTUAL, "timeout_s": 5.0})
        front = make_front(dataclasses.replace(meter, connection=spoken), plant, 1, home / CERTIFICATES)
        await front.start("127.0.0.1")
        settings = Settings(home, None, "demo")
        publish_endpoints(settings, {meter.key: front.address})
        link = spoken.model_copy(update={"tls": tls})
        driver = driver_of(plant.site, dataclasses.replace(meter, connection=link), settings, Shared())
        try:
            await talk(driver)
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


def of_meter(encryption_key: bytes) -> str:
    return f"encryption_key: '{encryption_key.hex()}', authentication_key: '{AUTHENTICATION_KEY.hex()}'"


@pytest.mark.requirement("syssecurity.01.1", "com.01.2")
def test_a_meter_is_read_through_two_layers_each_with_secrets_of_its_own(home: Path) -> None:
    async def reads(driver: Driver) -> None:
        assert (await driver.read())["load-1", "active_power_kw"] is not None

    def refused(words: str) -> Callable[[Driver], Awaitable[None]]:
        async def talk(driver: Driver) -> None:
            with pytest.raises(DriverError, match=words):
                await driver.read()

        return talk

    stranger = TlsFiles(ca="other/ca.pem", certificate="manager.pem", key="manager.key")
    over_dlms(home, MUTUAL, of_meter(ENCRYPTION_KEY), reads)
    over_dlms(home, MUTUAL, of_meter(bytes(16)), refused("association|keys"))
    over_dlms(home, stranger, of_meter(ENCRYPTION_KEY), refused("does not come from the authority"))
    over_dlms(home, None, of_meter(ENCRYPTION_KEY), refused("load-meter: "))


@contextlib.asynccontextmanager
async def beside(script: str, module: str, home: Path, objects: Sequence[ObjectPoint]) -> AsyncIterator[ObjectDriver]:
    """The driver of a device that a script serves with its library's own TLS."""
    wanted = {"ess-1": frozenset(item.quantity for item in objects)}
    async with serving(script, str(home / CERTIFICATES)) as port:
        driver = ObjectDriver(
            ObjectHub(module),
            "esc-1",
            by_name("esc-1", objects, ["ess-1"], wanted),
            address=lambda: ("127.0.0.1", port),
            assets=["ess-1"],
            unit_id=7,
            more={"tls": {"files": MUTUAL.model_dump(), "folder": str(home / CERTIFICATES)}},
        )
        try:
            yield driver
        finally:
            await driver.close()


@pytest.mark.requirement("com.01.1")
def test_double_and_single_commands_reach_a_station_with_tls_of_its_own_library(home: Path) -> None:
    objects = (
        ObjectPoint(quantity="available", read="10", write="20", kind="double", select=True),
        ObjectPoint(quantity="running", read="11", write="21", kind="single"),
        ObjectPoint(quantity="active_power_kw", read="M_ME_TF_1:12", scale=0.001),
    )

    async def check() -> None:
        async with beside("iec104_station.py", iec104.WORKER, home, objects) as driver:
            await shown(driver, {"available": 0.0, "running": 0.0, "active_power_kw": 12.5})
            await commanded(driver, "available", 1.0)
            await commanded(driver, "running", 1.0)
            await shown(driver, {"available": 1.0, "running": 1.0, "active_power_kw": 12.5})
            await commanded(driver, "available", 0.0)
            await shown(driver, {"available": 0.0, "running": 1.0, "active_power_kw": 12.5})
            stamps = driver.source_times()
            assert set(stamps) == {("ess-1", "active_power_kw")}  # the only one of a type with a time tag
            assert abs((datetime.now(UTC) - stamps["ess-1", "active_power_kw"]).total_seconds()) < 600

    asyncio.run(check())


@pytest.mark.soak
def test_an_iec61850_server_with_tls_of_its_own_library_is_read(home: Path) -> None:
    async def check() -> None:
        objects = (ObjectPoint(quantity="active_power_kw", read="FLXesc1/GGIO1.AnIn1"),)
        async with beside("iec61850_tls_server.py", iec61850.WORKER, home, objects) as driver:
            await shown(driver, {"active_power_kw": 0.0})

    asyncio.run(check())


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (TlsFiles(ca="ca.pem"), "it may want a client certificate"),
        (TlsFiles(ca="other/ca.pem", certificate="manager.pem", key="manager.key"), "does not come from the authority"),
        (MUTUAL.model_copy(update={"server_name": "inverter-7"}), "is not made out to inverter-7"),
        (MUTUAL.model_copy(update={"certificate": "old.pem", "key": "old.key"}), "old.pem: expired on 20"),
        (MUTUAL.model_copy(update={"key": "simulator.key"}), "does not belong to the certificate"),
        (MUTUAL.model_copy(update={"ca": "none.pem"}), "none.pem: there is no such file"),
        (
            MUTUAL.model_copy(update={"certificate": "other/manager.pem", "key": "other/manager.key"}),
            "unknown ca|it may want a client certificate",
        ),
    ],
)
def test_a_link_that_cannot_be_trusted_is_refused_with_the_reason(home: Path, tls: TlsFiles, message: str) -> None:
    async def talk(driver: Driver) -> None:
        with pytest.raises(DriverError, match=message):
            await driver.read()
        assert driver.health.connected is False

    over_modbus(home, tls, talk)


def test_a_key_that_others_may_read_is_refused(home: Path, tmp_path: Path) -> None:
    folder = home / CERTIFICATES
    for name in ("ca.pem", "manager.pem", "manager.key"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "manager.key").chmod(0o644)
    with pytest.raises(TlsError, match=r"manager.key: others may read it \(mode 644\); allowed is 600"):
        client_context(MUTUAL, tmp_path)
    (tmp_path / "manager.key").write_text("nothing")
    (tmp_path / "manager.key").chmod(0o600)
    with pytest.raises(TlsError, match="holds no private key"):
        client_context(MUTUAL, tmp_path)


def test_the_tunnel_leads_only_its_own_process_and_tells_an_expired_device(home: Path) -> None:
    folder = home / CERTIFICATES
    # A device whose certificate ran out: made here by hand, for the server's own check would refuse to serve it.
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(folder / "old-server.pem", folder / "old-server.key")

    async def check() -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=shown)
        port = server.sockets[0].getsockname()[1]
        tunnel = TlsTunnel("127.0.0.1", port, client_context(MUTUAL, folder), "127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
        assert await reader.read() == b""
        assert tunnel.trouble == "the device's certificate has expired"
        writer.close()
        dial = f"import socket; print(socket.create_connection(('127.0.0.1', {tunnel.port})).recv(1))"
        stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", dial, stdout=asyncio.subprocess.PIPE)
        tunnel.trouble = "untouched"
        told, _ = await stranger.communicate()
        assert told.strip() == b"b''"
        assert tunnel.trouble == "untouched"
        tunnel.close()
        server.close()
        await server.wait_closed()

    asyncio.run(check())


def test_a_server_needs_a_certificate_of_its_own(home: Path) -> None:
    with pytest.raises(TlsError, match="a server needs certificate and key"):
        server_context(TlsFiles(ca="ca.pem"), home / CERTIFICATES, ask_client=True)
    with contextlib.closing(socket.socket()):
        assert server_context(MUTUAL, home / CERTIFICATES, ask_client=True).verify_mode is ssl.CERT_REQUIRED
