"""What a simulated charge point keeps until its central system has heard it: messages, and its transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(slots=True)
class Running:
    """The transaction at the connector."""

    session: int
    id_tag: str
    started: datetime
    meter_start_wh: int
    transaction_id: int | None = None


@dataclass(slots=True)
class Note:
    """A message for the central system.

    Attributes
    ----------
    build : callable
        Makes the payload when it is sent, because only then a transaction's id is known.
    heard : callable
        Takes the answer.
    keep : bool
        Whether it waits for the central system to come back (everything about transactions does).
    """

    build: Callable[[], Any]
    heard: Callable[[Any], None]
    keep: bool
    is_sample: bool = False
