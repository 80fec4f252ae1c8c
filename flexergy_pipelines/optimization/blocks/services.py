"""Services: power held ready, the energy behind it, and what it is expected to earn and to move.

A battery gives *up* by charging less or discharging more, *down* by charging more or discharging less. Each of the
four is a variable of its own, because each moves the stored energy with its own efficiency. Several services share a
battery: the sums of their parts must fit beside what it does anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.optimization.blocks.battery import BatteryVariables
from flexergy_pipelines.optimization.blocks.bids import BidSize, add_bid_size, exclude_bids, suggest_bids
from flexergy_pipelines.optimization.board import Board, IndexArray, Numbers, Variable
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs_market import Service

Terms = list[tuple[Numbers, IndexArray]]


@dataclass(frozen=True, slots=True)
class _Shares:
    """What one battery holds ready for one service (kW)."""

    service: Service
    up_less_charge: Variable
    up_more_discharge: Variable
    down_more_charge: Variable
    down_less_discharge: Variable


def add_services(board: Board, services: Sequence[Service], stores: Sequence[BatteryVariables]) -> None:
    """Contribute services over all batteries that may provide them."""
    shares: dict[str, list[_Shares]] = {store.battery.id: [] for store in stores}
    bids: dict[str, tuple[Service, list[Variable]]] = {}
    for service in services:
        providers = [store for store in stores if not service.providers or store.battery.id in service.providers]
        own = [_share(board, service, store) for store in providers]
        for store, share in zip(providers, own, strict=True):
            shares[store.battery.id].append(share)
        bids[service.id] = (service, _add_bids(board, service, own, stores))
    for store in stores:
        _fit_power(board, store, shares[store.battery.id])
        _fit_energy(board, store, shares[store.battery.id])
        _expect_activation(board, store, shares[store.battery.id])
    exclude_bids(board, bids)


def _share(board: Board, service: Service, store: BatteryVariables) -> _Shares:
    wanted = (expand(service.available, board.steps) > 0.5).astype(np.float64)
    name = store.battery.id

    def part(quantity: str, meaning: str, largest: np.ndarray, offered: bool) -> Variable:
        return board.variable(
            f"{service.id}@{name}", quantity, meaning, upper=largest * wanted * (1.0 if offered else 0.0)
        )

    charge, discharge = store.largest_kw["charge"], store.largest_kw["discharge"]
    shares = _Shares(
        service,
        part("up_less_charge_kw", f"{name} can charge less for {service.id}", charge, service.up),
        part("up_more_discharge_kw", f"{name} can discharge more for {service.id}", discharge, service.up),
        part("down_more_charge_kw", f"{name} can charge more for {service.id}", charge, service.down),
        part("down_less_discharge_kw", f"{name} can discharge less for {service.id}", discharge, service.down),
    )
    both = (
        ("up_held_kw", shares.up_less_charge.columns, shares.up_more_discharge.columns),
        ("down_held_kw", shares.down_more_charge.columns, shares.down_less_discharge.columns),
    )
    for quantity, first, second in both:
        board.output(f"{service.id}@{name}", quantity, lambda x, first=first, second=second: x[first] + x[second])
    return shares


def _fit_power(board: Board, store: BatteryVariables, shares: list[_Shares]) -> None:
    """Held power fits beside charge and discharge."""
    if not shares:
        return
    name, charge, discharge = store.battery.id, store.charge, store.discharge

    def held(part: str) -> Terms:
        return [(1.0, getattr(share, part).columns) for share in shares]

    meaning = f"power of {name} held for services fits beside its own operation"
    below_charge: Terms = [(-1.0, charge.columns)]
    below_discharge: Terms = [(-1.0, discharge.columns)]
    own_charge, most_charge = store.most("charge")
    own_discharge, most_discharge = store.most("discharge")
    above_charge: Terms = [(1.0, charge.columns), *own_charge]
    above_discharge: Terms = [(1.0, discharge.columns), *own_discharge]
    board.constrain(name, "hold_less_charge", meaning, [*held("up_less_charge"), *below_charge], upper=0.0)
    board.constrain(name, "hold_less_discharge", meaning, [*held("down_less_discharge"), *below_discharge], upper=0.0)
    board.constrain(name, "hold_more_charge", meaning, [*held("down_more_charge"), *above_charge], upper=most_charge)
    board.constrain(
        name, "hold_more_discharge", meaning, [*held("up_more_discharge"), *above_discharge], upper=most_discharge
    )


def _fit_energy(board: Board, store: BatteryVariables, shares: list[_Shares]) -> None:
    """At the start of each step the whole held power can be delivered for its duration within the SoC window."""
    if not shares:
        return
    battery = store.battery
    up: Terms = [(-1.0, store.energy.before())]
    down: Terms = [(1.0, store.energy.before())]
    # A store outside its window can hold nothing in that direction, but must not make the plan impossible.
    if store.below is not None and store.above is not None:
        up.append((-1.0, store.below.before()))
        down.append((-1.0, store.above.before()))
    kept_up, kwh_up = store.kept_energy("discharge")
    kept_down, kwh_down = store.kept_energy("charge")
    up += kept_up
    down += kept_down
    for share in shares:
        hours = share.service.duration_hours
        up += [
            (hours * battery.charge_efficiency, share.up_less_charge.columns),
            (hours / battery.discharge_efficiency, share.up_more_discharge.columns),
        ]
        down += [
            (hours * battery.charge_efficiency, share.down_more_charge.columns),
            (hours / battery.discharge_efficiency, share.down_less_discharge.columns),
        ]
    start = battery.soc_start * battery.energy_capacity_kwh
    lowest, highest = (board.full(soc * battery.energy_capacity_kwh) for soc in (battery.soc_min, battery.soc_max))
    energy, room = -lowest, highest
    energy[0], room[0] = max(start - lowest[0], 0.0), max(highest[0] - start, 0.0)
    board.constrain(
        battery.id,
        "energy_for_up",
        f"energy in {battery.id} for what services may call",
        up,
        upper=energy - kwh_up,
    )
    board.constrain(
        battery.id,
        "room_for_down",
        f"room in {battery.id} for what services may give",
        down,
        upper=room - kwh_down,
    )


def _expect_activation(board: Board, store: BatteryVariables, shares: list[_Shares]) -> None:
    """Energy that called services are expected to move, and what it costs the battery."""
    battery, activated = store.battery, store.activated
    if activated is None:
        return
    terms: Terms = [(1.0, activated.columns)]
    discharge_cost = expand(battery.discharge_cost_eur_per_kwh, board.steps) * board.hours
    balance: Terms = [(1.0, activated.columns)]
    for share in shares:
        up, down = share.service.activation_up * board.hours, share.service.activation_down * board.hours
        terms += [
            (up * battery.charge_efficiency, share.up_less_charge.columns),
            (-down * battery.charge_efficiency, share.down_more_charge.columns),
            (up / battery.discharge_efficiency, share.up_more_discharge.columns),
            (-down / battery.discharge_efficiency, share.down_less_discharge.columns),
        ]
        if share.service.activation_never_charges:
            balance += [
                (-up, share.up_less_charge.columns),
                (-up, share.up_more_discharge.columns),
                (down, share.down_more_charge.columns),
                (down, share.down_less_discharge.columns),
            ]
        if discharge_cost.any():
            more, less = share.service.activation_up, share.service.activation_down
            board.cost("battery_operation", share.up_more_discharge.columns, more * discharge_cost)
            board.cost("battery_operation", share.down_less_discharge.columns, -less * discharge_cost)
    board.constrain(
        battery.id,
        "activation",
        f"energy that services are expected to move in {battery.id}",
        terms,
        lower=0.0,
        upper=0.0,
    )
    if len(balance) > 1:
        meaning = f"services are not expected to charge {battery.id} on balance"
        board.constrain(battery.id, "activation_balance", meaning, balance, upper=0.0)


def _add_bids(
    board: Board, service: Service, shares: list[_Shares], stores: Sequence[BatteryVariables]
) -> list[Variable]:
    """One bid a direction, constant over each block, covered by what the batteries hold."""
    name = service.id
    block_of = service.blocks(board.steps)
    blocks = int(block_of[-1]) + 1
    largest = sum(
        (store.largest_kw["charge"] + store.largest_kw["discharge"] for store in stores), np.zeros(board.steps)
    )
    bought = expand(service.available, board.steps) > 0.5
    ceiling = np.array([np.where(bought, largest, 0.0)[block_of == block].min() for block in range(blocks)])
    if service.max_bid_kw is not None:
        ceiling = np.minimum(ceiling, service.max_bid_kw)
    closed = np.array([(expand(service.closed, board.steps) > 0.5)[block_of == b].any() for b in range(blocks)])
    bids: list[Variable] = []
    sizes: list[BidSize] = []
    directions = (
        ("up", service.up, service.up_price_eur_per_kw_h, "up_less_charge", "up_more_discharge"),
        ("down", service.down, service.down_price_eur_per_kw_h, "down_more_charge", "down_less_discharge"),
    )
    for direction, offered, price, first, second in directions:
        if not offered:
            continue
        promised = expand(getattr(service, f"sold_{direction}_kw"), board.steps)
        sold = np.array([promised[block_of == block].max() for block in range(blocks)])
        most = np.where(closed, np.minimum(sold, ceiling), ceiling)
        bid = board.variable(name, f"{direction}_bid_kw", f"{name} bid {direction}", size=blocks, upper=most)
        if sold.any():
            hours = np.bincount(block_of, minlength=blocks) * board.hours
            _hold_sold(board, service, bid, sold, hours)
        covered = [
            *((1.0, getattr(share, first).columns) for share in shares),
            *((1.0, getattr(share, second).columns) for share in shares),
        ]
        board.constrain(
            name,
            f"{direction}_covered",
            f"batteries hold what is bid {direction} for {name}",
            [*covered, (-1.0, bid.columns[block_of])],
            lower=0.0,
            upper=0.0,
        )
        _add_revenue(board, service, direction, bid.columns[block_of], expand(price, board.steps))
        sizes.append(add_bid_size(board, service, direction, bid, np.where(closed, 0.0, ceiling)))
        board.output(name, f"{direction}_bid_kw", lambda x, bid=bid: x[bid.columns[block_of]])
        bids.append(bid)
    suggest_bids(board, service, sizes)
    if service.symmetric:
        board.constrain(
            name,
            "symmetric",
            f"{name} bids the same up and down",
            [(1.0, bids[0].columns), (-1.0, bids[1].columns)],
            lower=0.0,
            upper=0.0,
        )
    return bids


def _hold_sold(board: Board, service: Service, bid: Variable, sold: np.ndarray, hours: np.ndarray) -> None:
    """What was sold is held; what can't be is priced and named."""
    name, direction = service.id, bid.quantity.removesuffix("_bid_kw")
    short = board.variable(
        name, f"{direction}_short_kw", f"{name} sold {direction} that nothing holds", size=sold.size, upper=sold
    )
    price = board.dominant(service.shortfall_price_eur_per_kwh)
    board.cost("violations", short.columns, price * hours, penalty=True)
    board.soft_limit(f"sold_{direction}", short, "kW", f"less {direction} power is held for {name} than was sold")
    meaning = f"what was sold {direction} for {name} is held"
    board.constrain(name, f"{direction}_sold", meaning, [(1.0, bid.columns), (1.0, short.columns)], lower=sold)


def _add_revenue(
    board: Board, service: Service, direction: str, columns: IndexArray, price_eur_per_kw_h: np.ndarray
) -> None:
    board.cost(f"service_{service.id}", columns, -price_eur_per_kw_h * board.hours)
    if service.activation_price_eur_per_kwh is None:
        return
    settled = expand(service.activation_price_eur_per_kwh, board.steps) * board.hours
    share = -service.activation_up if direction == "up" else service.activation_down
    if share:
        board.cost(f"service_{service.id}_energy", columns, share * settled)
