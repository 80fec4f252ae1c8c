"""The report of one device: a report control block that is free, enabled for changes, integrity and interrogation.

References
----------
IEC 61850-7-2 (report control blocks), 61850-8-1 (their attributes in MMS).
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Iterator
from ctypes import byref, c_bool, c_int
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.iec61850_rcb import ReportBlock
from control_loop.protocols.iec61850_shapes import Carried, LinkLostError, Shape, Shapes

INTEGRITY_MS = 2000
FIELDS = library.WITH_SEQUENCE | library.WITH_TIME | library.WITH_REASON | library.WITH_DATA_SET
TRIGGERS = library.ON_CHANGE | library.ON_QUALITY | library.INTEGRITY | library.INTERROGATION
NOT_THERE = "is not there"
MOST_INSTANCES = 20
SILENT_PERIODS = 3
"""A report that is not heard for so many periods has ended, whatever the association says."""
State = tuple[float | None, bool, float | None]
"""Value, whether it is good, and its time stamp [s since 1970]."""


class Subscription:
    """A report control block and what comes by it.

    Parameters
    ----------
    lib : ctypes.CDLL
        The protocol's library.
    connection : int
        The association.
    objects : dict
        Shape of each object that is wanted.
    latest : dict
        Last state of each object; kept up to date.
    arrived : callable
        Called with the states that a report brought, in a thread of the library.

    Attributes
    ----------
    carried : frozenset of str
        Objects whose values come by the report.
    block : str
        Reference of the report control block in use.
    """

    def __init__(
        self,
        lib: ctypes.CDLL,
        connection: int,
        objects: dict[str, Shape],
        latest: dict[str, State],
        arrived: Callable[[dict[str, State]], None],
    ) -> None:
        self.carried: frozenset[str] = frozenset()
        self.block = ""
        self._lib = lib
        self._connection = connection
        self._values = Values(lib)
        self._objects = objects
        self._latest = latest
        self._arrived = arrived
        self._entries: list[list[Carried]] = []
        self._handler: Any = None
        self._heard = 0.0
        self._period_s = 0.0
        self._asks_itself = False
        self._asked = 0.0

    def begin(self, reference: str) -> str | None:
        """Subscribe a report control block, or another instance of it where a client has that; returns why not.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        reasons: list[str] = []
        for block in instances(reference):
            reason = self._subscribe(block)
            if reason is None:
                return None
            if reason == NOT_THERE and reasons:
                break  # there are no more of them
            reasons.append(f"{block} {reason}")
        return ", ".join(reasons)

    def keep_up(self, monotonic: float) -> bool:
        """Interrogate a device that has no integrity period; returns whether the report is still heard."""
        if not self.carried:
            return True
        if self._asks_itself and monotonic - self._asked >= self._period_s:
            self._asked = monotonic
            self._lib.IedConnection_triggerGIReport(self._connection, byref(c_int(0)), self.block.encode())
        return monotonic - self._heard <= SILENT_PERIODS * self._period_s

    def end(self) -> None:
        """Take no more reports, and leave the block to others.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        if self.block:
            self._lib.IedConnection_uninstallReportHandler(self._connection, self.block.encode())
            block = ReportBlock(self._lib, self._connection, self.block)
            try:
                block.enable(False)
            finally:
                block.free()
        self.block, self.carried, self._entries = "", frozenset(), []

    def _subscribe(self, reference: str) -> str | None:
        block = ReportBlock(self._lib, self._connection, reference)
        try:
            return self._take(block) if block.read() else NOT_THERE
        finally:
            block.free()

    def _take(self, block: ReportBlock) -> str | None:
        if block.enabled or block.reserved:
            return "has another client"
        if not block.data_set:
            return "has no data set"
        self._entries = self._members(block.data_set)
        carried = frozenset(c.name for entry in self._entries for c in entry if c.value is not None)
        if not carried:
            return f"has a data set ({block.data_set}) without the points"
        reference = block.reference.encode()
        self._handler = library.ReportHandler(self._came)
        self._lib.IedConnection_installReportHandler(self._connection, reference, block.report_id, self._handler, None)
        if not block.buffered:
            block.reserve()
        block.configure(FIELDS, TRIGGERS, INTEGRITY_MS)
        self._heard = self._asked = time.monotonic()
        refused = block.enable(True)
        if refused:
            self._lib.IedConnection_uninstallReportHandler(self._connection, reference)
            return f"cannot be enabled ({library.ERRORS.get(refused, f'error {refused}')})"
        self.block = block.reference
        if self._agree(block):
            self.carried = carried
        block.interrogate()
        return None

    def _members(self, data_set: str) -> list[list[Carried]]:
        """What each entry of the data set carries."""
        error, deletable = c_int(0), c_bool(False)
        listed = self._lib.IedConnection_getDataSetDirectory(
            self._connection, byref(error), data_set.encode(), byref(deletable)
        )
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        shapes = Shapes(self._lib, self._connection)
        with library.names_in(self._lib, listed) as entries:
            return [shapes.carried(entry, self._objects) for entry in entries]

    def _agree(self, block: ReportBlock) -> bool:
        """See how often everything comes; False where neither period nor interrogation shows that the report lives."""
        if not block.read():
            return False
        periodic = bool(block.triggers & library.INTEGRITY) and block.period_ms > 0
        self._asks_itself = not periodic
        self._period_s = (max(block.period_ms, INTEGRITY_MS) if periodic else INTEGRITY_MS) / 1000.0
        return periodic or bool(block.triggers & library.INTERROGATION)

    def _came(self, _parameter: int, report: int) -> None:
        """A report came; called in a thread of the library, which owns the report."""
        self._heard = time.monotonic()
        lib, values, news = self._lib, self._values, dict[str, State]()
        data = lib.ClientReport_getDataSetValues(report)
        for index, entry in enumerate(self._entries):
            if not entry or not data or lib.ClientReport_getReasonForInclusion(report, index) == 0:
                continue
            element = lib.MmsValue_getElement(data, index)
            for carried in entry if element else ():
                shape = self._objects[carried.name]
                value, good, stamp = self._latest.get(carried.name, (None, True, None))
                if carried.value is not None:
                    value = scaled(values.number(values.at(element, carried.value)), shape)
                quality = None if carried.quality is None else values.quality(values.at(element, carried.quality))
                if carried.time is not None:
                    stamp = values.stamp(values.at(element, carried.time))
                state = value, good if quality is None else quality, stamp
                self._latest[carried.name] = news[carried.name] = state
        self._arrived(news)


def scaled(number: float | None, shape: Shape) -> float | None:
    """The value that a number of an object means."""
    return None if number is None else number * shape.factor + shape.offset


def instances(reference: str) -> Iterator[str]:
    """A report control block, and the names that its other instances would have: each client takes one of them."""
    yield reference
    stem = re.sub(r"\d{2}$", "", reference)
    for number in range(1, MOST_INSTANCES + 1):
        if f"{stem}{number:02}" != reference:
            yield f"{stem}{number:02}"
