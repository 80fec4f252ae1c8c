"""A charge point as the central system of OCPP 1.6J knows it: what it said last of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.ocpp_meter import CountedPower
from control_loop.sharing import Claim
from control_loop.source_time import SourceClock

if TYPE_CHECKING:
    from control_loop.protocols.ocpp_session import Session

LEAST_KW_PER_PHASE = 1.4
"""6 A at 230 V: less does not charge a car."""
MOST_CONNECTORS = 99
FIRST_RETRY_S, LONGEST_RETRY_S = 2.0, 60.0
SHOWN = 80

OBEYS_AFTER_S = 30.0
"""Time in which a confirmed limit must show in what a charge point takes."""
EXCESS_SHARE, LEAST_EXCESS_KW = 0.1, 0.5
"""What it may take above its limit without being told again: part of the limit, and at least this [kW]."""


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
    confirmed_s : float
        Monotonic time [s] at which it confirmed that limit.
    refusal : str
        Why it did not take the last limit; empty when it did.
    retry : Backoff
        When a limit that it did not take may be told again.
    way : int
        Which kind of charging profile it takes (`ocpp_limits.WAYS`).
    identity : dict
        What it said of itself when it booted.
    clock : SourceClock
        What its time stamps say: meter values that it kept back while it was away are not its present power.
    statuses, faults : dict
        By connector: its last status, and in words what is wrong with it where something is.
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
    statuses: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    transactions: dict[int, int] = field(default_factory=dict)
    meters_wh: dict[int, float] = field(default_factory=dict)
    limit_kw: float | None = None
    confirmed_s: float = 0.0
    refusal: str = ""
    retry: Backoff = field(default_factory=lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S))
    way: int = 0
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

    @property
    def beyond_reach_kw(self) -> float | None:
        """What it may take whatever it is told [kW]; None when it does as it is told.

        One that is away takes what it took last. One that did not confirm its last limit takes at most what it has
        confirmed before; where that is nothing, what it shows.
        """
        if self.session is None:
            return self.power_kw or 0.0
        if not self.refusal:
            return None
        shown_kw = self.power_kw or 0.0
        return max(shown_kw, self.limit_kw or 0.0) if self.transactions else shown_kw

    def disobeys(self, now_s: float) -> bool:
        """Whether it takes clearly more than it confirmed a while ago, as one does that forgot its limit."""
        if self.limit_kw is None or self.power_kw is None or now_s - self.confirmed_s < OBEYS_AFTER_S:
            return False
        return self.power_kw > self.limit_kw + max(LEAST_EXCESS_KW, EXCESS_SHARE * self.limit_kw)

    @property
    def connectors(self) -> int:
        """How many connectors it has shown, at least one."""
        return max(1, len(self.statuses.keys() - {0}))

    def forget_limit(self) -> None:
        """It may have lost what it was told, so it is told again."""
        self.limit_kw, self.refusal = None, ""
        self.retry.succeeded()

    def ended(self, *transaction_ids: int) -> None:
        """These transactions are over: their connectors give nothing more."""
        over = {connector for connector, number in self.transactions.items() if number in transaction_ids}
        self.transactions = {c: number for c, number in self.transactions.items() if c not in over}
        for number in transaction_ids:
            self.meters_wh.pop(number, None)
        self.powers_kw |= dict.fromkeys(over, 0.0)
        if not self.transactions:
            self.powers_kw, self.soc = dict.fromkeys(self.powers_kw or {1}, 0.0), None

    def tell_status(self, connector: int, status: str, error_code: str, more: Mapping[str, Any]) -> None:
        """Note the status of a connector, 0 being the charge point as a whole; one that is free charges nobody."""
        self.statuses[connector] = status
        if status != "Faulted" and error_code == "NoError":
            self.faults.pop(connector, None)
        else:
            told = [error_code if error_code != "NoError" else status, more.get("vendor_error_code"), more.get("info")]
            where = f"connector {connector}: " if connector else ""
            self.faults[connector] = where + ", ".join(str(word)[:SHOWN] for word in told if word)
        if status == "Available" and connector in self.transactions:
            self.ended(self.transactions[connector])
