"""Which registers one request reads, and what is learned where a device refuses one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from control_loop.image import PointKey
from flexergy_pipelines.grid.templates import TemplatePoint

MAX_BLOCK = 120
"""Registers in one request; the protocol allows 125."""
MAX_GAP = 8
"""Unused registers read along rather than asking twice."""
ASK_AGAIN_S = 300.0
"""Points that the device refused are asked for again so much later, for it may have got them."""
HOPELESS_S = 10.0
"""A device that refuses everything is not asked point by point more often."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring registers read by one request, with the points in them."""

    table: str
    address: int
    count: int
    points: tuple[tuple[PointKey, TemplatePoint], ...]


def _block(points: Sequence[tuple[PointKey, TemplatePoint]]) -> Block:
    first, end = points[0][1], max(point.address + point.width for _, point in points)
    return Block(first.table, first.address, end - first.address, tuple(points))


def coalesce(points: Iterable[tuple[PointKey, TemplatePoint]], gap: int = MAX_GAP) -> list[Block]:
    """Group points into as few requests as gaps and the protocol's size allow.

    Parameters
    ----------
    points : iterable of (point key, template point)
        In any order; each address is absolute.
    gap : int
        Most unused registers between two points of one request.
    """
    blocks: list[Block] = []
    run: list[tuple[PointKey, TemplatePoint]] = []
    end = 0
    for key, point in sorted(points, key=lambda item: (item[1].table, item[1].address)):
        if run:
            first = run[0][1]
            apart = point.table != first.table or point.address - end > gap
            if apart or point.address + point.width - first.address > MAX_BLOCK:
                blocks.append(_block(run))
                run, end = [], 0
        run.append((key, point))
        end = max(end, point.address + point.width)
    if run:
        blocks.append(_block(run))
    return blocks


def halves(block: Block) -> tuple[Block, Block]:
    """A block in two, parted at its widest gap, of equal ones at the one nearest to the middle.

    Registers that a device lacks are most often those that nobody wants.
    """
    points = block.points
    gaps = [
        (points[i][1].address - (points[i - 1][1].address + points[i - 1][1].width), -abs(2 * i - len(points)), i)
        for i in range(1, len(points))
    ]
    cut = max(gaps)[2]
    return _block(points[:cut]), _block(points[cut:])


class ReadPlan:
    """The requests of one reading, finer wherever the device refused one.

    Parameters
    ----------
    points : iterable of (point key, template point)
        What is to be read.
    gap : int
        Most unused registers between two points of one request.

    Attributes
    ----------
    blocks : list of Block
        Requests as they are made now.
    refused : tuple of (point key, template point)
        What the device does not give.
    """

    def __init__(self, points: Iterable[tuple[PointKey, TemplatePoint]], gap: int = MAX_GAP) -> None:
        self._points = tuple(points)
        self._gap = gap
        self._again = self._hopeless = float("-inf")
        self.blocks: list[Block] = []
        self.refused: tuple[tuple[PointKey, TemplatePoint], ...] = ()
        self.forget()

    def forget(self) -> None:
        """Ask as if nothing had been refused, for instance of a device that was connected anew."""
        self.blocks = coalesce(self._points, self._gap)
        self.refused = ()

    def now(self, monotonic: float) -> tuple[Block, ...]:
        """Requests of the reading that begins at `monotonic` [s]."""
        if self.refused and monotonic >= self._again:
            self.forget()
        return tuple(self.blocks)

    def may_part(self, monotonic: float) -> bool:
        """Whether a refused block is to be asked for in parts."""
        return monotonic >= self._hopeless

    def learn(self, parted: Sequence[Block], given: Sequence[Block], monotonic: float) -> None:
        """Read as the device lets us.

        Parameters
        ----------
        parted : sequence of Block
            Blocks of this reading that were refused and asked for in parts.
        given : sequence of Block
            The parts that it gave.
        """
        if not given and len(parted) == len(self.blocks):
            self._hopeless = monotonic + HOPELESS_S
            return
        had = {key for block in given for key, _ in block.points}
        self.refused += tuple(item for block in parted for item in block.points if item[0] not in had)
        self.blocks = [block for block in self.blocks if block not in parted] + list(given)
        self._again = monotonic + ASK_AGAIN_S
