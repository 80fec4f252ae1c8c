"""A charge point that speaks OCPP 1.6J to a central system, and keeps what it could not tell while alone."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ocpp.v16 import call, call_result
from ocpp.v16.enums import (
    AuthorizationStatus,
    ChargePointErrorCode,
    ChargePointStatus,
    ReadingContext,
    Reason,
    RegistrationStatus,
    ReservationStatus,
)

from flexergy_pipelines.grid.clock import Clock
from plant_simulator.charging import ChargePoint
from plant_simulator.faults import Fault
from plant_simulator.ocpp_drivers import LocalList, Reservation
from plant_simulator.ocpp_notes import Note, Running
from plant_simulator.ocpp_profiles import ProfileStack, Transaction
from plant_simulator.ocpp_settings import Settings
from plant_simulator.signals import SPIKE_FACTOR, SPIKE_PROBABILITY

Sample = tuple[str, str, float]
"""Measurand, unit and value."""

OFFLINE_LIMIT = 10_000
"""Messages of transactions kept while the central system is away; the oldest meter values go first beyond it."""
RETRY_AUTHORIZATION_S = 30.0


class Charger:
    """State of one charge point with one connector; its connection comes and goes.

    Parameters
    ----------
    point : ChargePoint
        The physics behind the plug.
    clock : Clock
        Time stamps and intervals.
    fault : callable
        The fault of a kind that is in force now, or None.
    rng : random.Random, optional
        Seeded generator of the spikes.
    """

    def __init__(
        self,
        point: ChargePoint,
        clock: Clock,
        fault: Callable[[str], Fault | None] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        self.point = point
        self.clock = clock
        self.settings = Settings()
        self.profiles = ProfileStack(point.plug.phases)
        self.running: Running | None = None
        self.registered = False
        self.introduced = False
        self.available = True
        self.outbox: deque[Note] = deque()
        self.wake = asyncio.Event()
        self.local_list = LocalList()
        self.reservation: Reservation | None = None
        self._fault = fault
        self._rng = rng or random.Random(0)  # noqa: S311 - physics, not secrets
        self._sampled: list[Sample] = []
        self._status: ChargePointStatus | None = None
        self._asked: tuple[int, float] | None = None
        self._sampled_s = clock.monotonic()
        self._aligned: int | None = None
        self._beat_s = clock.monotonic()
        point.released = False
        point.charge(0.0, 0.0)

    @property
    def identity(self) -> str:
        """Name of the charge point towards the central system."""
        return self.point.plug.identity or self.point.point_id

    @property
    def transaction(self) -> Transaction | None:
        """The running transaction, as profiles see it."""
        return None if self.running is None else Transaction(self.running.transaction_id, self.running.started)

    def now(self) -> datetime:
        """The charge point's own idea of the time."""
        skew = self._fault("clock_skew")
        return self.clock.now() + timedelta(seconds=0.0 if skew is None else skew.value)

    def stamp(self) -> str:
        """That time as the protocol writes it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def meter_wh(self) -> int:
        """Reading of the energy register [Wh]."""
        return round(self.point.energy_kwh * 1000)

    def tick(self) -> None:
        """Follow the car and the profiles, and note what the central system must hear."""
        session = self.point.session
        if self.running is not None and (session is None or session.number != self.running.session):
            self.stop_transaction(Reason.ev_disconnected)
        if self.reservation is not None and self.now() >= self.reservation.until:
            self.reservation = None
        if self.running is None and session is not None and self.available:
            self._ask_to_charge(session.number)
        limit_kw = self.profiles.limit_kw(self.now(), self.transaction)
        if self._fault("stuck_output") is None:
            self.point.limit_kw = self.point.max_kw if limit_kw is None else min(self.point.max_kw, max(0.0, limit_kw))
        self._report_status()
        self._report_regularly()

    def stop_transaction(self, reason: Reason) -> None:
        """End the running transaction, and the flow of energy with it."""
        ended, self.running = self.running, None
        self.point.released = False
        self.profiles.end_transaction()
        if ended is None:
            return
        meter_wh, stamp = self.meter_wh(), self.stamp()
        self.tell(
            lambda: call.StopTransaction(
                meter_stop=meter_wh,
                timestamp=stamp,
                transaction_id=ended.transaction_id or 0,
                reason=reason,
                id_tag=ended.id_tag,
            ),
            keep=True,
        )

    def remote_start(self, id_tag: str, profile: dict[str, Any] | None = None) -> bool:
        """Start for a tag that the central system names; False when that cannot be: no car, or kept for another."""
        session = self.point.session
        if self.running is not None or session is None or not self.available or self._keeps_out(id_tag):
            return False
        if self.settings.is_on("AuthorizeRemoteTxRequests"):
            self._authorize(session.number, id_tag, profile)
        else:
            self._begin(session.number, id_tag, profile)
        return True

    def reserve(self, reservation: Reservation) -> ReservationStatus:
        """Keep the connector for a driver; one of the same number is replaced."""
        if not self.available:
            return ReservationStatus.unavailable
        other = self.reservation is not None and self.reservation.number != reservation.number
        if other or self.running is not None or self.point.session is not None:
            return ReservationStatus.occupied
        if reservation.until <= self.now():
            return ReservationStatus.rejected
        self.reservation = reservation
        return ReservationStatus.accepted

    def cancel(self, number: int) -> bool:
        """Take a reservation back; False when there is none of this number."""
        if self.reservation is None or self.reservation.number != number:
            return False
        self.reservation = None
        return True

    def tell(
        self,
        build: Callable[[], Any],
        heard: Callable[[Any], None] = lambda _: None,
        *,
        keep: bool = False,
        is_sample: bool = False,
    ) -> None:
        """Put a message into the outbox; dropped when nobody listens and it is not worth keeping."""
        if not self.registered and not keep:
            return
        if len(self.outbox) >= OFFLINE_LIMIT:
            oldest = next((note for note in self.outbox if note.is_sample), None)
            if oldest is not None:
                self.outbox.remove(oldest)
        self.outbox.append(Note(build, heard, keep, is_sample))
        self.wake.set()

    def went_offline(self) -> None:
        """Forget what was only of the moment; what concerns transactions stays."""
        self.registered = False
        self._status = None
        self._asked = None
        self.outbox = deque(note for note in self.outbox if note.keep)

    def repeat_status(self) -> None:
        """Report the status again at the next tick."""
        self._status = None

    def sample(self, context: ReadingContext = ReadingContext.sample_periodic) -> None:
        """Note the present meter values, those that the settings name."""
        running = self.running
        aligned = context is ReadingContext.sample_clock
        wanted = self.settings.measurands("MeterValuesAlignedData" if aligned else "MeterValuesSampledData")
        values = [_sampled(*sample, context) for sample in self._measured() if sample[0] in wanted]
        if not values:
            return
        meter_value = [{"timestamp": self.stamp(), "sampled_value": values}]
        self.tell(
            lambda: call.MeterValues(
                connector_id=1,
                meter_value=meter_value,
                transaction_id=None if running is None else running.transaction_id,
            ),
            keep=running is not None,
            is_sample=True,
        )

    @property
    def deaf_to_orders(self) -> bool:
        """Whether orders are acknowledged and dropped."""
        return self._fault("ack_without_effect") is not None

    def _measured(self) -> list[Sample]:
        """Measurand, unit and value of everything that is measured, through the faults in force."""
        if self._fault("frozen") is not None and self._sampled:
            return self._sampled
        samples: list[Sample] = [
            ("Power.Active.Import", "W", self.point.power_kw * 1000),
            ("Energy.Active.Import.Register", "Wh", self.meter_wh()),
        ]
        if self.point.session is not None:
            samples.append(("SoC", "Percent", 100 * self.point.session.soc))
        scale = self._fault("wrong_scale")
        if scale is not None:
            samples[0] = (*samples[0][:2], samples[0][2] * scale.value)
        if self._fault("spikes") is not None and self._rng.random() < SPIKE_PROBABILITY:
            wild = self._rng.randrange(len(samples))
            samples[wild] = (*samples[wild][:2], SPIKE_FACTOR * (samples[wild][2] + 1.0))
        if self._fault("nan") is not None:
            samples = [(measurand, unit, math.nan) for measurand, unit, _ in samples]
        self._sampled = samples
        return samples

    def _ask_to_charge(self, session: int) -> None:
        """Let the driver show his tag; once registered, a charge point serves its drivers offline as well."""
        if not self.registered and not self.introduced:
            return
        now_s = self.clock.monotonic()
        if self._asked is not None and self._asked[0] == session and now_s - self._asked[1] < RETRY_AUTHORIZATION_S:
            return
        self._asked = (session, now_s)
        id_tag = f"TAG-{self.identity}"[:20].upper()

        if self._keeps_out(id_tag):
            return
        if self.registered:
            self._authorize(session, id_tag)
        elif self.settings.is_on("LocalAuthorizeOffline") and self._listed(id_tag):
            self._begin(session, id_tag)

    def _listed(self, id_tag: str) -> bool:
        return not self.settings.is_on("LocalAuthListEnabled") or self.local_list.serves(id_tag, self.now())

    def _keeps_out(self, id_tag: str) -> bool:
        return self.reservation is not None and self.reservation.keeps_out(id_tag, self.now())

    def _authorize(self, session: int, id_tag: str, profile: dict[str, Any] | None = None) -> None:
        """Ask whether a driver may charge, and begin when he may."""

        def answered(answer: Any) -> None:
            still_there = self.point.session is not None and self.point.session.number == session
            if still_there and self.running is None and _accepted(answer):
                self._begin(session, id_tag, profile)

        self.tell(lambda: call.Authorize(id_tag=id_tag), answered)

    def _begin(self, session: int, id_tag: str, profile: dict[str, Any] | None = None) -> None:
        running = Running(session, id_tag, self.now(), self.meter_wh())
        self.running = running
        kept = self.reservation
        self.reservation = None
        number = None if kept is None or kept.id_tag.upper() != id_tag.upper() else kept.number
        if profile is not None:
            self.profiles.install(1, profile, self.transaction)
        self.point.released = True
        stamp = self.stamp()

        def started(answer: Any) -> None:
            running.transaction_id = answer.transaction_id
            if not _accepted(answer) and self.running is running:
                self.stop_transaction(Reason.de_authorized)

        self.tell(
            lambda: call.StartTransaction(
                connector_id=1,
                id_tag=id_tag,
                meter_start=running.meter_start_wh,
                timestamp=stamp,
                reservation_id=number,
            ),
            started,
            keep=True,
        )

    def _report_status(self) -> None:
        status = self._present_status()
        if status == self._status or not self.registered:
            return
        self._status = status
        stamp = self.stamp()
        self.tell(
            lambda: call.StatusNotification(
                connector_id=1, error_code=ChargePointErrorCode.no_error, status=status, timestamp=stamp
            )
        )

    def _present_status(self) -> ChargePointStatus:
        if not self.available:
            return ChargePointStatus.unavailable
        if self.running is None and self.reservation is not None:
            return ChargePointStatus.reserved
        if self.point.session is None:
            return ChargePointStatus.available
        if self.running is None:
            return ChargePointStatus.preparing
        if self.point.power_kw > 0.0:
            return ChargePointStatus.charging
        return ChargePointStatus.suspended_evse if self.point.paused else ChargePointStatus.suspended_ev

    def _report_regularly(self) -> None:
        now_s = self.clock.monotonic()
        every_s = self.settings.seconds("MeterValueSampleInterval")
        if self.running is not None and 0 < every_s <= now_s - self._sampled_s:
            self._sampled_s = now_s
            self.sample()
        aligned_s = self.settings.seconds("ClockAlignedDataInterval")
        turn = int(self.now().timestamp() // aligned_s) if aligned_s else None
        if turn is not None and self._aligned is not None and turn != self._aligned:
            self.sample(ReadingContext.sample_clock)
        self._aligned = turn
        beat_every_s = self.settings.seconds("HeartbeatInterval")
        if 0 < beat_every_s <= now_s - self._beat_s:
            self._beat_s = now_s
            self.tell(call.Heartbeat)


def registered(answer: call_result.BootNotification | None) -> bool:
    """Whether the central system took the charge point in."""
    return answer is not None and answer.status == RegistrationStatus.accepted


def _accepted(answer: Any) -> bool:
    info = answer.id_tag_info or {}
    return info.get("status") == AuthorizationStatus.accepted


def _sampled(measurand: str, unit: str, value: float, context: ReadingContext) -> dict[str, str]:
    return {
        "value": f"{value:.1f}" if math.isfinite(value) else "NaN",
        "measurand": measurand,
        "unit": unit,
        "context": context,
    }


async def until_set(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()
