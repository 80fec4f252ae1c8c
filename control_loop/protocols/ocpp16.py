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
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import ocpp.messages
from ocpp.exceptions import OCPPError
from ocpp.v16 import call
from ocpp.v16.enums import (
    AuthorizationStatus,
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
from control_loop.protocols.ocpp_limits import PROFILE_ID, WAYS, LimitSharing, periods_kw, profile_of
from control_loop.protocols.ocpp_post import Post
from control_loop.protocols.ocpp_session import HEARTBEAT_S, Session, Stranger, time_of
from flexergy_pipelines.grid.clock import Clock, SystemClock
from flexergy_pipelines.grid.tls import TlsError

POWER = "active_power_kw"
LIMIT = "active_power_limit_kw"
EXTENDED = frozenset({MessageTrigger.log_status_notification, MessageTrigger.sign_charge_point_certificate})
MOST_STRANGERS = 200
LONGEST_IDENTITY = 48
LONGEST_REASON = 300
FIRST_WORD_S = 5.0
"""A charge point that has said nothing for so long after dialling takes orders all the same."""
SILENT_S = 3.0 * HEARTBEAT_S
"""A connected charge point that has said nothing for so long hangs: three of its heartbeats did not come."""
STILL_GOES_ON = timedelta(days=2)
"""A transaction that began so long ago, and of which nobody has heard the end, is not taken up again after a start."""


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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sharing = LimitSharing(device, self.posts, self.health)
        self._take_up()

    @property
    def assets(self) -> frozenset[str]:
        """The block load."""
        return frozenset({self._asset_id})

    def verdict(self, id_tag: str) -> AuthorizationStatus:
        """Whether a tag may charge."""
        return self.access.info(id_tag).status

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
        return {(self._asset_id, POWER): power_kw, (self._asset_id, LIMIT): self._sharing.limit_kw}

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
        self._sharing.limit_kw = value
        refusals = await self._sharing.share()
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
        await self._sharing.close()
        self.journal.close()

    def shares_changed(self) -> None:
        """A car came or went: share the limit anew, outside of the handler that noticed."""
        self._sharing.renew()

    def device_faults(self) -> Mapping[str, str]:
        """See `OwnFaults`: what charge points that are connected say is wrong with them, or that they say nothing."""
        told: dict[str, str] = {}
        for post in self.posts.values():
            if post.session is None:
                continue
            if time.monotonic() - post.session.heard_s > SILENT_S:
                told[post.name] = f"is connected and has said nothing for {SILENT_S / 60:.0f} min"
            elif post.faults:
                told[post.name] = "; ".join(post.faults[connector] for connector in sorted(post.faults))
        return told

    async def remote_start(
        self, charge_point: str, id_tag: str, connector: int = 1, limit_kw: float | None = None
    ) -> bool:
        """Ask a charge point to begin a transaction, with a limit of its own where one is given [kW]."""
        post, profile = self.posts.get(charge_point), None
        if post is not None and limit_kw is not None:
            profile = profile_of(WAYS[post.way], limit_kw, post, session=True)
        order = call.RemoteStartTransaction(id_tag=id_tag, connector_id=connector, charging_profile=profile)
        return await self._agreed(charge_point, order)

    async def remote_stop(self, charge_point: str, transaction_id: int) -> bool:
        """Ask a charge point to end a transaction."""
        return await self._agreed(charge_point, call.RemoteStopTransaction(transaction_id=transaction_id))

    async def trigger(self, charge_point: str, message: MessageTrigger, connector: int | None = None) -> bool:
        """Ask a charge point to send a message now; those of the security extension have a request of their own."""
        ask = call.ExtendedTriggerMessage if message in EXTENDED else call.TriggerMessage
        return await self._agreed(charge_point, ask(requested_message=message, connector_id=connector))

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
        asked = {key.lower(): key for key in keys}  # upper and lower case are the same to the protocol
        return {asked.get(str(row["key"]).lower(), str(row["key"])): row.get("value") for row in rows}

    async def configure(self, charge_point: str, key: str, value: str) -> str:
        """Change a setting; returns what the charge point says (``Accepted``, ``RebootRequired``, ...)."""
        answer = await self.ask(charge_point, call.ChangeConfiguration(key=key, value=value))
        return "Rejected" if answer is None else str(answer.status)

    async def composite_schedule(
        self, charge_point: str, duration_s: int, connector: int = 0
    ) -> list[tuple[int, float]]:
        """What the charge point will allow: (seconds from now, limit [kW]) of each period."""
        for unit in (ChargingRateUnitType.watts, ChargingRateUnitType.amps):
            wanted = call.GetCompositeSchedule(connector_id=connector, duration=duration_s, charging_rate_unit=unit)
            answer = await self.ask(charge_point, wanted)
            if answer is not None and answer.charging_schedule is not None:
                return periods_kw(answer.charging_schedule)
        return []

    async def clear_profiles(self, charge_point: str) -> bool:
        """Take back every limit of ours; the loop's next write sets it again."""
        cleared = await self._agreed(charge_point, call.ClearChargingProfile(id=PROFILE_ID))
        self.posts[charge_point].forget_limit()
        return cleared

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
            It is not connected, does not answer, or answers what nobody can read.
        """
        post = self.posts.get(charge_point)
        if post is None or post.session is None:
            raise DriverError(f"{self.device}: {charge_point} is not connected")
        try:
            return await post.session.call(message)
        except (TimeoutError, ConnectionClosed) as error:
            raise DriverError(f"{self.device}: {charge_point} does not answer") from error
        except OCPPError as error:
            told = (error.details or {}).get("cause") or error.description
            raise DriverError(f"{self.device}: {charge_point} answers wrongly: {told}"[:LONGEST_REASON]) from error

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
        name = _identity(request)
        if not self.access.certificate_fits(name, connection.transport.get_extra_info("peercert")):
            return connection.respond(403, "the certificate is not that of this charge point\n")
        if name in self.posts:
            if self.access.key_fits(name, request.headers.get("Authorization")):
                return None
            refusal = connection.respond(401, "the key is not that of this charge point\n")
            refusal.headers["WWW-Authenticate"] = 'Basic realm="OCPP"'
            return refusal
        if (
            0 < len(name) <= LONGEST_IDENTITY
            and name.isprintable()
            and (name in self.strangers or len(self.strangers) < MOST_STRANGERS)
        ):
            return None
        return connection.respond(404, "no such charge point\n")

    def _introduced(self, name: str, identity: dict[str, Any]) -> None:
        self.strangers[name] = identity

    async def _meet(self, connection: ServerConnection) -> None:
        if connection.request is None or connection.subprotocol != "ocpp1.6":
            await connection.close(1002, "subprotocol ocpp1.6 is needed")
            return
        name = _identity(connection.request)
        post = self.posts.get(name)
        if post is None:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                await Stranger(name, connection, self._introduced).start()
            return
        session, before = Session(post, connection, self), post.session
        post.session = session
        post.forget_limit()
        self.health.reconnects += 1
        if before is not None:
            self._spawn(before.hang_up())
        self._spawn(self._hear_out(session))
        try:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                await session.start()
        finally:
            if post.session is session:
                post.session = None
                self.shares_changed()

    async def _hear_out(self, session: Session) -> None:
        """Tell a charge point its limit once it has introduced itself, or does not say anything."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(session.spoken.wait(), FIRST_WORD_S)
        session.spoken.set()
        self.shares_changed()

    def _take_up(self) -> None:
        """Go on with the transactions that ran when the loop was last ended."""
        for begun in self.journal.running():
            post, started = self.posts.get(begun.charge_point), time_of(begun.started)
            if post is not None and started is not None and self.clock.now() - started < STILL_GOES_ON:
                post.transactions[begun.connector] = begun.transaction_id

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _identity(request: Request) -> str:
    """The charge point's identity: the last part of the path it dials, below the folder of them all."""
    parts = [part for part in request.path.partition("?")[0].split("/") if part]
    return unquote(parts[-1]) if parts and parts != ["ocpp"] else ""
