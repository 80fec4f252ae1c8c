"""The planner's view of a site's network: ratings and reactances of what is in service, and what hangs where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flexergy_pipelines.optimization.specs_network import Branch, Network

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.grid.network import Network as SiteNetwork

BASE_KVA = 1000.0
POWER_FACTOR = 0.95
LEAST_REACTANCE_PU = 1e-6


def network_of_site(site: Site, *, power_factor: float = POWER_FACTOR) -> Network | None:
    """The network of a site for linear power flow, or None where it has none that limits anything.

    Parameters
    ----------
    site : Site
        The grid model; a branch is left out when it is not in service or a switch on it is open. Buses that closed
        switches couple count as one. What hangs on a bus that nothing in service reaches is taken as hanging on the
        connection, so that a plan never fails for a switch.
    power_factor : float
        What of a rating (kVA) is left for active power, since linear power flow knows no reactive power.

    Notes
    -----
    Rating of a line: ``sqrt(3) U I``. Reactances in per unit on 1 MVA: ``x l S / U^2`` for lines, ``u_k S / S_r`` for
    transformers (their resistance is neglected, as everywhere in DC power flow).
    """
    if site.network is None:
        return None
    network = site.network
    place = _coupled(network)
    open_at = {switch.element for switch in network.switches if not switch.closed}
    voltage = {bus.id: bus.nominal_voltage_v for bus in network.buses}
    branches: list[Branch] = []

    def add(name: str, ends: tuple[str, str], rating_kva: float, reactance_pu: float) -> None:
        if place[ends[0]] != place[ends[1]]:
            branches.append(
                Branch(
                    id=name,
                    from_bus=place[ends[0]],
                    to_bus=place[ends[1]],
                    limit_kw=rating_kva * power_factor,
                    reactance_pu=max(reactance_pu, LEAST_REACTANCE_PU),
                )
            )

    for line in network.lines:
        if line.in_service and line.id not in open_at:
            volts = voltage[line.from_bus]
            reactance = line.x_ohm_per_km * line.length_km * BASE_KVA * 1000 / volts**2
            rating = math.sqrt(3) * volts * line.max_current_a / 1000
            add(line.id, (line.from_bus, line.to_bus), rating, reactance)
    for transformer in network.transformers:
        if transformer.in_service and transformer.id not in open_at:
            reactance = transformer.short_circuit_voltage_percent / 100 * BASE_KVA / transformer.rated_kva
            add(transformer.id, (transformer.hv_bus, transformer.lv_bus), transformer.rated_kva, reactance)
    pcc = place[network.pcc_bus]
    reached = _reached(branches, pcc)
    branches = [branch for branch in branches if branch.from_bus in reached]
    if not branches:
        return None
    bus_of = {
        asset.id: place[asset.bus]
        for asset in site.assets()
        if asset.bus is not None and asset.kind != "pcc" and place[asset.bus] in reached
    }
    behind = [_rating_kw(asset) for asset in site.assets() if bus_of.get(asset.id, pcc) != pcc]
    largest = sum(rating for rating in behind if rating is not None)
    if None not in behind and largest <= min(float(branch.limit_kw.min()) for branch in branches):
        return None  # all of it at once would not reach the smallest rating
    return Network(branches=tuple(branches), bus_of=bus_of, pcc_bus=pcc)


def _rating_kw(asset: object) -> float | None:
    """Largest power of an asset either way (kW), where the site says one."""
    ratings = [getattr(asset, name, None) for name in ("rated_kw", "max_kw", "max_charge_kw", "max_discharge_kw")]
    known = [float(rating) for rating in ratings if rating is not None]
    return max(known) if known else None


def _coupled(network: SiteNetwork) -> dict[str, str]:
    """A common name for buses that closed switches couple."""
    name = {bus.id: bus.id for bus in network.buses}
    for switch in network.switches:
        if switch.closed and switch.element in name:
            old, new = name[switch.element], name[switch.bus]
            name = {bus: new if kept == old else kept for bus, kept in name.items()}
    return name


def _reached(branches: list[Branch], pcc: str) -> set[str]:
    reached, front = {pcc}, {pcc}
    while front:
        front = {b.to_bus for b in branches if b.from_bus in front} | {
            b.from_bus for b in branches if b.to_bus in front
        }
        front -= reached
        reached |= front
    return reached
