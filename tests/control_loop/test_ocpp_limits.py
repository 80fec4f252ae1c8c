"""Sharing a limit among charge points: whatever they do, no part rises beyond what the others leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocpp.v16 import call_result
from ocpp.v16.enums import ChargingProfileStatus

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import LinkHealth
from control_loop.protocols.ocpp_limits import LimitSharing
from control_loop.protocols.ocpp_post import Post

NAMES = ("a", "b", "c")


class Answering:
    """The conversation with one charge point that takes limits, or does not."""

    def __init__(self, post: Post, sharing: LimitSharing, posts: dict[str, Post]) -> None:
        self.spoken = asyncio.Event()
        self.spoken.set()
        self.obeys = True
        self._post, self._sharing, self._posts = post, sharing, posts

    async def call(self, message: Any) -> Any:
        await asyncio.sleep(0)
        if not self.obeys:
            return call_result.SetChargingProfile(status=ChargingProfileStatus.rejected)
        (period,) = message.cs_charging_profiles.charging_schedule.charging_schedule_period
        told_kw, before_kw = period.limit / 1000.0, self._post.limit_kw or 0.0
        if told_kw > before_kw + 1e-6 and self._sharing.limit_kw is not None:
            others = [p for p in self._posts.values() if p is not self._post and p.transactions]
            held = [p.beyond_reach_kw if p.beyond_reach_kw is not None else p.limit_kw or 0.0 for p in others]
            # Parts are told to three decimals of a kW.
            assert told_kw <= max(0.0, self._sharing.limit_kw - sum(held)) + 0.01
        return call_result.SetChargingProfile(status=ChargingProfileStatus.accepted)


steps = st.lists(
    st.tuples(
        st.sampled_from(["limit", "start", "stop", "refuse", "obey", "leave"]), st.sampled_from(NAMES), st.floats(0, 60)
    ),
    max_size=14,
)


@pytest.mark.requirement("energy.13.3")
@settings(max_examples=120, deadline=None)
@given(steps)
def test_no_part_rises_beyond_what_the_others_leave(taken: list[tuple[str, str, float]]) -> None:
    async def check() -> None:
        posts = {name: Post(name, 22.0, retry=Backoff(0.0, 0.0)) for name in NAMES}
        sharing = LimitSharing("ev-1", posts, LinkHealth())
        answering = {name: Answering(post, sharing, posts) for name, post in posts.items()}
        for name, post in posts.items():
            post.session = answering[name]  # pyright: ignore[reportAttributeAccessIssue]
            post.transactions = {1: 1}
        sharing.limit_kw = 30.0
        await sharing.share()
        for what, name, value in taken:
            post = posts[name]
            if what == "limit":
                sharing.limit_kw = round(value, 1)
            elif what == "start":
                post.transactions = {1: 1}
                post.powers_kw = {1: min(value, post.limit_kw or 0.0)}
            elif what == "stop":
                post.ended(1)
            elif what in {"refuse", "obey"}:
                answering[name].obeys = what == "obey"
            else:
                post.session = None
            problems = await sharing.share()
            obedient = [p for p in posts.values() if p.session is not None and answering[p.name].obeys]
            assert all(
                p.name in " ".join(problems)
                for p in posts.values()
                if p.session and not answering[p.name].obeys and p.refusal
            )
            busy = sum(p.limit_kw or 0.0 for p in obedient if p.transactions and not p.refusal)
            assert busy <= (sharing.limit_kw or 0.0) + 0.01
        await sharing.close()

    asyncio.run(check())
