"""OCPP 1.6J: what charge points say to the central system, known ones and strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call_result
from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import AuthorizationStatus, DataTransferStatus, GenericStatus, RegistrationStatus
from websockets.asyncio.server import ServerConnection

from control_loop.protocols.ocpp_meter import CountedPower, energy_wh, told_power_kw, told_soc
from control_loop.sharing import Claim
from control_loop.source_time import SourceClock
from flexergy_pipelines.logs import get_logger

if TYPE_CHECKING:
    from control_loop.protocols.ocpp16 import OcppDriver

log = get_logger(__name__)

ANSWER_S = 5
HEARTBEAT_S = 60
WAITING_S = 300
"""How often a charge point that waits for approval may ask again [s]."""
LEAST_KW_PER_PHASE = 1.4
"""6 A at 230 V: less does not charge a car."""


@dataclass(slots=True)
class Post:
    """A charge point as the central system knows it.

    Attributes
    ----------
    transactions : dict
        Number of each running transaction by connector.
    meters_wh : dict
        Last meter reading of each running transaction [Wh].
    powers_kw : dict
        Last word on the power of each connector, 0 being the charge point as a whole; not a number where it said so.
    counters, tells_power
        Energy counters of the connectors, which stand in for the power of those that never tell it.
    limit_kw : float or None
        Limit it has confirmed; None before the first.
    identity : dict
        What it said of itself when it booted.
    clock : SourceClock
        What its time stamps say: meter values that it kept back while it was away are not its present power.
    firmware, diagnostics : str
        Last word on a firmware update, and on an upload of diagnostics.
    """

    name: str
    max_kw: float
    phases: int = 3
    priority: int = 5
    session: Session | None = None
    powers_kw: dict[int, float] = field(default_factory=dict)
    counters: dict[int, CountedPower] = field(default_factory=dict)
    tells_power: set[int] = field(default_factory=set)
    soc: float | None = None
    status: str = "Unknown"
    transactions: dict[int, int] = field(default_factory=dict)
    meters_wh: dict[int, float] = field(default_factory=dict)
    limit_kw: float | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    clock: SourceClock = field(default_factory=lambda: SourceClock(first_counts=True))
    firmware: str = "Idle"
    diagnostics: str = "Idle"

    @property
    def power_kw(self) -> float | None:
        """What it takes; None when it has not told yet, or not by a number."""
        known = self.powers_kw.get(0, sum(self.powers_kw.values())) if self.powers_kw else math.nan
        return known if math.isfinite(known) else None

    @property
    def power_lost(self) -> bool:
        """Whether it speaks of its power, and not by a number."""
        return bool(self.powers_kw) and self.power_kw is None

    @property
    def claim(self) -> Claim:
        """What it asks of the manager's limit while a car charges."""
        return Claim(self.name, self.max_kw, LEAST_KW_PER_PHASE * self.phases, self.priority, self.soc)


class Session(OcppChargePoint):
    """One connection of a charge point; the library finds its handlers by name."""

    def __init__(self, post: Post, connection: ServerConnection, driver: OcppDriver) -> None:
        super().__init__(post.name, connection, response_timeout=ANSWER_S)
        self.post = post
        self.driver = driver

    async def route_message(self, raw_msg: str) -> None:
        """Count what comes, then see to it."""
        self.driver.health.bytes_received += len(raw_msg)
        if self.driver.health.tracing:
            self.driver.health.note(f"<- {self.post.name} {raw_msg}")
        await super().route_message(raw_msg)

    async def _send(self, message: str) -> None:
        """Count what goes; the library calls it by this name."""
        self.driver.health.bytes_sent += len(message)
        if self.driver.health.tracing:
            self.driver.health.note(f"-> {self.post.name} {message}")
        await super()._send(message)

    @on("BootNotification")
    def on_boot(self, **identity: Any) -> Any:
        self.post.limit_kw = None
        self.post.identity = identity
        return call_result.BootNotification(utc_now(), HEARTBEAT_S, RegistrationStatus.accepted)

    @on("Heartbeat")
    def on_heartbeat(self) -> Any:
        return call_result.Heartbeat(utc_now())

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
        self.post.meters_wh.pop(transaction_id, None)
        self.post.powers_kw |= dict.fromkeys(running.keys() - self.post.transactions.keys(), 0.0)
        if not self.post.transactions:
            self.post.powers_kw, self.post.soc = dict.fromkeys(self.post.powers_kw or {1}, 0.0), None
        self.driver.shares_changed()
        return call_result.StopTransaction()

    @on("MeterValues")
    def on_meter_values(self, connector_id: int, meter_value: list[dict[str, Any]], **more: Any) -> Any:
        number = more.get("transaction_id")
        if number is not None:
            self.post.transactions.setdefault(connector_id, number)
        for entry in meter_value:
            stamp = _time_of(entry.get("timestamp", ""))
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


def _time_of(timestamp: str) -> datetime | None:
    """A time stamp; without a zone it is UTC, and without sense there is none."""
    try:
        stamp = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)


class Stranger(OcppChargePoint):
    """A connection of a charge point that nobody has approved: it may introduce itself, and no more."""

    def __init__(
        self, name: str, connection: ServerConnection, introduced: Callable[[str, dict[str, Any]], None]
    ) -> None:
        super().__init__(name, connection, response_timeout=ANSWER_S)
        self._introduced = introduced

    @on("BootNotification")
    def on_boot(self, **identity: Any) -> Any:
        self._introduced(self.id, identity)
        return call_result.BootNotification(utc_now(), WAITING_S, RegistrationStatus.rejected)


def utc_now() -> str:
    """Present time as the protocol writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
