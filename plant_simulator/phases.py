"""The three phases of a site: on which of them an asset or a charge point stands."""

from __future__ import annotations

Phases = tuple[float, float, float]

PHASE_SHARES: Phases = (0.36, 0.33, 0.31)
"""How loads of a site that nobody assigned to phases spread over the three."""
EVEN: Phases = (1 / 3, 1 / 3, 1 / 3)
LINES = ("L1", "L2", "L3")


def phase_shares(connection: str, kind: str) -> Phases:
    """Part of an asset's power on each phase: all of one, else loads as sites spread them and the rest evenly."""
    if connection in LINES:
        return _on([LINES.index(connection)])
    return PHASE_SHARES if kind == "load" else EVEN


def point_shares(connection: str, phases: int, place: int) -> Phases:
    """Part of a charge point's power on each phase.

    Parameters
    ----------
    connection : str
        ``L1`` to ``L3``, where its (first) phase is known; else ``three_phase``.
    phases : int
        How many phases it charges on, 1 to 3.
    place : int
        Number of the charge point, from 0: where nobody said on which phase it is, they take turns, as they are wired.
    """
    if phases >= len(LINES):
        return EVEN
    first = LINES.index(connection) if connection in LINES else place
    return _on([(first + i) % len(LINES) for i in range(phases)])


def _on(used: list[int]) -> Phases:
    share = 1.0 / len(used)
    return (share * (0 in used), share * (1 in used), share * (2 in used))
