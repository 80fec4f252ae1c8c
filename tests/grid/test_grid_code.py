"""The grid operator's standing orders: tables and droops, and what of them cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from flexergy_pipelines.grid import FrequencyRule, SiteError, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site


def with_code(code: dict[str, Any]) -> dict[str, Any]:
    return site_to_dict(sample_site("microgrid")) | {"grid_code": code}


def test_a_droop_is_a_table_too() -> None:
    # 40 kW over 0.4 % of 50 Hz beyond a dead band of 10 mHz.
    rule = FrequencyRule(asset="ess-1", droop=0.004, reserve_kw=40.0, dead_band_hz=0.01)
    assert sum(rule.table(50.0), ()) == pytest.approx((49.79, 40.0, 49.99, 0.0, 50.01, 0.0, 50.21, -40.0))
    without = FrequencyRule(asset="ess-1", droop=0.004, reserve_kw=40.0)
    assert sum(without.table(50.0), ()) == pytest.approx((49.8, 40.0, 50.0, 0.0, 50.2, -40.0))


def test_a_site_keeps_what_it_was_told() -> None:
    code = {
        "frequency": [{"asset": "ess-1", "points": [[49.8, 40], [50, 0], [50.2, -40]], "response_s": 30}],
        "reactive": [{"asset": "ess-1", "mode": "q_of_u", "points": [[0.95, 20], [1.05, -20]]}],
    }
    site = parse_site(with_code(code))
    assert site.grid_code.frequency[0].table(50.0) == ((49.8, 40.0), (50.0, 0.0), (50.2, -40.0))
    assert parse_site(site_to_dict(site)) == site


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ({"frequency": [{"asset": "ess-9", "points": [[49.8, 4], [50, 0]]}]}, "asset ess-9 is unknown"),
        ({"frequency": [{"asset": "pv-1", "points": [[49.8, 4], [50, 0]]}]}, "pv-1 is a pv, it must be ess"),
        ({"frequency": [{"asset": "ess-1", "points": [[49.8, 0], [50, 4]]}]}, "must fall with the frequency"),
        ({"frequency": [{"asset": "ess-1", "points": [[50, 4]]}]}, "has 1 points, it needs at least 2"),
        ({"frequency": [{"asset": "ess-1", "points": [[50, 4], [50, 0]]}]}, "50 follows 50"),
        ({"frequency": [{"asset": "ess-1"}]}, "give either points or droop"),
        ({"frequency": [{"asset": "ess-1", "droop": 0.04}]}, "droop needs reserve_kw above 0"),
        ({"reactive": [{"asset": "ess-1", "mode": "q_of_u"}]}, "has 0 points"),
        ({"reactive": [{"asset": "ess-1", "mode": "fixed", "points": [[1, 0], [2, 0]]}]}, "mode fixed has no points"),
        ({"reactive": [{"asset": "ess-1", "mode": "fixed"}] * 2}, "already has a rule"),
        ({"reactive": [{"asset": "ess-1", "mode": "fixed", "kvar": True}]}, "kvar"),
        ({"limits": [{"asset": "load-1", "maximum_kw": 5}]}, "asset load-1 cannot be limited, only pcc, "),
        ({"limits": [{"asset": "pv-1"}]}, "give minimum_kw, maximum_kw or both"),
        ({"limits": [{"asset": "pv-1", "minimum_kw": 9, "maximum_kw": 5}]}, "minimum_kw 9 is above maximum_kw 5"),
        ({"limits": [{"asset": "ess-1", "maximum_kw": 999}]}, "maximum_kw 999 of ess-1 is outside -250..250 kW"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(code: dict[str, Any], problem: str) -> None:
    with pytest.raises(SiteError) as caught:
        parse_site(with_code(code))
    assert problem in "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("procedure", "problem"),
    [
        ({"asset": "ess-9"}, "asset ess-9 is unknown"),
        ({"powers_kw": {"load-1": 5.0}}, "load-1 cannot be commanded"),
        ({"powers_kw": {"pcc": 5.0}}, "pcc cannot be commanded"),
        ({"powers_kw": {"pv-1": 9000.0}}, "9000 kW of pv-1 is outside 0.."),
        ({"powers_kw": {}}, "powers_kw"),
        ({"after_s": -1.0}, "after_s"),
        (None, "the name is given twice"),
    ],
)
def test_a_procedure_that_cannot_be_is_refused_with_its_reason(procedure: dict[str, Any] | None, problem: str) -> None:
    good = {"name": "battery-lost", "asset": "ess-1", "powers_kw": {"pv-1": 0.0}}
    given = site_to_dict(sample_site("microgrid"))
    given["operation"] |= {"contingency": [good]}
    assert parse_site(given).operation.contingency[0].hold_s == 60.0
    given["operation"] |= {"contingency": [good, good] if procedure is None else [good | procedure]}
    with pytest.raises(SiteError) as caught:
        parse_site(given)
    assert problem in "\n".join(caught.value.problems)
