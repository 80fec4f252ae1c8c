"""Found devices, link statistics, drivers' tags and charge point keys: kept, decided once, apart by tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.charging_access import (
    charge_point_keys,
    delete_id_tag,
    key_hash,
    list_id_tags,
    new_charge_point_key,
    save_id_tag,
)
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.field_devices import decide_proposal, list_proposals, propose_device
from flexergy_pipelines.store.link_statistics import LinkRow, link_summary, write_link_statistics
from flexergy_pipelines.store.sites import save_site

NOW = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)


def propose(db: TenantStore, serial: str = "1") -> int:
    return propose_device(
        db,
        "microgrid",
        protocol="modbus_tcp",
        address="10.0.0.5:502 unit 1",
        identity={"Mn": "Acme", "SN": serial},
        template="sunspec_inverter",
    ).proposal_id


@pytest.mark.requirement("infra.01.2")
def test_a_found_device_waits_is_seen_again_and_is_decided_once(db: TenantStore, other_db: TenantStore) -> None:
    save_site(db, sample_site("microgrid"))
    first = propose(db)
    assert propose(db, "2") == first
    (waiting,) = list_proposals(db)
    assert waiting.identity == {"Mn": "Acme", "SN": "2"}
    assert waiting.status == "waiting"
    assert list_proposals(other_db) == []
    assert decide_proposal(db, first, "approved", "anna", "pv-9").device_id == "pv-9"
    propose(db, "3")
    assert list_proposals(db) == []
    with pytest.raises(InvalidDataError, match="approved before"):
        decide_proposal(db, first, "rejected", "anna")
    with pytest.raises(NotFoundError, match="proposal 99"):
        decide_proposal(db, 99, "approved", "anna")


def test_link_statistics_add_up_over_a_period(db: TenantStore) -> None:
    save_site(db, sample_site("microgrid"))

    def row(minute: int, requests: int, failures: int, latency_s: float | None, error: str) -> LinkRow:
        time = NOW + timedelta(minutes=minute)
        counts = (requests, failures, 0, 0, 100, 200)
        return LinkRow("esc-1", time, True, *counts, latency_s, latency_s, "modbus_tcp", "LTE", error)

    rows = [row(1, 10, 0, 0.01, ""), row(2, 20, 10, 0.04, "timeout"), row(3, 5, 5, None, "")]
    assert write_link_statistics(db, "microgrid", rows) == 3
    write_link_statistics(db, "microgrid", rows[:1])
    summary = link_summary(db, "microgrid", NOW, NOW + timedelta(hours=1)).row(0, named=True)
    assert (summary["requests"], summary["failures"], summary["bytes_received"]) == (35, 15, 600)
    assert summary["success"] == pytest.approx(20 / 35)
    assert summary["latency_s"] == pytest.approx((10 * 0.01 + 10 * 0.04) / 20)
    assert (summary["last_error"], summary["network_type"]) == ("timeout", "LTE")


def test_tags_are_accepted_blocked_or_expired_and_keys_are_only_kept_as_hashes(
    db: TenantStore, other_db: TenantStore
) -> None:
    save_site(db, sample_site("microgrid"))
    save_id_tag(db, "abc-1", actor="anna", holder="Bo")
    save_id_tag(db, "ABC-2", actor="anna", valid_until=NOW)
    save_id_tag(db, "abc-1", actor="anna", status="blocked")
    assert [(t.id_tag, t.holder, t.verdict(NOW)) for t in list_id_tags(db)] == [
        ("ABC-1", "Bo", "Blocked"),
        ("ABC-2", None, "Expired"),
    ]
    assert list_id_tags(other_db) == []
    delete_id_tag(db, "abc-2", actor="anna")
    with pytest.raises(NotFoundError, match="ABC-2"):
        delete_id_tag(db, "ABC-2", actor="anna")
    with pytest.raises(InvalidDataError, match="allowed are 1 to 20"):
        save_id_tag(db, "x" * 21, actor="anna")
    old = new_charge_point_key(db, "microgrid", "cp-1", actor="anna")
    key = new_charge_point_key(db, "microgrid", "cp-1", actor="anna")
    assert old != key
    assert charge_point_keys(db, "microgrid") == {"cp-1": key_hash(key)}
