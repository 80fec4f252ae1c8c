"""Charging profiles of a charge point, and the limit that follows from all of them.

References
----------
Open Charge Alliance, "Open Charge Point Protocol 1.6", edition 2, section 3.13 (smart charging).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from plant_simulator.charging import PHASE_VOLTAGE_V

RECURRENCE = {"Daily": timedelta(days=1), "Weekly": timedelta(days=7)}
MAX_PURPOSE, DEFAULT_PURPOSE, TX_PURPOSE = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"
MAX_STACK_LEVEL = 9
MAX_PERIODS = 96


@dataclass(frozen=True, slots=True)
class Installed:
    """A profile on its connector (0: the whole charge point); `profile` is the protocol's own structure."""

    connector_id: int
    profile: dict[str, Any]

    @property
    def purpose(self) -> str:
        return self.profile["charging_profile_purpose"]

    @property
    def stack_level(self) -> int:
        return self.profile["stack_level"]

    @property
    def profile_id(self) -> int:
        return self.profile["charging_profile_id"]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a running transaction means to profiles."""

    transaction_id: int | None
    started: datetime


class ProfileStack:
    """All profiles of one charge point with one connector.

    Parameters
    ----------
    phases : int
        Phases that the charge point charges on: a limit in amperes is for each of them.
    """

    def __init__(self, phases: int = 3) -> None:
        self.phases = phases
        self._installed: list[Installed] = []

    def __len__(self) -> int:
        return len(self._installed)

    def install(self, connector_id: int, profile: dict[str, Any], transaction: Transaction | None) -> bool:
        """Install a profile; returns False when it is refused.

        A profile of the same id, or of the same purpose and stack level on the same connector, is replaced. A
        profile of a transaction needs one that runs.
        """
        new = Installed(connector_id, profile)
        periods = profile["charging_schedule"]["charging_schedule_period"]
        if connector_id not in {0, 1} or not 0 <= new.stack_level <= MAX_STACK_LEVEL:
            return False
        if not 1 <= len(periods) <= MAX_PERIODS or periods[0]["start_period"] != 0:
            return False
        if new.purpose == MAX_PURPOSE and connector_id != 0:
            return False
        if new.purpose == TX_PURPOSE:
            meant = profile.get("transaction_id")
            if connector_id == 0 or transaction is None or meant not in {None, transaction.transaction_id}:
                return False
        self._installed = [
            old
            for old in self._installed
            if old.profile_id != new.profile_id
            and (old.purpose, old.stack_level, old.connector_id) != (new.purpose, new.stack_level, connector_id)
        ]
        self._installed.append(new)
        return True

    def clear(
        self,
        profile_id: int | None = None,
        connector_id: int | None = None,
        purpose: str | None = None,
        stack_level: int | None = None,
    ) -> int:
        """Remove the profiles that match everything given; returns how many there were."""

        def matches(one: Installed) -> bool:
            if profile_id is not None:
                return one.profile_id == profile_id
            return (
                connector_id in {None, one.connector_id}
                and purpose in {None, one.purpose}
                and stack_level in {None, one.stack_level}
            )

        before = len(self._installed)
        self._installed = [one for one in self._installed if not matches(one)]
        return before - len(self._installed)

    def end_transaction(self) -> None:
        """Forget the profiles that belonged to the transaction that ended."""
        self._installed = [one for one in self._installed if one.purpose != TX_PURPOSE]

    def limit_kw(self, now: datetime, transaction: Transaction | None) -> float | None:
        """Limit in force at `now` [kW]; None when no profile limits anything.

        The transaction's own profile goes before the default one; of one purpose the highest stack level that has a
        period now counts; the charge point's maximum bounds both.
        """
        tx = self._leading(TX_PURPOSE, now, transaction) if transaction is not None else None
        if tx is None and transaction is not None:
            tx = self._leading(DEFAULT_PURPOSE, now, transaction)
        limits = [limit for limit in (tx, self._leading(MAX_PURPOSE, now, transaction)) if limit is not None]
        return min(limits) if limits else None

    def _leading(self, purpose: str, now: datetime, transaction: Transaction | None) -> float | None:
        for one in sorted(self._installed, key=lambda i: i.stack_level, reverse=True):
            if one.purpose == purpose:
                limit = period_limit_kw(one.profile, now, transaction, self.phases)
                if limit is not None:
                    return limit
        return None


def period_limit_kw(
    profile: dict[str, Any], now: datetime, transaction: Transaction | None, phases: int = 3
) -> float | None:
    """Limit that one profile sets at `now` [kW] on `phases` phases; None outside its validity and its schedule."""
    if "valid_from" in profile and now < instant(profile["valid_from"]):
        return None
    if "valid_to" in profile and now >= instant(profile["valid_to"]):
        return None
    schedule = profile["charging_schedule"]
    start = _start_of(profile, now, transaction)
    if start is None or now < start:
        return None
    elapsed_s = (now - start).total_seconds()
    if "duration" in schedule and elapsed_s >= schedule["duration"]:
        return None
    period = [p for p in schedule["charging_schedule_period"] if p["start_period"] <= elapsed_s][-1]
    limit = float(period["limit"])  # the protocol's library reads numbers of profiles as Decimal
    if schedule["charging_rate_unit"] == "W":
        return limit / 1000.0
    return limit * PHASE_VOLTAGE_V * min(phases, period.get("number_phases", phases)) / 1000.0


def instant(text: str) -> datetime:
    """A time of the protocol, UTC when it names no zone."""
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _start_of(profile: dict[str, Any], now: datetime, transaction: Transaction | None) -> datetime | None:
    start_text = profile["charging_schedule"].get("start_schedule")
    kind = profile["charging_profile_kind"]
    if kind == "Relative" or (kind == "Absolute" and start_text is None):
        return transaction.started if transaction is not None else None
    if start_text is None:
        return None
    start = instant(start_text)
    if kind == "Recurring" and now >= start:
        turn = RECURRENCE[profile.get("recurrency_kind", "Daily")]
        return start + ((now - start) // turn) * turn
    return start
