"""The planner's view of a site's network: what is in service, what it may carry and what hangs where."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flexergy_pipelines.grid import Site, load_site_file
from flexergy_pipelines.grid.network import Bus, Line, Switch, Transformer
from flexergy_pipelines.grid.network import Network as SiteNetwork
from flexergy_pipelines.grid.samples import examples_dir
from flexergy_pipelines.optimization.network_of_site import network_of_site

PARK = load_site_file(examples_dir() / "sites" / "hybrid_park.yaml")

LINES = tuple(
    Line(
        id=name,
        from_bus="aux-bus",
        to_bus="hall",
        length_km=km,
        r_ohm_per_km=0.2,
        x_ohm_per_km=0.08,
        max_current_a=200.0,
    )
    for name, km in (("a", 1.0), ("b", 2.0))
)


def ring(**changes: Any) -> Site:
    """The park with a ring of two cables of 1 km and 2 km behind its transformer."""
    parts: dict[str, Any] = {
        "pcc_bus": "mv-bus",
        "buses": (
            Bus(id="mv-bus", nominal_voltage_v=20_000.0),
            Bus(id="aux-bus"),
            Bus(id="hall"),
            Bus(id="spare"),
        ),
        "transformers": (
            Transformer(
                id="trafo", hv_bus="mv-bus", lv_bus="aux-bus", rated_kva=60.0, short_circuit_voltage_percent=4.0
            ),
        ),
        "lines": LINES,
        "switches": (Switch(id="coupler", bus="hall", element="spare"),),
    }  # fmt: skip
    return PARK.model_copy(update={"network": SiteNetwork(**(parts | changes))})


def test_ratings_reactances_and_places_follow_from_the_site():
    network = network_of_site(ring())
    assert network is not None
    limits = {branch.id: float(branch.limit_kw[0]) for branch in network.branches}
    rating = math.sqrt(3) * 400.0 * 200.0 / 1000 * 0.95
    assert limits == pytest.approx({"trafo": 57.0, "a": rating, "b": rating})
    reactance = {branch.id: branch.reactance_pu for branch in network.branches}
    assert reactance["b"] == pytest.approx(2 * reactance["a"])
    assert reactance["trafo"] == pytest.approx(0.04 * 1000 / 60)
    assert network.bus_of["load-1"] == "aux-bus"
    # Buses that a closed switch couples are one.
    assert {branch.to_bus for branch in network.branches} <= {"aux-bus", "hall", "spare"}
    assert len({branch.to_bus for branch in network.branches if branch.id in {"a", "b"}}) == 1


def test_what_is_open_or_out_of_service_carries_nothing():
    opened = network_of_site(ring(switches=(Switch(id="s", bus="hall", element="b", closed=False),
                                            Switch(id="coupler", bus="hall", element="spare"))))  # fmt: skip
    assert opened is not None
    assert [branch.id for branch in opened.branches] == ["a", "trafo"]
    alone = network_of_site(ring(lines=tuple(line.model_copy(update={"in_service": False}) for line in LINES)))
    assert alone is not None
    assert [branch.id for branch in alone.branches] == ["trafo"]


def test_a_network_that_can_carry_everything_at_once_limits_nothing():
    assert network_of_site(PARK) is None  # auxiliaries of 80 kW behind a transformer of 160 kVA
    assert network_of_site(PARK.model_copy(update={"network": None})) is None
