"""OCPP 1.6J: the central system that a charging manager's charge points dial, as one controllable load.

The load's power is the sum of what the charge points meter; its limit is shared among those that charge and sent to
each as a charging profile, on change only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call, call_result
from ocpp.v16.datatypes import ChargingProfile, ChargingSchedule, ChargingSchedulePeriod, IdTagInfo
from ocpp.v16.enums import (
    AuthorizationStatus,
    ChargingProfileKindType,
    ChargingProfilePurposeType,
    ChargingProfileStatus,
    ChargingRateUnitType,
    DataTransferStatus,
    RegistrationStatus,
)
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from control_loop.image import PointKey
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.ocpp_journal import Journal
from control_loop.sharing import Claim, share_limit

POWER = "active_power_kw"
LIMIT = "active_power_limit_kw"
ANSWER_S = 5
HEARTBEAT_S = 60
PROFILE_ID = 1
LONG_AGO = "2000-01-01T00:00:00Z"
"""Start of every profile: it must hold at once, whatever the charge point's clock says."""
LEAST_KW_PER_PHASE = 1.4
"""6 A at 230 V: less does not charge a car."""


@dataclass(slots=True)
class Post:
    """A charge point as the central system knows it.

    Attributes
    ----------
    transactions : dict
        Number of each running transaction by connector.
    limit_kw : float or None
        Limit it has confirmed; None before the first.
    """

    name: str
    max_kw: float
    phases: int = 3
    priority: int = 5
    session: _Session | None = None
    power_kw: float | None = None
    soc: float | None = None
    status: str = "Unknown"
    transactions: dict[int, int] = field(default_factory=dict)
    limit_kw: float | None = None

    @property
    def claim(self) -> Claim:
        """What it asks of the manager's limit while a car charges."""
        return Claim(self.name, self.max_kw, LEAST_KW_PER_PHASE * self.phases, self.priority, self.soc)


class _Session(OcppChargePoint):
    """One connection of a charge point; the library finds its handlers by name."""

    def __init__(self, post: Post, connection: ServerConnection, driver: OcppDriver) -> None:
        super().__init__(post.name, connection, response_timeout=ANSWER_S)
        self.post = post
        self.driver = driver

    @on("BootNotification")
    def on_boot(self, **_: Any) -> Any:
        self.post.limit_kw = None
        return call_result.BootNotification(_now(), HEARTBEAT_S, RegistrationStatus.accepted)

    @on("Heartbeat")
    def on_heartbeat(self) -> Any:
        return call_result.Heartbeat(_now())

    @on("StatusNotification")
    def on_status(self, connector_id: int, status: str, **_: Any) -> Any:
        if connector_id != 0:
            self.post.status = status
        return call_result.StatusNotification()

    @on("Authorize")
    def on_authorize(self, id_tag: str) -> Any:
        return call_result.Authorize(IdTagInfo(status=self.driver.verdict(id_tag)))

    @on("StartTransaction")
    def on_start(self, connector_id: int, id_tag: str, meter_start: int, timestamp: str, **_: Any) -> Any:
        number = self.driver.journal.start(self.post.name, connector_id, id_tag, timestamp, meter_start)
        verdict = self.driver.verdict(id_tag)
        if verdict is AuthorizationStatus.accepted:
            self.post.transactions[connector_id] = number
        self.driver.shares_changed()
        return call_result.StartTransaction(number, IdTagInfo(status=verdict))

    @on("StopTransaction")
    def on_stop(self, transaction_id: int, meter_stop: int, timestamp: str, **more: Any) -> Any:
        self.driver.journal.stop(transaction_id, timestamp, meter_stop, more.get("reason"))
        running = self.post.transactions
        self.post.transactions = {c: number for c, number in running.items() if number != transaction_id}
        if not self.post.transactions:
            self.post.power_kw, self.post.soc = 0.0, None
        self.driver.shares_changed()
        return call_result.StopTransaction()

    @on("MeterValues")
    def on_meter_values(self, connector_id: int, meter_value: list[dict[str, Any]], **more: Any) -> Any:
        number = more.get("transaction_id")
        if number is not None:
            self.post.transactions.setdefault(connector_id, number)
        for sample in meter_value[-1]["sampled_value"] if meter_value else []:
            self._take(sample)
        return call_result.MeterValues()

    @on("DataTransfer")
    def on_data_transfer(self, **_: Any) -> Any:
        return call_result.DataTransfer(DataTransferStatus.unknown_vendor_id)

    @on("DiagnosticsStatusNotification")
    def on_diagnostics(self, **_: Any) -> Any:
        return call_result.DiagnosticsStatusNotification()

    @on("FirmwareStatusNotification")
    def on_firmware(self, **_: Any) -> Any:
        return call_result.FirmwareStatusNotification()

    def _take(self, sample: Mapping[str, Any]) -> None:
        try:
            value = float(sample["value"])
        except ValueError:
            return
        measurand = sample.get("measurand", "Energy.Active.Import.Register")
        if measurand == "Power.Active.Import" and sample.get("phase") is None:
            self.post.power_kw = value if sample.get("unit") == "kW" else value / 1000.0
        elif measurand == "SoC":
            self.post.soc = value / 100.0


class OcppDriver:
    """Central system of one charging manager; see `Driver`.

    Parameters
    ----------
    asset_id : str
        The manager's block load.
    host, port
        Address the charge points dial (``ws://host:port/ocpp/<charge point>``); port 0 takes any.
    posts : sequence of Post
        The manager's charge points; others are turned away.
    accepts : callable, optional
        Whether an id tag may charge; by default every tag that is not empty.
    """

    def __init__(
        self,
        device: str,
        asset_id: str,
        *,
        host: str,
        port: int,
        posts: Sequence[Post],
        journal: Journal,
        accepts: Callable[[str], bool] = bool,
    ) -> None:
        self.device = device
        self.health = LinkHealth()
        self.journal = journal
        self.posts = {post.name: post for post in posts}
        self.turned_away: set[str] = set()
        self.port = port
        self._asset_id = asset_id
        self._host = host
        self._accepts = accepts
        self._server: Server | None = None
        self._limit_kw: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sharing = asyncio.Lock()

    @property
    def assets(self) -> frozenset[str]:
        """The block load."""
        return frozenset({self._asset_id})

    def verdict(self, id_tag: str) -> AuthorizationStatus:
        """Whether a tag may charge."""
        return AuthorizationStatus.accepted if self._accepts(id_tag.strip()) else AuthorizationStatus.invalid

    async def read(self) -> Mapping[PointKey, float | None]:
        """Sum of the charge points' power; one that is away counts with what it took last, for it charges on alone."""
        await self._listening()
        known = [post.power_kw for post in self.posts.values() if post.power_kw is not None]
        connected = [post for post in self.posts.values() if post.session is not None]
        self.health.connected = bool(connected)
        if not connected:
            self.health.failed(f"{self.device}: none of {len(self.posts)} charge points is connected")
            raise DriverError(self.health.last_error)
        self.health.answered(0.0)
        return {(self._asset_id, POWER): sum(known), (self._asset_id, LIMIT): self._limit_kw}

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Share a new limit; returns when every connected charge point has confirmed its part."""
        if (asset_id, quantity) != (self._asset_id, LIMIT):
            raise DriverError(f"{self.device}: {asset_id} {quantity} cannot be commanded")
        await self._listening()
        if not any(post.session for post in self.posts.values()):
            raise DriverError(f"{self.device}: none of {len(self.posts)} charge points is connected")
        self._limit_kw = value
        refusals = await self._share()
        if refusals:
            raise DriverError(f"{self.device}: {'; '.join(refusals)}")

    def takes_schedule(self, asset_id: str) -> bool:
        """Charge points keep no schedule of the manager's."""
        del asset_id
        return False

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """See `takes_schedule`."""
        raise DriverError(f"{self.device}: keeps no schedule for {asset_id} ({len(values)} values from {start})")

    async def close(self) -> None:
        """Hang up and stop listening."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self.journal.close()

    def shares_changed(self) -> None:
        """A car came or went: share the limit anew, outside of the handler that noticed."""
        if self._limit_kw is not None:
            self._spawn(self._share())

    async def remote_start(self, charge_point: str, id_tag: str, connector: int = 1) -> bool:
        """Ask a charge point to begin a transaction."""
        return await self._ask(charge_point, call.RemoteStartTransaction(id_tag=id_tag, connector_id=connector))

    async def remote_stop(self, charge_point: str, transaction_id: int) -> bool:
        """Ask a charge point to end a transaction."""
        return await self._ask(charge_point, call.RemoteStopTransaction(transaction_id=transaction_id))

    async def _ask(self, charge_point: str, message: Any) -> bool:
        post = self.posts.get(charge_point)
        if post is None or post.session is None:
            raise DriverError(f"{self.device}: {charge_point} is not connected")
        try:
            answer = await post.session.call(message)
        except (TimeoutError, ConnectionClosed) as error:
            raise DriverError(f"{self.device}: {charge_point} does not answer") from error
        return answer is not None and answer.status == "Accepted"

    async def _listening(self) -> None:
        if self._server is None:
            try:
                self._server = await serve(
                    self._meet,
                    self._host,
                    self.port,
                    subprotocols=[Subprotocol("ocpp1.6")],
                    process_request=self._admit,
                )
            except OSError as error:
                raise DriverError(f"{self.device}: cannot listen on {self._host}:{self.port}: {error}") from error
            self.port = next(iter(self._server.sockets)).getsockname()[1]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        name = request.path.rsplit("/", 1)[-1]
        if name in self.posts:
            return None
        self.turned_away.add(name)
        return connection.respond(404, f"charge point {name} is not one of this site\n")

    async def _meet(self, connection: ServerConnection) -> None:
        if connection.request is None or connection.subprotocol != "ocpp1.6":
            await connection.close(1002, "subprotocol ocpp1.6 is needed")
            return
        post = self.posts[connection.request.path.rsplit("/", 1)[-1]]
        session = _Session(post, connection, self)
        post.session = session
        post.limit_kw = None
        self.health.reconnects += 1
        self.shares_changed()
        try:
            with contextlib.suppress(ConnectionClosed):
                await session.start()
        finally:
            if post.session is session:
                post.session = None

    async def _share(self) -> list[str]:
        """Send every connected charge point its part where it changed; returns who did not take it."""
        async with self._sharing:
            parts = self._parts()
            due = [p for p in self.posts.values() if p.session is not None and p.limit_kw != parts[p.name]]
            answers = await asyncio.gather(*(self._send(post, parts[post.name]) for post in due))
        return [answer for answer in answers if answer is not None]

    def _parts(self) -> dict[str, float]:
        """Part of the limit of each charge point: those that charge share it, the others may begin with their least.

        What a charge point that is away took last is set aside, since it cannot be told to take less.
        """
        limit = self._limit_kw or 0.0
        away = sum(p.power_kw or 0.0 for p in self.posts.values() if p.session is None)
        busy = [p for p in self.posts.values() if p.session is not None and p.transactions]
        parts = share_limit(limit - away, [p.claim for p in busy])
        left = max(0.0, limit - away - sum(parts.values()))
        idle = [p for p in self.posts.values() if p not in busy]
        return {k: round(v, 3) for k, v in (share_limit(left, [p.claim for p in idle]) | parts).items()}

    async def _send(self, post: Post, limit_kw: float) -> str | None:
        session = post.session
        if session is None:
            return None
        began = time.monotonic()
        profile = ChargingProfile(
            charging_profile_id=PROFILE_ID,
            stack_level=0,
            charging_profile_purpose=ChargingProfilePurposeType.charge_point_max_profile,
            charging_profile_kind=ChargingProfileKindType.absolute,
            charging_schedule=ChargingSchedule(
                charging_rate_unit=ChargingRateUnitType.watts,
                start_schedule=LONG_AGO,
                charging_schedule_period=[ChargingSchedulePeriod(start_period=0, limit=round(1000 * limit_kw, 1))],
            ),
        )
        try:
            answer = await session.call(call.SetChargingProfile(connector_id=0, cs_charging_profiles=profile))
        except (TimeoutError, ConnectionClosed):
            self.health.failed(f"{self.device}: {post.name} did not answer a charging profile")
            return f"{post.name} did not answer"
        if answer is None or answer.status != ChargingProfileStatus.accepted:
            return f"{post.name} refused a limit of {limit_kw:g} kW"
        self.health.answered(time.monotonic() - began)
        post.limit_kw = limit_kw
        return None

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
