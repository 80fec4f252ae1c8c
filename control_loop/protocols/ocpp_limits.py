"""One limit for all charge points of a manager: each gets its part as a charging profile, on change only."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocpp.exceptions import OCPPError
from ocpp.v16 import call
from ocpp.v16.datatypes import ChargingProfile, ChargingSchedule, ChargingSchedulePeriod
from ocpp.v16.enums import (
    ChargingProfileKindType,
    ChargingProfilePurposeType,
    ChargingProfileStatus,
    ChargingRateUnitType,
)
from websockets.exceptions import ConnectionClosed

from control_loop.protocols.base import LinkHealth
from control_loop.protocols.ocpp_meter import NOMINAL_V
from control_loop.protocols.ocpp_post import Post
from control_loop.sharing import share_limit

PROFILE_ID, SESSION_PROFILE_ID = 1, 2
LONG_AGO = "2000-01-01T00:00:00Z"
"""Start of every profile: it must hold at once, whatever the charge point's clock says."""
PATIENCE_S = 3.0
"""How long all wait for the slowest to confirm; a charge point that takes longer goes on alone."""


@dataclass(frozen=True, slots=True)
class Way:
    """A kind of charging profile by which a charge point can be limited."""

    purpose: ChargingProfilePurposeType
    unit: ChargingRateUnitType


WAYS = tuple(
    Way(purpose, unit)
    for purpose in (
        ChargingProfilePurposeType.charge_point_max_profile,
        ChargingProfilePurposeType.tx_default_profile,
    )
    for unit in (ChargingRateUnitType.watts, ChargingRateUnitType.amps)
)
"""Best first: many charge points know amperes only, and many no limit of the charge point as a whole."""


class LimitSharing:
    """Keeps the charge points of one manager to a limit together.

    A part that falls is confirmed before another one rises, so that together they never may take more than the limit;
    what those may take that are away, or do not confirm, is set aside.

    Parameters
    ----------
    device : str
        The manager's id.
    posts : mapping
        Its charge points.
    health : LinkHealth
        Where answers are counted.

    Attributes
    ----------
    limit_kw : float or None
        The limit; None before the first.
    """

    def __init__(self, device: str, posts: Mapping[str, Post], health: LinkHealth) -> None:
        self.limit_kw: float | None = None
        self._device = device
        self._posts = posts
        self._health = health
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._changed = False

    def renew(self) -> None:
        """Share anew soon, outside of the handler that noticed that something changed."""
        if self.limit_kw is None:
            return
        self._changed = True
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    async def share(self) -> list[str]:
        """Bring every connected charge point to its part; returns who has not taken it."""
        async with self._lock:
            for post in self._posts.values():
                if post.session is not None and post.disobeys(time.monotonic()):
                    post.forget_limit()
            parts = self._parts()
            falling = [p for p in self._due(parts) if p.limit_kw is not None and parts[p.name] < p.limit_kw]
            await self._tell(falling, parts)
            parts = self._parts()
            await self._tell(self._due(parts), parts)
            heard = [p for p in self._posts.values() if p.session is not None and p.session.spoken.is_set()]
            for post in heard:
                if post.refusal and post.limit_kw == parts[post.name] and not self._is_told(post):
                    self._confirmed(post, parts[post.name])  # it holds already what it should
            wanting = [p for p in heard if p.limit_kw != parts[p.name]]
        return [p.refusal or f"{p.name} has not been told yet" for p in wanting]

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [task for task in (self._renewing, *self._telling.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self) -> None:
        while self._changed:
            self._changed = False
            await self.share()

    def _due(self, parts: Mapping[str, float]) -> list[Post]:
        now = time.monotonic()
        return [
            p
            for p in self._posts.values()
            if p.session is not None and p.session.spoken.is_set() and p.retry.ready(now)
            if p.limit_kw != parts[p.name] and not self._is_told(p)
        ]

    def _is_told(self, post: Post) -> bool:
        """Whether a charge point is being told at this moment."""
        task = self._telling.get(post.name)
        return task is not None and not task.done()

    def _parts(self) -> dict[str, float]:
        """Part of the limit of each charge point: those that charge share it, the others may begin with their least."""
        beyond = {p.name: kw for p in self._posts.values() if (kw := p.beyond_reach_kw) is not None}
        away = {p.name: beyond[p.name] for p in self._posts.values() if p.session is None}
        # Who does not obey is asked for what it would get if it did, and no more than what is set aside for it.
        asked = {name: min(beyond.get(name, kw), kw) for name, kw in self._fair(away).items()}
        return {name: round(kw, 3) for name, kw in (asked | self._fair(beyond) | away).items()}

    def _fair(self, aside: Mapping[str, float]) -> dict[str, float]:
        """Parts of all but those for whom something is set aside [kW]."""
        left = (self.limit_kw or 0.0) - sum(aside.values())
        told = [p for p in self._posts.values() if p.name not in aside]
        parts = share_limit(left, [p.claim for p in told if p.transactions])
        rest = max(0.0, left - sum(parts.values()))
        return parts | share_limit(rest, [p.claim for p in told if not p.transactions])

    async def _tell(self, posts: list[Post], parts: Mapping[str, float]) -> None:
        tasks = [asyncio.create_task(self._send(post, parts[post.name])) for post in posts]
        self._telling |= {post.name: task for post, task in zip(posts, tasks, strict=True)}
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_S)
        for post in posts:
            if self._is_told(post):
                post.refusal = post.refusal or f"{post.name} did not answer yet"

    async def _send(self, post: Post, limit_kw: float) -> None:
        session, began = post.session, time.monotonic()
        if session is None:
            return
        refusal = f"{post.name} refused a limit of {limit_kw:g} kW"
        try:
            for way in dict.fromkeys((post.way, *range(len(WAYS)))):
                profile = profile_of(WAYS[way], limit_kw, post)
                if await _taken(session.call(call.SetChargingProfile(connector_id=0, cs_charging_profiles=profile))):
                    self._health.answered(time.monotonic() - began)
                    post.way = way
                    self._confirmed(post, limit_kw)
                    return
        except (TimeoutError, ConnectionClosed):
            refusal = f"{post.name} did not answer"
        if post.session is session:
            post.refusal = refusal
            post.retry.failed(time.monotonic())
        self._health.failed(f"{self._device}: {refusal}")

    def _confirmed(self, post: Post, limit_kw: float) -> None:
        late = bool(post.refusal)
        post.limit_kw, post.refusal, post.confirmed_s = limit_kw, "", time.monotonic()
        post.retry.succeeded()
        if late:  # what was set aside for it is free again
            self.renew()


async def _taken(asked: Any) -> bool:
    """Whether a charge point accepts; one whose answer is none of the protocol's does not."""
    try:
        answer = await asked
    except OCPPError:
        return False
    return answer is not None and answer.status == ChargingProfileStatus.accepted


def profile_of(way: Way, limit_kw: float, post: Post, *, session: bool = False) -> ChargingProfile:
    """A charging profile that limits a charge point, or one transaction about to begin.

    Parameters
    ----------
    limit_kw : float
        Of the whole charge point [kW]; by default profiles, which hold for each connector alone, in equal parts.
    session : bool
        Whether it goes along with the start of a transaction.
    """
    by_connector = way.purpose is ChargingProfilePurposeType.tx_default_profile and not session
    watts = 1000.0 * limit_kw / (post.connectors if by_connector else 1)
    in_amps = way.unit is ChargingRateUnitType.amps
    period = ChargingSchedulePeriod(0, round(watts, 1))
    if in_amps:
        amps = math.floor(10.0 * watts / (NOMINAL_V * post.phases) + 1e-6) / 10.0
        period = ChargingSchedulePeriod(0, amps, post.phases)
    schedule = ChargingSchedule(way.unit, [period], start_schedule=LONG_AGO)
    return ChargingProfile(
        charging_profile_id=SESSION_PROFILE_ID if session else PROFILE_ID,
        stack_level=0,
        charging_profile_purpose=ChargingProfilePurposeType.tx_profile if session else way.purpose,
        charging_profile_kind=ChargingProfileKindType.absolute,
        charging_schedule=schedule,
    )


def periods_kw(schedule: Mapping[str, Any]) -> list[tuple[int, float]]:
    """A charge point's composite schedule: (seconds from now, limit [kW]) of each period."""
    found: list[tuple[int, float]] = []
    for period in schedule.get("charging_schedule_period", []):
        limit = float(period["limit"])
        if schedule.get("charging_rate_unit") == "A":
            limit *= NOMINAL_V * int(period.get("number_phases", 3))
        found.append((int(period["start_period"]), limit / 1000.0))
    return found
