"""OCPP 1.6J: the central system that a charging manager's charge points dial, as one controllable load.

The load's power is the sum of what the charge points meter; its limit is shared among those that charge and sent to
each as a charging profile, on change only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import ocpp.messages
from ocpp.v16 import call
from ocpp.v16.datatypes import ChargingProfile, ChargingSchedule, ChargingSchedulePeriod
from ocpp.v16.enums import (
    AuthorizationStatus,
    ChargingProfileKindType,
    ChargingProfilePurposeType,
    ChargingProfileStatus,
    ChargingRateUnitType,
    MessageTrigger,
    ResetType,
)
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from control_loop.image import PointKey
from control_loop.protocols import charger_orders
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.ocpp_access import ChargingAccess
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_session import Post, Session, Stranger
from control_loop.sharing import share_limit
from flexergy_pipelines.grid.clock import Clock, SystemClock
from flexergy_pipelines.grid.tls import TlsError

POWER = "active_power_kw"
LIMIT = "active_power_limit_kw"
PROFILE_ID = 1
LONG_AGO = "2000-01-01T00:00:00Z"
"""Start of every profile: it must hold at once, whatever the charge point's clock says."""
MOST_STRANGERS = 200


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
    access : ChargingAccess, optional
        Who may charge and connect; by default every tag, and known charge points without a key.
    tls : callable, optional
        Makes the server's side of the transport security (security profiles 2 and 3).
    clock : Clock, optional
        Time that the charge points' own time stamps are compared with; by default this machine's.
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
        access: ChargingAccess | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.device = device
        self.clock = clock or SystemClock()
        self.health = LinkHealth()
        self.journal = journal
        self.posts = {post.name: post for post in posts}
        self.access = access or ChargingAccess()
        self.strangers: dict[str, dict[str, Any]] = {}
        self.port = port
        self._asset_id = asset_id
        self._host = host
        self._tls = tls
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
        return AuthorizationStatus(self.access.verdict(id_tag))

    async def read(self) -> Mapping[PointKey, float | None]:
        """Sum of the charge points' power; one that is away counts with what it took last, for it charges on alone."""
        await self._listening()
        known = [post.power_kw for post in self.posts.values() if post.power_kw is not None]
        connected = [post for post in self.posts.values() if post.session is not None]
        self.health.connected = bool(connected)
        if not connected:
            self.health.failed(f"{self.device}: none of {len(self.posts)} charge points is connected")
            raise DriverError(self.health.last_error)
        self.health.counted()
        # What one of them says is no number leaves the sum unknown.
        power_kw = None if any(post.power_lost for post in connected) else sum(known)
        return {(self._asset_id, POWER): power_kw, (self._asset_id, LIMIT): self._limit_kw}

    def clock_offsets(self) -> Mapping[str, float]:
        """See `OwnClocks`: charge points that are connected and whose clock is off."""
        posts = [post for post in self.posts.values() if post.session is not None]
        return {post.name: post.clock.offset_s for post in posts if post.clock.offset_s}

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
        return await self._agreed(charge_point, call.RemoteStartTransaction(id_tag=id_tag, connector_id=connector))

    async def remote_stop(self, charge_point: str, transaction_id: int) -> bool:
        """Ask a charge point to end a transaction."""
        return await self._agreed(charge_point, call.RemoteStopTransaction(transaction_id=transaction_id))

    async def trigger(self, charge_point: str, message: MessageTrigger) -> bool:
        """Ask a charge point to send a message now."""
        return await self._agreed(charge_point, call.TriggerMessage(requested_message=message))

    async def reset(self, charge_point: str, kind: ResetType = ResetType.soft) -> bool:
        """Have a charge point start anew."""
        return await self._agreed(charge_point, call.Reset(type=kind))

    async def unlock(self, charge_point: str, connector: int = 1) -> bool:
        """Have a charge point let go of a cable."""
        answer = await self.ask(charge_point, call.UnlockConnector(connector_id=connector))
        return answer is not None and answer.status == "Unlocked"

    async def configuration(self, charge_point: str, keys: Sequence[str] = ()) -> dict[str, str | None]:
        """Settings of a charge point; all it has without `keys`."""
        answer = await self.ask(charge_point, call.GetConfiguration(key=list(keys) or None))
        rows = [] if answer is None else answer.configuration_key or []
        return {row["key"]: row.get("value") for row in rows}

    async def configure(self, charge_point: str, key: str, value: str) -> str:
        """Change a setting; returns what the charge point says (``Accepted``, ``RebootRequired``, ...)."""
        answer = await self.ask(charge_point, call.ChangeConfiguration(key=key, value=value))
        return "Rejected" if answer is None else str(answer.status)

    async def composite_schedule(
        self, charge_point: str, duration_s: int, connector: int = 0
    ) -> list[tuple[int, float]]:
        """What the charge point will allow: (seconds from now, limit [kW]) of each period."""
        wanted = call.GetCompositeSchedule(
            connector_id=connector, duration=duration_s, charging_rate_unit=ChargingRateUnitType.watts
        )
        answer = await self.ask(charge_point, wanted)
        schedule = None if answer is None else answer.charging_schedule
        periods = [] if schedule is None else schedule["charging_schedule_period"]
        return [(int(period["start_period"]), float(period["limit"]) / 1000.0) for period in periods]

    async def clear_profiles(self, charge_point: str) -> bool:
        """Take back every limit of ours; the loop's next write sets it again."""
        post = self.posts.get(charge_point)
        if post is not None:
            post.limit_kw = None
        return await self._agreed(charge_point, call.ClearChargingProfile(id=PROFILE_ID))

    async def update_firmware(self, charge_point: str, location: str, at: datetime) -> None:
        """Have a charge point fetch firmware from `location` at a time; its progress is in the post's `firmware`."""
        when = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await self.ask(charge_point, call.UpdateFirmware(location=location, retrieve_date=when))

    async def get_diagnostics(self, charge_point: str, location: str) -> str | None:
        """Have a charge point upload its diagnostics to `location`; returns the name of the file, None without one."""
        answer = await self.ask(charge_point, call.GetDiagnostics(location=location))
        return None if answer is None else answer.file_name

    async def obey(self, order: str) -> str:
        """Do what an operator asks of one charge point; see `charger_orders`.

        Raises
        ------
        DriverError
            It is not connected, does not answer, or refuses.
        ValueError
            There is no such order.
        """
        return await charger_orders.obey(self, charger_orders.order_of(order))

    async def ask(self, charge_point: str, message: Any) -> Any:
        """Send a request to a charge point; returns its answer, None when it refused with an error.

        Raises
        ------
        DriverError
            It is not connected, or does not answer.
        """
        post = self.posts.get(charge_point)
        if post is None or post.session is None:
            raise DriverError(f"{self.device}: {charge_point} is not connected")
        try:
            return await post.session.call(message)
        except (TimeoutError, ConnectionClosed) as error:
            raise DriverError(f"{self.device}: {charge_point} does not answer") from error

    async def _agreed(self, charge_point: str, message: Any) -> bool:
        answer = await self.ask(charge_point, message)
        return answer is not None and answer.status == "Accepted"

    async def _listening(self) -> None:
        if self._server is None:
            # The library would hop to a thread for each message and its answer; checking takes less than the hop.
            ocpp.messages.ASYNC_VALIDATION = False
            try:
                self._server = await serve(
                    self._meet,
                    self._host,
                    self.port,
                    subprotocols=[Subprotocol("ocpp1.6")],
                    process_request=self._admit,
                    ssl=self._tls() if self._tls is not None else None,
                    # Messages are short: compressing each costs more than it saves.
                    compression=None,
                )
            except (OSError, TlsError) as error:
                raise DriverError(f"{self.device}: cannot listen on {self._host}:{self.port}: {error}") from error
            self.port = next(iter(self._server.sockets)).getsockname()[1]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        name = unquote(request.path.rsplit("/", 1)[-1])
        if not self.access.certificate_fits(name, connection.transport.get_extra_info("peercert")):
            return connection.respond(403, "the certificate is not that of this charge point\n")
        if name in self.posts:
            if self.access.key_fits(name, request.headers.get("Authorization")):
                return None
            refusal = connection.respond(401, "the key is not that of this charge point\n")
            refusal.headers["WWW-Authenticate"] = 'Basic realm="OCPP"'
            return refusal
        if name and (name in self.strangers or len(self.strangers) < MOST_STRANGERS):
            return None
        return connection.respond(404, "no such charge point\n")

    def _introduced(self, name: str, identity: dict[str, Any]) -> None:
        self.strangers[name] = identity

    async def _meet(self, connection: ServerConnection) -> None:
        if connection.request is None or connection.subprotocol != "ocpp1.6":
            await connection.close(1002, "subprotocol ocpp1.6 is needed")
            return
        name = unquote(connection.request.path.rsplit("/", 1)[-1])
        post = self.posts.get(name)
        if post is None:
            with contextlib.suppress(ConnectionClosed):
                await Stranger(name, connection, self._introduced).start()
            return
        session = Session(post, connection, self)
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
