"""TALQ 2.x: street lamps behind a gateway as a controllable load, and the meters of their cabinets.

The platform is the central management system (CMS): it makes a group of all lamps, dims it by override commands that
expire by themselves, gives it the next hour as a control program with its calendar, and reads what the gateway reports,
or asks for it where the gateway cannot call.
"""

from __future__ import annotations

import asyncio
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
from control_loop.protocols.talq_client import GatewayCalls, GatewayRefusal
from control_loop.source_time import SourceClock
from flexergy_pipelines.grid.templates import DeviceTemplate
from flexergy_pipelines.grid.tls import TlsError

if TYPE_CHECKING:
    from control_loop.protocols.talq_server import CmsServer

LIMIT = "active_power_limit_kw"
CMS = uuid.UUID("6f1c4d1e-6b53-5f5b-9d0c-0d6f0a6c7e11")
"""Name space of the addresses that this CMS gives."""
LEAST_TIMEOUT_S = 2.0
REPORTED_S, REFRESH_S = 15.0, 60.0
"""A gateway that reports is asked when it was silent for so long, and so often anyway: what does not change may have
gone."""
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
        self._ttl = timedelta(seconds=setpoint_ttl_s)
        self._server_tls = server_tls
        self._calls = GatewayCalls(
            device, self.owner, self.health, address, timeout_s=max(LEAST_TIMEOUT_S, timeout_s), tls=tls,
            backoff=backoff or Backoff(1.0, 30.0),
        )  # fmt: skip
        self._values: dict[tuple[str, str, str], Any] = {}
        self._types: dict[tuple[str, str], str] = {}
        self._opening = asyncio.Lock()
        self._grouped: list[str] | None = None
        self._has_group = False
        self._assigned = False
        self._told: tuple[int, datetime, float] | None = None
        self._own_calendars: dict[str, str] = {}
        self._reported = self._asked = float("-inf")
        self._clock = SourceClock(first_counts=True)
        self._server: CmsServer | None = None
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
        now = time.monotonic()
        if now - self._reported > REPORTED_S or now - self._asked > REFRESH_S:
            await self._ask_devices()
        found: dict[PointKey, float | None] = {}
        for quantity, item in self._wanted.items():
            numbers = [messages.number_of(value) for value in self._shown(item.function, item.attribute)]
            known = [number for number in numbers if number is not None]
            whole = bool(numbers) and len(known) == len(numbers)
            found[self._asset, quantity] = sum(known) * item.scale if whole else None
        if self._commanded:
            found[self._asset, LIMIT] = self._limit_in_force()
        return found

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Dim the lamps so that they stay below a limit [kW]; at rated power they go back to their program."""
        if (asset_id, quantity) != (self._asset, LIMIT) or not self._commanded:
            raise DriverError(f"{self.device}: {quantity} of {asset_id} cannot be commanded")
        await self._open()
        level, ends = messages.level_for(value, self._rated_kw), datetime.now(UTC) + self._ttl
        order = level if level < messages.FULL else None
        await self._calls.call("POST", "/override-commands", messages.override(self._targets(), order, ends))
        self._told = None if order is None else (level, ends, value)

    def takes_schedule(self, asset_id: str) -> bool:
        """Lamps take the next hour as a control program."""
        return self._slots is not None and self._commanded and asset_id == self._asset

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Give the lamps the next hour as program and calendar; see `Driver.write_schedule`.

        Notes
        -----
        Lamps have a calendar of their own, by which they are off in daylight. It is taken from them only while
        something is to be held back, and given back afterwards.
        """
        slots = self._slots
        if slots is None or not self.takes_schedule(asset_id):
            raise DriverError(f"{self.device}: keeps no schedule for {asset_id}")
        if len(values) != slots.slots:
            raise DriverError(f"{self.device}: schedule of {len(values)} values, the device keeps {slots.slots}")
        await self._open()
        slot = timedelta(minutes=slots.slot_minutes)
        levels = [messages.level_for(value, self._rated_kw) for value in values]
        name = f"{self.device}-next-hour"
        assigned = messages.calendars_in(list(self.devices.values()))
        self._own_calendars |= {lamp: calendar for lamp, calendar in assigned.items() if calendar != name}
        if min(levels) == messages.FULL and self._own_calendars:
            await self._give_back(name)
            return
        programs = messages.programs_of(name, self.owner, start, slot, levels, self._zone)
        for program in programs.values():
            await self._calls.put("/control-programs", program["id"], program)
        days = {day: str(program["id"]) for day, program in programs.items()}
        await self._calls.put("/calendars", name, messages.calendar_of(name, self.owner, days))
        await self._calls.call("POST", "/assign-commands", messages.assignment(name, self._targets()))
        self._assigned = True

    async def _give_back(self, name: str) -> None:
        """Assign their own calendars to lamps that have ours."""
        now = messages.calendars_in(list(self.devices.values()))
        for calendar in sorted(set(self._own_calendars.values())):
            lamps = [lamp for lamp, own in self._own_calendars.items() if own == calendar]
            if self._assigned or any(now.get(lamp) == name for lamp in lamps):
                targets = messages.references("devices", lamps)
                await self._calls.call("POST", "/assign-commands", messages.assignment(calendar, targets))
        self._assigned = False

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
        for device, function, attribute, value in messages.attributes_of_reports(reports):
            # What is told of devices that the gateway has not listed is of nobody known.
            if (device, function) in self._types:
                self._values[device, function, attribute] = value

    def clock_offsets(self) -> Mapping[str, float]:
        """See `OwnClocks`: the gateway's, by which override commands end, as its reports show it."""
        return {"gateway": self._clock.offset_s} if self._clock.offset_s else {}

    def announce(self, devices: Sequence[dict[str, Any]]) -> None:
        """The gateway tells of devices by itself: it is asked for all it has in the next reading."""
        del devices
        self._asked = float("-inf")

    def _shown(self, function: str, attribute: str) -> list[Any]:
        """What the functions of a type show of an attribute."""
        return [v for (d, f, a), v in self._values.items() if a == attribute and self._types.get((d, f)) == function]

    async def _ask_devices(self) -> None:
        """Read all devices, and dim those together from now on that can be dimmed."""
        try:
            devices = messages.sound_devices(await self._calls.call("GET", "/devices"))
        except ValueError as error:
            raise await self._lost(f"GET /devices: {error}") from None
        self._asked = time.monotonic()
        self.devices = {device["address"]: device for device in devices}
        self._types = {(d["address"], f["id"]): f["type"] for d in devices for f in d["functions"]}
        self._values = {(d, f, a): value for d, f, a, value in messages.attributes_of_devices(devices)}
        await self._group()

    async def _group(self) -> None:
        """Tell the gateway of the group of all lamps where they are not those of before."""
        lamps = messages.lamps_in(list(self.devices.values()))
        if not self._commanded or lamps == self._grouped:
            return
        self._grouped = lamps
        try:
            await self._calls.put("/groups", self.group, messages.group_of(self.group, self.owner, lamps))
        except GatewayRefusal as error:  # groups are optional for gateways: each lamp is told then
            self.health.note(str(error))
            self._has_group = False
        else:
            self._has_group = True

    def _targets(self) -> list[dict[str, str]]:
        """Whom orders are for."""
        if self._has_group:
            return messages.references("groups", [self.group])
        return messages.references("devices", self._grouped or [])

    def _limit_in_force(self) -> float | None:
        """Limit that the lamps' present levels mean; None while one does not tell.

        Lamps that are darker than they may be, as by day, obey the order that is in force; as they dim by whole
        percents, they hold the limit that was asked for at the level below it.
        """
        shown = self._shown(messages.LAMP_ACTUATOR, ACTUAL_LEVEL)
        levels = [messages.level_of(state) for state in shown]
        known = [level for level in levels if level is not None]
        if not levels or len(known) < len(levels):
            return None
        mean = sum(known) / len(known)
        if self._told is None or datetime.now(UTC) >= self._told[1]:
            return self._rated_kw * max(messages.FULL, mean) / messages.FULL
        level, _, limit_kw = self._told
        return limit_kw if mean <= level else self._rated_kw * mean / messages.FULL

    async def _open(self) -> None:
        async with self._opening:  # a reading and an order may come at once
            if not self._calls.is_open:
                await self._begin()

    async def _begin(self) -> None:
        self._calls.open()
        try:
            if self._listen_port is not None and self._server is None:
                self._server = self._listening(self._listen_port)
            await self._ask_devices()
            if self._listen_port is not None:
                await self._log()
        except GatewayRefusal:
            self._calls.failed()
            await self._hang_up()
            raise
        except BaseException:
            await self._hang_up()
            raise
        self.health.connected = True
        self.health.reconnects += 1

    async def _log(self) -> None:
        """Have the gateway report; one that does not is asked."""
        logger = str(uuid.uuid5(CMS, f"{self.device}/logger"))
        try:
            await self._calls.put("/logger-configs", logger, messages.logger_of(logger, self.owner))
        except GatewayRefusal as error:
            self.health.note(str(error))

    def _listening(self, port: int) -> CmsServer:
        from control_loop.protocols.talq_server import CmsServer

        try:
            return CmsServer(self, port, self._server_tls() if self._server_tls is not None else None)
        except (OSError, TlsError) as error:
            raise DriverError(f"{self.device}: cannot listen on port {port}: {error}") from None

    def knows(self, host: str) -> bool:
        """Whether a caller is the gateway: by its certificate where there is TLS, else by its address."""
        if self._server_tls is not None:
            return True
        try:
            return ip_address(host) == ip_address(socket.gethostbyname(self._address()[0]))
        except (OSError, ValueError):
            return False

    async def _lost(self, message: str) -> DriverError:
        error = await self._calls.lost(message)
        await self._hang_up()
        return error

    async def _hang_up(self) -> None:
        self._values.clear()
        self._grouped = None
        self._reported = self._asked = float("-inf")
        await self._calls.close()
