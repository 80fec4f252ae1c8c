"""Setpoints as a device holds them: each with its own revert timer, and a safe value to fall back to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexergy_pipelines.grid.clock import Clock

DEFAULT_TTL_S = 60.0
"""Revert time of a device as delivered [s]."""

Key = tuple[str, str]
"""(asset id, quantity)."""


@dataclass(slots=True)
class Order:
    """One writable value of a device.

    Attributes
    ----------
    safe : float
        Value in force when nobody refreshed the order: 0 kW for a setpoint, rated power for a limit.
    requested : float
        Value in force now, as it was written.
    deadline_s : float or None
        Monotonic time at which it reverts; None while the safe value is in force.
    """

    safe: float
    requested: float
    deadline_s: float | None = None


class OrderBook:
    """All writable values of one plant.

    Parameters
    ----------
    clock : Clock
        Deadlines are measured on its monotonic side.
    safe_values : dict
        Safe value of each writable (asset id, quantity).
    """

    def __init__(self, clock: Clock, safe_values: dict[Key, float]) -> None:
        self._clock = clock
        self._orders = {key: Order(safe, safe) for key, safe in safe_values.items()}
        self._ttl_s: dict[str, float] = {}
        self.reverts = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._orders

    def keys(self) -> list[Key]:
        """Every writable (asset id, quantity)."""
        return list(self._orders)

    def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Put a new value in force and start its revert timer.

        Raises
        ------
        KeyError
            If the asset has no such writable quantity.
        ValueError
            If the value is not a finite number.
        """
        order = self._orders.get((asset_id, quantity))
        if order is None:
            raise KeyError(f"{asset_id}: nothing writable called {quantity}")
        if not math.isfinite(value):
            raise ValueError(f"{asset_id}: {quantity} {value} is not a finite number")
        order.requested = value
        order.deadline_s = self._clock.monotonic() + self.ttl_s(asset_id)

    def in_force(self, asset_id: str, quantity: str) -> float:
        """Value in force."""
        return self._orders[asset_id, quantity].requested

    def held(self, asset_id: str) -> bool:
        """Whether any order of the asset is in force that is not a fall-back."""
        return any(order.deadline_s is not None for (asset, _), order in self._orders.items() if asset == asset_id)

    def ttl_s(self, asset_id: str) -> float:
        """Revert time of the asset's orders [s]."""
        return self._ttl_s.get(asset_id, DEFAULT_TTL_S)

    def set_ttl_s(self, asset_id: str, seconds: float) -> None:
        """Set the revert time of the asset's *next* orders [s]; 0 or less means the device's own default."""
        if seconds > 0:
            self._ttl_s[asset_id] = seconds
        else:
            self._ttl_s.pop(asset_id, None)

    def refresh(self, asset_id: str) -> None:
        """Restart the revert timers of the asset's orders in force, as a moving heartbeat does."""
        for (asset, _), order in self._orders.items():
            if asset == asset_id and order.deadline_s is not None:
                order.deadline_s = self._clock.monotonic() + self.ttl_s(asset_id)

    def expire(self) -> list[Key]:
        """Put the safe value in force wherever a timer ran out; returns what reverted."""
        now_s = self._clock.monotonic()
        expired = [
            key for key, order in self._orders.items() if order.deadline_s is not None and now_s >= order.deadline_s
        ]
        for key in expired:
            order = self._orders[key]
            order.requested, order.deadline_s = order.safe, None
        self.reverts += len(expired)
        return expired
