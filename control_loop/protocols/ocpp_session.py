"""OCPP 1.6J: what charge points say to the central system, known ones and strangers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ocpp.exceptions import PropertyConstraintViolationError
from ocpp.routing import after, on
from ocpp.v16 import call_result
from ocpp.v16.enums import AuthorizationStatus, DataTransferStatus, GenericStatus, RegistrationStatus
from websockets.asyncio.server import ServerConnection

from control_loop.protocols.ocpp_conversation import Conversation
from control_loop.protocols.ocpp_meter import CountedPower, energy_wh, told_power_kw, told_soc
from control_loop.protocols.ocpp_post import MOST_CONNECTORS, Post
from flexergy_pipelines.logs import get_logger

if TYPE_CHECKING:
    from control_loop.protocols.ocpp16 import OcppDriver

log = get_logger(__name__)

HEARTBEAT_S = 60
WAITING_S = 300
"""How often a charge point that waits for approval may ask again [s]."""
SET_SINCE = datetime(2020, 1, 1, tzinfo=UTC)
"""A clock that shows an earlier time was never set."""
AHEAD = timedelta(minutes=5)
"""A time stamp of the future by more is that of a wrong clock."""
LONGEST_TEXT = 100


class Session(Conversation):
    """One connection of a charge point; the library finds its handlers by name.

    Attributes
    ----------
    spoken : asyncio.Event
        Set once the charge point has said something: before, many take no orders.
    heard_s : float
        Monotonic time of its last word [s]; what keeps a connection open answers without it.
    """

    def __init__(self, post: Post, connection: ServerConnection, driver: OcppDriver) -> None:
        super().__init__(post.name, connection)
        self.post = post
        self.driver = driver
        self.spoken = asyncio.Event()
        self.heard_s = time.monotonic()

    async def route_message(self, raw_msg: str | bytes) -> None:
        """Count what comes, then see to it."""
        self.heard_s = time.monotonic()
        self.driver.health.bytes_received += len(raw_msg)
        if self.driver.health.tracing:
            self.driver.health.note(f"<- {self.post.name} {raw_msg}")
        self.spoken.set()  # whoever waits for it comes after the answer, for nothing before that lets others go on
        await super().route_message(raw_msg)

    async def _send(self, message: str) -> None:
        """Count what goes; the library calls it by this name."""
        self.driver.health.bytes_sent += len(message)
        if self.driver.health.tracing:
            self.driver.health.note(f"-> {self.post.name} {message}")
        await super()._send(message)

    async def hang_up(self) -> None:
        """End the connection: the charge point has dialled anew."""
        await self._connection.close(1000, "another connection of this charge point")

    @on("BootNotification")
    def on_boot(self, **identity: Any) -> Any:
        self.post.forget_limit()
        self.post.identity = identity
        return call_result.BootNotification(utc_now(), HEARTBEAT_S, RegistrationStatus.accepted)

    @after("BootNotification")
    def after_boot(self, **_: Any) -> None:
        self.driver.shares_changed()

    @on("Heartbeat")
    def on_heartbeat(self) -> Any:
        return call_result.Heartbeat(utc_now())

    @on("StatusNotification")
    def on_status(self, connector_id: int, status: str, error_code: str, **more: Any) -> Any:
        charging = len(self.post.transactions)
        self.post.tell_status(_connector(connector_id), status, error_code, more)
        if len(self.post.transactions) != charging:
            self.driver.shares_changed()
        return call_result.StatusNotification()

    @on("Authorize")
    def on_authorize(self, id_tag: str) -> Any:
        return call_result.Authorize(self.driver.access.info(id_tag))

    @on("StartTransaction")
    def on_start(self, connector_id: int, id_tag: str, meter_start: int, timestamp: str, **_: Any) -> Any:
        arrival = self._believed(timestamp)
        number = self.driver.journal.start(
            self.post.name, _connector(connector_id), id_tag, timestamp, meter_start, arrival=arrival
        )
        verdict = self.driver.access.info(id_tag)
        if verdict.status is AuthorizationStatus.accepted and self.driver.journal.goes_on(self.post.name, number):
            self.post.transactions[connector_id] = number
        self.driver.shares_changed()
        return call_result.StartTransaction(number, verdict)

    @on("StopTransaction")
    def on_stop(self, transaction_id: int, meter_stop: int, timestamp: str, **more: Any) -> Any:
        known = self.driver.journal.stop(
            self.post.name,
            transaction_id,
            timestamp,
            meter_stop,
            reason=more.get("reason"),
            departure=self._believed(timestamp),
        )
        if not known:
            told = {"transaction": transaction_id, "meter_stop_wh": meter_stop, "at": timestamp}
            log.warning("charge point ends a transaction that it never began", charge_point=self.post.name, **told)
        self.post.ended(transaction_id)
        self.driver.shares_changed()
        id_tag = more.get("id_tag")
        return call_result.StopTransaction(None if id_tag is None else self.driver.access.info(id_tag))

    @on("MeterValues")
    def on_meter_values(self, connector_id: int, meter_value: list[dict[str, Any]], **more: Any) -> Any:
        number, known = more.get("transaction_id"), self.post.transactions.get(_connector(connector_id))
        if number is not None and known is None and self.driver.journal.goes_on(self.post.name, number):
            self.post.transactions[connector_id] = number
        for entry in meter_value:
            stamp = time_of(entry.get("timestamp", ""))
            past = stamp is not None and self._is_past(connector_id, stamp)
            self._take(connector_id, entry["sampled_value"], stamp, past=past)
        return call_result.MeterValues()

    @on("DataTransfer")
    def on_data_transfer(self, **_: Any) -> Any:
        return call_result.DataTransfer(DataTransferStatus.unknown_vendor_id)

    @on("DiagnosticsStatusNotification")
    def on_diagnostics(self, status: str) -> Any:
        self.post.diagnostics = status
        return call_result.DiagnosticsStatusNotification()

    @on("FirmwareStatusNotification")
    def on_firmware(self, status: str) -> Any:
        self.post.firmware = status
        return call_result.FirmwareStatusNotification()

    @on("SecurityEventNotification")
    def on_security_event(self, type: str, timestamp: str, **more: Any) -> Any:  # noqa: A002 - the protocol's name
        log.warning(
            "charge point tells of security", charge_point=self.post.name, event_type=type, at=timestamp, **more
        )
        return call_result.SecurityEventNotification()

    @on("LogStatusNotification")
    def on_log_status(self, status: str, **_: Any) -> Any:
        self.post.diagnostics = status
        return call_result.LogStatusNotification()

    @on("SignedFirmwareStatusNotification")
    def on_signed_firmware(self, status: str, **_: Any) -> Any:
        self.post.firmware = status
        return call_result.SignedFirmwareStatusNotification()

    @on("SignCertificate")
    def on_sign_certificate(self, **_: Any) -> Any:
        # Certificates come from the operator's own authority, not from here.
        return call_result.SignCertificate(GenericStatus.rejected)

    def _believed(self, timestamp: str) -> datetime:
        """The time a charge point tells; that of receipt where its clock was never set, is far ahead, or tells none."""
        stamp, now = time_of(timestamp), self.driver.clock.now()
        return stamp if stamp is not None and SET_SINCE <= stamp <= now + AHEAD else now

    def _is_past(self, connector_id: int, stamp: datetime) -> bool:
        """Whether meter values tell of the past."""
        clock = self.driver.clock
        key = (self.post.name, str(connector_id))
        return bool(self.post.clock.judge({key: stamp}, clock.now(), clock.monotonic())[1])

    def _take(
        self, connector_id: int, samples: Sequence[Mapping[str, Any]], stamp: datetime | None, *, past: bool
    ) -> None:
        transaction = self.post.transactions.get(connector_id)
        counted_wh = next((wh for wh in map(energy_wh, samples) if wh is not None), None)
        if transaction is not None and counted_wh is not None:
            self.post.meters_wh[transaction] = counted_wh
        power_kw = told_power_kw(samples, self.post.phases)
        counted_kw = self.post.counters.setdefault(connector_id, CountedPower()).power_kw(stamp, counted_wh)
        if power_kw is not None:
            self.post.tells_power.add(connector_id)
        elif connector_id not in self.post.tells_power:
            power_kw = counted_kw
        if past:
            # Who tells of the past only, of that nobody knows what it takes now.
            if power_kw is not None:
                self.post.powers_kw.setdefault(connector_id, math.nan)
            return
        if power_kw is not None:
            self.post.powers_kw[connector_id] = power_kw
        charged = told_soc(samples)
        if charged is not None:
            self.post.soc = charged


class Stranger(Conversation):
    """A connection of a charge point that nobody has approved: it may introduce itself, and no more."""

    def __init__(
        self, name: str, connection: ServerConnection, introduced: Callable[[str, dict[str, Any]], None]
    ) -> None:
        super().__init__(name, connection)
        self._introduced = introduced

    @on("BootNotification")
    def on_boot(self, **identity: Any) -> Any:
        self._introduced(self.id, {key: printable(str(value)) for key, value in identity.items()})
        return call_result.BootNotification(utc_now(), WAITING_S, RegistrationStatus.rejected)


def printable(text: str) -> str:
    """What a stranger says, as it may be kept and shown."""
    return "".join(c if c.isprintable() else "?" for c in text)[:LONGEST_TEXT]


def utc_now() -> str:
    """Present time as the protocol writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _connector(number: int) -> int:
    """A connector's number.

    Raises
    ------
    PropertyConstraintViolationError
        No charge point has so many.
    """
    if not 0 <= number <= MOST_CONNECTORS:
        raise PropertyConstraintViolationError(details={"cause": f"connectorId {number}: must be 0..{MOST_CONNECTORS}"})
    return number


def time_of(timestamp: str) -> datetime | None:
    """A time stamp; without a zone it is UTC, and without sense there is none."""
    try:
        stamp = datetime.fromisoformat(timestamp)
        return stamp.astimezone(UTC) if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
