"""Whom a simulated charge point serves: the list of drivers' tags it was sent, and whom it is kept for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ocpp.v16.enums import AuthorizationStatus, UpdateStatus, UpdateType

from plant_simulator.ocpp_profiles import instant
from plant_simulator.ocpp_settings import LARGEST_LIST


@dataclass(slots=True)
class LocalList:
    """Drivers' tags that the central system sent, by which drivers are served while it is away.

    Attributes
    ----------
    version : int
        Of the last update; 0 before the first.
    """

    version: int = 0
    _tags: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def update(self, version: int, kind: str, rows: Sequence[Mapping[str, Any]]) -> UpdateStatus:
        """Take a list, or changes of it.

        References
        ----------
        Open Charge Alliance, OCPP 1.6 edition 2, 5.15 (send local list).
        """
        if version <= 0 or (kind == UpdateType.differential and version <= self.version):
            return UpdateStatus.version_mismatch
        tags = {} if kind == UpdateType.full else dict(self._tags)
        for row in rows:
            info = row.get("id_tag_info")
            if info is not None:
                tags[row["id_tag"].upper()] = info
            elif kind == UpdateType.differential:
                tags.pop(row["id_tag"].upper(), None)
        if len(tags) > LARGEST_LIST:
            return UpdateStatus.failed
        self.version, self._tags = version, tags
        return UpdateStatus.accepted

    def serves(self, id_tag: str, now: datetime) -> bool:
        """Whether a driver is served while nobody can be asked; who is not on the list is."""
        info = self._tags.get(id_tag.upper())
        if info is None:
            return True
        until = info.get("expiry_date")
        return info.get("status") == AuthorizationStatus.accepted and (until is None or now < instant(until))


@dataclass(frozen=True, slots=True)
class Reservation:
    """A charge point that is kept for a driver."""

    number: int
    id_tag: str
    until: datetime

    def keeps_out(self, id_tag: str, now: datetime) -> bool:
        """Whether another driver must not begin now."""
        return now < self.until and id_tag.upper() != self.id_tag.upper()
