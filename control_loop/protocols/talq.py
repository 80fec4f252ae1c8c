"""TALQ 2.x: street lamps behind a gateway as a controllable load, and the meters of their cabinets.

The platform is the central management system (CMS): it makes a group of all lamps, dims it by override commands that
expire by themselves, gives it the next hour as a control program with its calendar, and reads what the gateway reports,
or asks for it where the gateway cannot call.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from control_loop.image import PointKey
from control_loop.protocols import talq_messages as messages
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.source_time import SourceClock
from flexergy_pipelines.grid.templates import DeviceTemplate
from flexergy_pipelines.grid.tls import TlsError

if TYPE_CHECKING:
    import httpx

    from control_loop.protocols.talq_server import CmsServer

LIMIT = "active_power_limit_kw"
CMS = uuid.UUID("6f1c4d1e-6b53-5f5b-9d0c-0d6f0a6c7e11")
"""Name space of the addresses that this CMS gives."""
LEAST_TIMEOUT_S = 2.0
REPORTED_S = 15.0
"""A gateway that reports, and was silent for so long, is asked."""
ACTUAL_LEVEL = "actualLightState"


class TalqDriver:
    """Link to one gateway; see `Driver`.

    Parameters
    ----------
    address : callable
        Gives host and port of the gateway.
    template : DeviceTemplate
        Its `talq` names the attributes of each quantity.
    assets : sequence of str
        The lamps as one load, or the cabinets as one meter.
    rated_kw : float
        Power of all lamps at full light [kW].
    zone : ZoneInfo
        Local time of the gateway's programs.
    listen_port : int or None
        Where the gateway's reports are taken.
    tls : callable, optional
        Makes the TLS context of the calls.
    server_tls : callable, optional
        Makes the TLS context of the reports' server, which asks for the gateway's certificate.
    """

    def __init__(
        self,
        device: str,
        address: Callable[[], tuple[str, int]],
        template: DeviceTemplate,
        assets: Sequence[str],
        quantities: Mapping[str, frozenset[str]],
        *,
        rated_kw: float,
        zone: ZoneInfo,
        listen_port: int | None = None,
        timeout_s: float = LEAST_TIMEOUT_S,
        setpoint_ttl_s: float = 60.0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        server_tls: Callable[[], ssl.SSLContext] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        if len(assets) != 1:
            raise ValueError(f"{device}: a gateway's lamps are one asset, not {len(assets)}")
        self.device = device
        self.health = LinkHealth()
        self.owner = str(uuid.uuid5(CMS, "cms"))
        self.group = str(uuid.uuid5(CMS, f"{device}/lamps"))
        self.devices: dict[str, dict[str, Any]] = {}
        self._asset = assets[0]
        self._wanted = {q: item for q, item in template.talq.items() if q in quantities[assets[0]]}
        self._commanded = any(point.writable for point in template.points)
        self._slots = template.schedule
        self._address = address
        self._rated_kw = rated_kw
        self._zone = zone
        self._listen_port = listen_port
        self._timeout_s = max(LEAST_TIMEOUT_S, timeout_s)
        self._ttl = timedelta(seconds=setpoint_ttl_s)
        self._tls = tls
        self._server_tls = server_tls
        self._backoff = backoff or Backoff(1.0, 30.0)
        self._client: httpx.AsyncClient | None = None
        self._values: dict[tuple[str, str, str], Any] = {}
        self._reported = float("-inf")
        self._clock = SourceClock(first_counts=True)
        self._server: CmsServer | None = None
        self._functions: dict[tuple[str, str], str] = {}
        # Here rather than in the first cycle, which would be late by them.
        import_module("httpx")
        if listen_port is not None:
            import_module("control_loop.protocols.talq_server")

    @property
    def assets(self) -> frozenset[str]:
        """The lamps as one load, or the cabinets as one meter."""
        return frozenset({self._asset})

    async def read(self) -> Mapping[PointKey, float | None]:
        """Sums over the gateway's devices; a quantity that one device does not give is missing."""
        await self._open()
        if time.monotonic() - self._reported > REPORTED_S:
            self._take_devices(await self._call("GET", "/devices"))
        found: dict[PointKey, float | None] = {}
        for quantity, item in self._wanted.items():
            parts = [v for (_, f, a), v in self._values.items() if (f, a) == (item.function, item.attribute)]
            numbers = [float(v) for v in parts if isinstance(v, int | float) and not isinstance(v, bool)]
            whole = bool(parts) and len(numbers) == len(parts)
            found[self._asset, quantity] = sum(numbers) * item.scale if whole else None
        if self._commanded:
            found[self._asset, LIMIT] = self._limit_in_force()
        return found

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Dim the lamps so that they stay below a limit [kW]; at rated power they go back to their program."""
        if (asset_id, quantity) != (self._asset, LIMIT) or not self._commanded:
            raise DriverError(f"{self.device}: {quantity} of {asset_id} cannot be commanded")
        await self._open()
        level = messages.level_for(value, self._rated_kw)
        order = level if level < messages.FULL else None
        command = messages.override(self.group, order, datetime.now(UTC) + self._ttl)
        await self._call("POST", "/override-commands", command)

    def takes_schedule(self, asset_id: str) -> bool:
        """Lamps take the next hour as a control program."""
        return self._slots is not None and self._commanded and asset_id == self._asset

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Give the group the next hour as program and calendar; see `Driver.write_schedule`."""
        slots = self._slots
        if slots is None or not self.takes_schedule(asset_id):
            raise DriverError(f"{self.device}: keeps no schedule for {asset_id}")
        if len(values) != slots.slots:
            raise DriverError(f"{self.device}: schedule of {len(values)} values, the device keeps {slots.slots}")
        await self._open()
        slot = timedelta(minutes=slots.slot_minutes)
        levels = [messages.level_for(value, self._rated_kw) for value in values]
        name = f"{self.device}-next-hour"
        ends = [start, start + len(levels) * slot]
        days = sorted({moment.astimezone(self._zone).date().isoformat() for moment in ends})
        program = messages.program_of(name, self.owner, start, slot, levels, self._zone)
        await self._put("/control-programs", name, program)
        await self._put("/calendars", name, messages.calendar_of(name, self.owner, name, days))
        await self._call("POST", "/assign-commands", messages.assignment(name, self.group))

    async def close(self) -> None:
        """Hang up, and take no more reports."""
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        await self._hang_up()

    def take_reports(self, reports: Any) -> None:
        """Take log reports of the gateway."""
        self._reported = time.monotonic()
        stamp = messages.newest_stamp(reports)
        if stamp is not None:
            self._clock.judge({(self._asset, "report"): stamp}, datetime.now(UTC), time.monotonic())
        for device, function, attribute, value in messages.attributes_of_reports(reports, self._functions):
            self._values[device, function, attribute] = value

    def clock_offsets(self) -> Mapping[str, float]:
        """See `OwnClocks`: the gateway's, by which override commands end, as its reports show it."""
        return {"gateway": self._clock.offset_s} if self._clock.offset_s else {}

    def announce(self, devices: Sequence[dict[str, Any]]) -> None:
        """Devices that the gateway tells of by itself; they are taken into the group at the next call."""
        self.devices |= {device["address"]: device for device in devices}

    def _take_devices(self, devices: Any) -> None:
        if not isinstance(devices, list):
            raise DriverError(f"{self.device}: the gateway's devices make no sense")
        self.devices = {device["address"]: device for device in devices}
        self._functions = {
            (device["address"], function["id"]): function["type"]
            for device in devices
            for function in device.get("functions", [])
        }
        self._values = {(d, f, a): value for d, f, a, value in messages.attributes_of_devices(devices)}

    def _limit_in_force(self) -> float | None:
        """Limit that the lamps' present levels mean; None while one does not tell."""
        levels = [v for (_, f, a), v in self._values.items() if (f, a) == (messages.LAMP_ACTUATOR, ACTUAL_LEVEL)]
        known = [v["value"] for v in levels if isinstance(v, dict) and isinstance(v.get("value"), int | float)]
        if not levels or len(known) < len(levels):
            return None
        return self._rated_kw * sum(known) / len(known) / messages.FULL

    async def _open(self) -> None:
        if self._client is not None:
            return
        import httpx

        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DriverError(f"{self.device}: down, next try in {self._backoff.wait_s(now):.1f} s")
        host, port = self._address()
        try:
            verify = self._tls() if self._tls is not None else True
        except TlsError as error:
            self._backoff.failed(now)
            raise DriverError(f"{self.device}: {error}") from None
        base = f"{'http' if self._tls is None else 'https'}://{host}:{port}"
        self._client = httpx.AsyncClient(base_url=base, timeout=self._timeout_s, verify=verify, trust_env=False)
        if self._listen_port is not None and self._server is None:
            self._server = self._listening(self._listen_port)
        self._take_devices(await self._call("GET", "/devices"))
        if self._commanded:
            lamps = messages.lamps_in(list(self.devices.values()))
            await self._put("/groups", self.group, messages.group_of(self.group, self.owner, lamps))
        if self._listen_port is not None:
            logger = str(uuid.uuid5(CMS, f"{self.device}/logger"))
            await self._put("/logger-configs", logger, messages.logger_of(logger, self.owner))
        self.health.connected = True
        self.health.reconnects += 1

    def _listening(self, port: int) -> CmsServer:
        from control_loop.protocols.talq_server import CmsServer

        try:
            return CmsServer(self, port, self._server_tls() if self._server_tls is not None else None)
        except (OSError, TlsError) as error:
            self._client = None
            raise DriverError(f"{self.device}: cannot listen on port {port}: {error}") from None

    def knows(self, host: str) -> bool:
        """Whether a caller is the gateway: by its certificate where there is TLS, else by its address."""
        if self._server_tls is not None:
            return True
        try:
            return ip_address(host) == ip_address(socket.gethostbyname(self._address()[0]))
        except (OSError, ValueError):
            return False

    async def _put(self, path: str, address: str, body: dict[str, Any]) -> None:
        """Make an entity, or replace it where it is there already."""
        answer = await self._call("POST", path, [body], accept=(409,))
        if answer == 409:
            await self._call("PUT", f"{path}/{address}", body)

    async def _call(self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = ()) -> Any:
        """A call to the gateway: its JSON, or an accepted status."""
        import httpx

        if self._client is None:
            raise DriverError(f"{self.device}: link was lost")
        began = time.monotonic()
        asked = {"clientAddress": self.owner, "talqRequestId": str(uuid.uuid4())}
        try:
            answer = await self._client.request(
                method, path, json=body, params=asked, headers={"talq-api-version": messages.API_VERSION}
            )
            content = answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError) as error:
            raise await self._lost(f"{method} {path}: {error or type(error).__name__}") from None
        self.health.bytes_sent += len(answer.request.content)
        self.health.bytes_received += len(answer.content)
        self.health.note(f"{method} {path} {body or ''} -> {answer.status_code}")
        if answer.status_code in accept:
            return answer.status_code
        if not answer.is_success:
            self.health.failed(f"{self.device}: {method} {path}: {answer.status_code} {answer.text[:200]}")
            raise DriverError(self.health.last_error)
        self._backoff.succeeded()
        self.health.answered(time.monotonic() - began)
        return content

    async def _lost(self, message: str) -> DriverError:
        self._backoff.failed(time.monotonic())
        self.health.failed(f"{self.device}: {message}")
        await self._hang_up()
        return DriverError(self.health.last_error)

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        self.health.connected = False
        self._values.clear()
        self._reported = float("-inf")
        if client is not None:
            with contextlib.suppress(OSError):
                await client.aclose()
