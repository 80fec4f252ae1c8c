"""Hot standby: never two masters, and a takeover soon, whatever freezes, dies or jumps."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_loop.lease import CounterLease, FileLeaseStore
from flexergy_pipelines.store import StoreError, TenantStore
from flexergy_pipelines.store.leases import LeaseRow, StoreLease

TTL_S = 2.0
STEP_S = 0.25


class MemoryStore:
    """A lease in memory."""

    def __init__(self) -> None:
        self.row: LeaseRow | None = None
        self.reachable = True

    def load(self) -> LeaseRow | None:
        return self.row

    def compare_and_set(self, expected: LeaseRow | None, row: LeaseRow) -> bool:
        if self.row != expected:
            return False
        self.row = row
        return True

    def close(self) -> None:
        self.reachable = False


@dataclass
class Instance:
    """One loop: its lease, and for how many steps it is frozen."""

    lease: CounterLease
    frozen: int = 0


class World:
    """Instances whose monotonic clocks started at different times."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.store = MemoryStore()
        self.instances = [
            Instance(CounterLease(self.store, f"loop-{i}", lambda i=i: self.now + 1000.0 * i, TTL_S))
            for i in range(count)
        ]

    def holders(self) -> list[Instance]:
        return [instance for instance in self.instances if instance.lease.held]

    def step(self) -> None:
        for instance in self.instances:
            if instance.frozen:
                instance.frozen -= 1
            else:
                instance.lease.step()
            # Asked at every moment, for a frozen instance may wake up and command at any.
            assert len(self.holders()) <= 1
        self.now += STEP_S


@pytest.mark.requirement("sysavailability.01.1")
@settings(max_examples=60)
@given(st.integers(2, 4), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=12))
def test_never_two_masters_and_always_one_again(count: int, freezes: list[tuple[int, int]]) -> None:
    world = World(count)
    for who, steps in freezes:
        world.instances[who % count].frozen = steps
        for _ in range(6):
            world.step()
    for instance in world.instances:
        instance.frozen = 0
    for _ in range(round(2 * TTL_S / STEP_S)):
        world.step()
    assert len(world.holders()) == 1


@pytest.mark.requirement("sysavailability.01.1")
@pytest.mark.parametrize("frozen_for", [20, 10_000], ids=["frozen", "killed"])
def test_the_standby_takes_over_soon_and_the_epoch_rises(frozen_for: int) -> None:
    world = World(2)
    for _ in range(10):
        world.step()
    first, second = world.instances
    assert first.lease.held
    assert first.lease.epoch == 1
    first.frozen = frozen_for
    lost_at = world.now
    while not second.lease.held:
        world.step()
    assert world.now - lost_at <= TTL_S + 4 * STEP_S
    assert second.lease.epoch == 2
    for _ in range(30):
        world.step()
    assert second.lease.held
    assert not first.lease.held
    assert first.lease.lost()


def test_a_holder_that_cannot_renew_stops_before_another_may_begin() -> None:
    world = World(1)
    lease = world.instances[0].lease
    assert lease.step()
    world.now += 0.75 * TTL_S
    assert not lease.held
    assert lease.step()  # nobody took it: it goes on


def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    world = World(2)
    world.step()
    first, second = world.instances
    first.lease.release()
    assert not first.lease.held
    assert second.lease.step()
    assert second.lease.epoch == 2
    first.lease.release()
    assert second.lease.step()


@pytest.mark.requirement("sysavailability.01.1")
def test_the_store_changes_only_for_who_saw_its_last_state_and_keeps_tenants_apart(db: TenantStore) -> None:
    first, second = StoreLease(db, "control-site"), StoreLease(db, "control-site")
    other = StoreLease(db.store.tenant(db.store.create_tenant("another").name), "control-site")
    with closing(first), closing(second), closing(other):
        assert first.load() is None
        assert first.compare_and_set(None, LeaseRow("a", 1, 0))
        assert not second.compare_and_set(None, LeaseRow("b", 1, 0))
        assert second.load() == LeaseRow("a", 1, 0)
        assert second.compare_and_set(LeaseRow("a", 1, 0), LeaseRow("b", 2, 0))
        assert not first.compare_and_set(LeaseRow("a", 1, 0), LeaseRow("a", 1, 1))
        assert other.load() is None
        # A connection that was cut is made anew with the next call.
        first.close()
        assert first.load() == LeaseRow("b", 2, 0)


def test_a_store_that_does_not_answer_is_an_error_and_not_a_lease(db: TenantStore) -> None:
    store, now = StoreLease(db, "control-site"), [0.0]
    holder = CounterLease(store, "a", lambda: now[0])
    with closing(store):
        assert holder.step()
        with db.begin() as connection:
            connection.exec_driver_sql("UPDATE control_leases SET counter = counter")
            now[0] = 1.5
            with pytest.raises(StoreError, match="took longer than allowed"):
                holder.step()
            assert not holder.held  # not renewed in time: it has stopped by itself
        assert holder.step()


def test_the_file_changes_only_for_who_saw_its_last_state(tmp_path: Path) -> None:
    first, second = FileLeaseStore(tmp_path / "run" / "l.lease"), FileLeaseStore(tmp_path / "run" / "l.lease")
    assert first.load() is None
    assert first.compare_and_set(None, LeaseRow("a", 1, 0))
    assert not second.compare_and_set(None, LeaseRow("b", 1, 0))
    assert second.compare_and_set(LeaseRow("a", 1, 0), LeaseRow("b", 2, 0))
    assert first.load() == LeaseRow("b", 2, 0)
    (tmp_path / "run" / "l.lease").write_text(json.dumps({"strange": 1}))
    lease = CounterLease(first, "c", lambda: 0.0)
    lease.step()
    assert not lease.held
