"""OCPP 1.6J: what charge points say to the central system, known ones and strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call_result
from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import AuthorizationStatus, DataTransferStatus, RegistrationStatus
from websockets.asyncio.server import ServerConnection

from control_loop.sharing import Claim
from control_loop.source_time import SourceClock

if TYPE_CHECKING:
    from control_loop.protocols.ocpp16 import OcppDriver

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
    power_lost : bool
        Whether it said of its power last that it is no number.
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
    power_kw: float | None = None
    power_lost: bool = False
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
        if not self.post.transactions:
            self.post.power_kw, self.post.soc = 0.0, None
        self.driver.shares_changed()
        return call_result.StopTransaction()

    @on("MeterValues")
    def on_meter_values(self, connector_id: int, meter_value: list[dict[str, Any]], **more: Any) -> Any:
        number = more.get("transaction_id")
        if number is not None:
            self.post.transactions.setdefault(connector_id, number)
        if meter_value:
            past = self._is_past(connector_id, meter_value[-1].get("timestamp", ""))
            for sample in meter_value[-1]["sampled_value"]:
                self._take(sample, self.post.transactions.get(connector_id), past=past)
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

    def _is_past(self, connector_id: int, timestamp: str) -> bool:
        """Whether meter values tell of the past; without a time stamp they count as present."""
        try:
            stamp = datetime.fromisoformat(timestamp)
        except ValueError:
            return False
        stamp = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
        clock = self.driver.clock
        key = (self.post.name, str(connector_id))
        return bool(self.post.clock.judge({key: stamp}, clock.now(), clock.monotonic())[1])

    def _take(self, sample: Mapping[str, Any], transaction: int | None, *, past: bool) -> None:
        try:
            value = float(sample["value"])
        except ValueError:
            return
        measurand = sample.get("measurand", "Energy.Active.Import.Register")
        if past and measurand in {"Power.Active.Import", "SoC"}:
            # Who tells of the past only, of that nobody knows what it takes now.
            self.post.power_lost |= self.post.power_kw is None and measurand == "Power.Active.Import"
            return
        if not math.isfinite(value):  # a charge point may say "NaN"
            self.post.power_lost |= measurand == "Power.Active.Import"
        elif measurand == "Power.Active.Import" and sample.get("phase") is None:
            self.post.power_kw = value if sample.get("unit") == "kW" else value / 1000.0
            self.post.power_lost = False
        elif measurand == "SoC":
            self.post.soc = value / 100.0
        elif measurand == "Energy.Active.Import.Register" and transaction is not None and sample.get("phase") is None:
            self.post.meters_wh[transaction] = value * 1000.0 if sample.get("unit") == "kWh" else value


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
