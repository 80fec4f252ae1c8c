"""The connection of a simulated charge point to its central system: dial, register, tell, obey, dial again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ocpp.exceptions import OCPPError
from ocpp.routing import after, on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call, call_result
from ocpp.v16.enums import (
    AvailabilityStatus,
    AvailabilityType,
    CancelReservationStatus,
    ChargingProfileStatus,
    ClearCacheStatus,
    ClearChargingProfileStatus,
    ConfigurationStatus,
    DataTransferStatus,
    DiagnosticsStatus,
    FirmwareStatus,
    GetCompositeScheduleStatus,
    Log,
    LogStatus,
    MessageTrigger,
    ReadingContext,
    Reason,
    RemoteStartStopStatus,
    ReservationStatus,
    ResetStatus,
    TriggerMessageStatus,
    UnlockStatus,
    UploadLogStatus,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from flexergy_pipelines.logs import get_logger
from plant_simulator.charging import PHASE_VOLTAGE_V
from plant_simulator.modbus_unit import Line
from plant_simulator.ocpp_charger import Charger, registered, until_set
from plant_simulator.ocpp_drivers import Reservation
from plant_simulator.ocpp_notes import Note
from plant_simulator.ocpp_profiles import MAX_PERIODS, TX_PURPOSE, instant

log = get_logger(__name__)

SUBPROTOCOL = Subprotocol("ocpp1.6")
CONNECTORS = (0, 1)
"""The charge point as a whole, and its connector."""
ANSWER_TIMEOUT_S = 20
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
IDLE_S = 1.0
LONGEST_COMPOSITE_S = 7 * 86_400
FIRMWARE_STEPS = (
    FirmwareStatus.downloading,
    FirmwareStatus.downloaded,
    FirmwareStatus.installing,
    FirmwareStatus.installed,
)


class Link(OcppChargePoint):
    """One connection: what the central system asks of the charge point."""

    def __init__(self, charger: Charger, connection: ClientConnection, line: Line) -> None:
        super().__init__(charger.identity, connection, response_timeout=ANSWER_TIMEOUT_S)
        self.charger = charger
        self.line = line
        self._triggered: dict[str, Callable[[], None]] = {
            MessageTrigger.meter_values: lambda: charger.sample(ReadingContext.trigger),
            MessageTrigger.status_notification: charger.repeat_status,
            MessageTrigger.heartbeat: lambda: charger.tell(call.Heartbeat),
            MessageTrigger.boot_notification: lambda: charger.tell(lambda: boot_notification(charger)),
            MessageTrigger.firmware_status_notification: lambda: charger.tell(
                lambda: call.FirmwareStatusNotification(status=FirmwareStatus.idle)
            ),
            MessageTrigger.diagnostics_status_notification: lambda: charger.tell(
                lambda: call.DiagnosticsStatusNotification(status=DiagnosticsStatus.idle)
            ),
            MessageTrigger.log_status_notification: lambda: charger.tell(
                lambda: call.LogStatusNotification(status=UploadLogStatus.idle, request_id=0)
            ),
        }

    async def route_message(self, raw_msg: str) -> None:
        """Take a message, unless the line is silent."""
        if not self.line.silent:
            await super().route_message(raw_msg)

    async def _send(self, message: str) -> None:
        """Say something, as late as a slow line lets it."""
        await asyncio.sleep(self.line.delay_s)
        await super()._send(message)

    @on("SetChargingProfile")
    def on_set_profile(self, connector_id: int, cs_charging_profiles: dict[str, Any]) -> Any:
        taken = self.charger.deaf_to_orders or self.charger.profiles.install(
            connector_id, cs_charging_profiles, self.charger.transaction
        )
        status = ChargingProfileStatus.accepted if taken else ChargingProfileStatus.rejected
        return call_result.SetChargingProfile(status=status)

    @on("ClearChargingProfile")
    def on_clear_profile(self, **wanted: Any) -> Any:
        cleared = self.charger.deaf_to_orders or self.charger.profiles.clear(
            wanted.get("id"),
            wanted.get("connector_id"),
            wanted.get("charging_profile_purpose"),
            wanted.get("stack_level"),
        )
        status = ClearChargingProfileStatus.accepted if cleared else ClearChargingProfileStatus.unknown
        return call_result.ClearChargingProfile(status=status)

    @on("GetCompositeSchedule")
    def on_composite(self, connector_id: int, duration: int, charging_rate_unit: str = "W", **_: Any) -> Any:
        charger, begin = self.charger, self.charger.now()
        if connector_id not in CONNECTORS or duration <= 0:
            return call_result.GetCompositeSchedule(status=GetCompositeScheduleStatus.rejected)
        w_per_unit = PHASE_VOLTAGE_V * charger.point.plug.phases if charging_rate_unit == "A" else 1.0
        told_s = min(duration, LONGEST_COMPOSITE_S)
        fewer = charging_rate_unit == "A" and charger.point.plug.phases != 3  # the protocol takes 3 for granted
        phases = {"number_phases": charger.point.plug.phases} if fewer else {}
        periods: list[dict[str, Any]] = []
        for second in range(0, told_s, 60):
            limit_kw = charger.profiles.limit_kw(begin + timedelta(seconds=second), charger.transaction)
            limit = round(1000 * (charger.point.max_kw if limit_kw is None else limit_kw) / w_per_unit, 1)
            if not periods or periods[-1]["limit"] != limit:
                if len(periods) == MAX_PERIODS:
                    told_s = second
                    break
                periods.append({"start_period": second, "limit": limit} | phases)
        return call_result.GetCompositeSchedule(
            status=GetCompositeScheduleStatus.accepted,
            connector_id=connector_id,
            schedule_start=charger.stamp(),
            charging_schedule={
                "duration": told_s,
                "charging_rate_unit": charging_rate_unit,
                "charging_schedule_period": periods,
            },
        )

    @on("RemoteStartTransaction")
    def on_remote_start(
        self, id_tag: str, connector_id: int = 1, charging_profile: dict[str, Any] | None = None
    ) -> Any:
        fits = charging_profile is None or charging_profile["charging_profile_purpose"] == TX_PURPOSE
        started = connector_id == 1 and fits and self.charger.remote_start(id_tag, charging_profile)
        status = RemoteStartStopStatus.accepted if started else RemoteStartStopStatus.rejected
        return call_result.RemoteStartTransaction(status=status)

    @on("RemoteStopTransaction")
    def on_remote_stop(self, transaction_id: int) -> Any:
        running = self.charger.running
        if running is None or running.transaction_id != transaction_id:
            return call_result.RemoteStopTransaction(status=RemoteStartStopStatus.rejected)
        self.charger.stop_transaction(Reason.remote)
        self.charger.point.send_away()
        return call_result.RemoteStopTransaction(status=RemoteStartStopStatus.accepted)

    @on("TriggerMessage")
    def on_trigger(self, requested_message: str, connector_id: int | None = None) -> Any:
        if connector_id not in {None, *CONNECTORS}:
            return call_result.TriggerMessage(status=TriggerMessageStatus.rejected)
        known = requested_message in self._triggered
        status = TriggerMessageStatus.accepted if known else TriggerMessageStatus.not_implemented
        return call_result.TriggerMessage(status=status)

    @on("ExtendedTriggerMessage")
    def on_extended_trigger(self, requested_message: str, connector_id: int | None = None) -> Any:
        answer = self.on_trigger(requested_message, connector_id)
        return call_result.ExtendedTriggerMessage(status=answer.status)

    @after("TriggerMessage")
    def after_trigger(self, requested_message: str, connector_id: int | None = None) -> None:
        """Send what was asked for, after the answer as the protocol wants it."""
        if connector_id in {None, *CONNECTORS} and requested_message in self._triggered:
            self._triggered[requested_message]()

    @after("ExtendedTriggerMessage")
    def after_extended_trigger(self, requested_message: str, connector_id: int | None = None) -> None:
        self.after_trigger(requested_message, connector_id)

    @on("GetConfiguration")
    def on_get_configuration(self, key: list[str] | None = None) -> Any:
        known, unknown = self.charger.settings.rows(key)
        return call_result.GetConfiguration(configuration_key=known, unknown_key=unknown)

    @on("ChangeConfiguration")
    def on_change_configuration(self, key: str, value: str) -> Any:
        return call_result.ChangeConfiguration(status=ConfigurationStatus(self.charger.settings.change(key, value)))

    @on("ChangeAvailability")
    def on_change_availability(self, connector_id: int, type: str) -> Any:  # noqa: A002 - the protocol's name
        if connector_id not in CONNECTORS:
            return call_result.ChangeAvailability(status=AvailabilityStatus.rejected)
        self.charger.available = type == AvailabilityType.operative
        if self.charger.running is not None and not self.charger.available:
            return call_result.ChangeAvailability(status=AvailabilityStatus.scheduled)
        return call_result.ChangeAvailability(status=AvailabilityStatus.accepted)

    @on("ReserveNow")
    def on_reserve(self, connector_id: int, expiry_date: str, id_tag: str, reservation_id: int, **_: Any) -> Any:
        if connector_id != 1:  # as its setting ReserveConnectorZeroSupported says
            return call_result.ReserveNow(status=ReservationStatus.rejected)
        wanted = Reservation(reservation_id, id_tag, instant(expiry_date))
        return call_result.ReserveNow(status=self.charger.reserve(wanted))

    @on("CancelReservation")
    def on_cancel(self, reservation_id: int) -> Any:
        cancelled = self.charger.cancel(reservation_id)
        status = CancelReservationStatus.accepted if cancelled else CancelReservationStatus.rejected
        return call_result.CancelReservation(status=status)

    @on("Reset")
    def on_reset(self, type: str) -> Any:  # noqa: A002 - the protocol's name
        self.charger.stop_transaction(Reason.hard_reset if type == "Hard" else Reason.soft_reset)
        self._hang_up = asyncio.get_running_loop().call_later(0.5, self._connection.transport.abort)
        return call_result.Reset(status=ResetStatus.accepted)

    @on("UnlockConnector")
    def on_unlock(self, connector_id: int) -> Any:
        if connector_id != 1:
            return call_result.UnlockConnector(status=UnlockStatus.not_supported)
        self.charger.stop_transaction(Reason.unlock_command)
        self.charger.point.send_away()
        return call_result.UnlockConnector(status=UnlockStatus.unlocked)

    @on("SendLocalList")
    def on_local_list(
        self, list_version: int, update_type: str, local_authorization_list: list[dict[str, Any]] | None = None
    ) -> Any:
        taken = self.charger.local_list.update(list_version, update_type, local_authorization_list or [])
        return call_result.SendLocalList(status=taken)

    @on("GetLocalListVersion")
    def on_local_list_version(self) -> Any:
        return call_result.GetLocalListVersion(list_version=self.charger.local_list.version)

    @on("ClearCache")
    def on_clear_cache(self) -> Any:
        return call_result.ClearCache(status=ClearCacheStatus.accepted)

    @on("GetDiagnostics")
    def on_diagnostics(self, location: str, **_: Any) -> Any:  # noqa: ARG002 - the protocol's name
        for status in (DiagnosticsStatus.uploading, DiagnosticsStatus.uploaded):
            self.charger.tell(lambda status=status: call.DiagnosticsStatusNotification(status=status))
        return call_result.GetDiagnostics(file_name=f"{self.charger.identity}-diagnostics.txt")

    @on("GetLog")
    def on_log(self, log_type: str, request_id: int, **_: Any) -> Any:
        for status in (UploadLogStatus.uploading, UploadLogStatus.uploaded):
            self.charger.tell(lambda status=status: call.LogStatusNotification(status=status, request_id=request_id))
        kind = "security" if log_type == Log.security_log else "diagnostics"
        return call_result.GetLog(status=LogStatus.accepted, filename=f"{self.charger.identity}-{kind}.log")

    @on("UpdateFirmware")
    def on_firmware(self, **_: Any) -> Any:
        for status in FIRMWARE_STEPS:
            self.charger.tell(lambda status=status: call.FirmwareStatusNotification(status=status))
        return call_result.UpdateFirmware()

    @on("DataTransfer")
    def on_data_transfer(self, **_: Any) -> Any:
        return call_result.DataTransfer(status=DataTransferStatus.unknown_vendor_id)


def boot_notification(charger: Charger) -> call.BootNotification:
    """How the charge point introduces itself."""
    return call.BootNotification(
        charge_point_model="Simulated AC",
        charge_point_vendor="Flexergy",
        charge_point_serial_number=charger.identity,
        firmware_version="1.0",
    )


async def stay_connected(
    charger: Charger, url: Callable[[], str], line: Line, access: Callable[[], dict[str, Any]] = dict
) -> None:
    """Keep the charge point connected for ever, with growing pauses between failed tries.

    Parameters
    ----------
    charger : Charger
        The charge point.
    url : callable
        Address of the central system, without the charge point's name, asked before every try.
    line : Line
        How the line behaves: *down* hangs up and does not dial, *silent* neither hears nor speaks.
    access : callable
        How the charge point shows who it is (arguments of the library's ``connect``), asked before every try.
    """
    backoff_s = FIRST_BACKOFF_S
    while True:
        if not line.down:
            try:
                async with connect(
                    f"{url()}/{charger.identity}",
                    subprotocols=[SUBPROTOCOL],
                    open_timeout=5,
                    ping_interval=30,
                    **access(),
                ) as connection:
                    await _converse(Link(charger, connection, line))
                backoff_s = FIRST_BACKOFF_S
            except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, json.JSONDecodeError) as error:
                if charger.registered:
                    backoff_s = FIRST_BACKOFF_S
                log.debug("charge point lost its central system", charge_point=charger.identity, reason=str(error))
            charger.went_offline()
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)


async def _converse(link: Link) -> None:
    """Register and tell everything in the outbox, in order, while requests are answered at the same time."""
    listener = asyncio.create_task(link.start())
    teller = asyncio.create_task(_register_and_tell(link))
    try:
        done, _ = await asyncio.wait({listener, teller}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        await _end({listener, teller})


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: before Python 3.12 a `wait_for` inside may swallow a cancellation."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.1)


async def _register_and_tell(link: Link) -> None:
    charger = link.charger
    while not registered(answer := await link.call(boot_notification(charger))):
        await asyncio.sleep(max(1, 10 if answer is None else answer.interval))
    if answer is not None and answer.interval > 0:
        charger.settings.change("HeartbeatInterval", str(answer.interval))
    charger.registered = charger.introduced = True
    while not link.line.down:
        if not charger.outbox or link.line.silent:
            await until_set(charger.wake, IDLE_S)
            continue
        note: Note = charger.outbox[0]
        try:
            reply = await link.call(note.build())
        except OCPPError as error:
            log.warning("a message was refused", charge_point=charger.identity, reason=str(error))
            reply = None
        # Only what was answered leaves the outbox: what a cut line swallowed is told again.
        with contextlib.suppress(ValueError):
            charger.outbox.remove(note)
        if reply is not None:
            note.heard(reply)
