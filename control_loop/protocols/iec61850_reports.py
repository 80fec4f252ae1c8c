"""The report of one device: a report control block that is free, enabled for changes, integrity and interrogation.

References
----------
IEC 61850-7-2 (report control blocks), 61850-8-1 (their attributes in MMS).
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable
from ctypes import byref, c_bool, c_int
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.iec61850_shapes import Carried, LinkLostError, Shape, Shapes

INTEGRITY_MS = 2000
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
        for block in self._instances(reference):
            reason = self._subscribe(block)
            if reason is None:
                return None
            reasons.append(f"{block}: {reason}")
        return "; ".join(reasons)

    def keep_up(self, monotonic: float) -> bool:
        """Interrogate a device that has no integrity period; returns whether the report is still heard."""
        if not self.carried:
            return True
        if self._asks_itself and monotonic - self._asked >= self._period_s:
            self._asked = monotonic
            self._lib.IedConnection_triggerGIReport(self._connection, byref(c_int(0)), self.block.encode())
        return monotonic - self._heard <= SILENT_PERIODS * self._period_s

    def end(self) -> None:
        """Take no more reports."""
        if self.block:
            self._lib.IedConnection_uninstallReportHandler(self._connection, self.block.encode())
        self.block, self.carried, self._entries = "", frozenset(), []

    def _instances(self, reference: str) -> list[str]:
        """The block that was named, and then its other instances: of an indexed block each client takes one."""
        node, letters, name = _parts(reference)
        if not letters:
            return [reference]
        kind = library.BUFFERED_REPORTS if letters == "BR" else library.UNBUFFERED_REPORTS
        error = c_int(0)
        listed = self._lib.IedConnection_getLogicalNodeDirectory(self._connection, byref(error), node.encode(), kind)
        with library.names_in(self._lib, listed) as names:
            found = list(names)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        stem = re.sub(r"\d{2}$", "", name) if name in found else name
        others = sorted(n for n in found if n != name and re.fullmatch(re.escape(stem) + r"\d{2}", n))
        first = [name] if name in found or not others else []
        return [f"{node}.{letters}.{instance}" for instance in (*first, *others)]

    def _subscribe(self, reference: str) -> str | None:
        lib, error = self._lib, c_int(0)
        block = lib.IedConnection_getRCBValues(self._connection, byref(error), reference.encode(), None)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        if not block or error.value != 0:
            return "is not there"
        try:
            return self._take(reference, block)
        finally:
            lib.ClientReportControlBlock_destroy(block)

    def _take(self, reference: str, block: int) -> str | None:
        lib = self._lib
        buffered = ".BR." in reference
        if lib.ClientReportControlBlock_getRptEna(block) or (
            not buffered and lib.ClientReportControlBlock_getResv(block)
        ):
            return "another client has it"
        data_set = (lib.ClientReportControlBlock_getDataSetReference(block) or b"").decode("latin-1").replace("$", ".")
        if not data_set:
            return "has no data set"
        self._entries = self._members(data_set)
        carried = frozenset(c.name for entry in self._entries for c in entry if c.value is not None)
        if not carried:
            return f"its data set {data_set} has none of the points"
        report_id = lib.ClientReportControlBlock_getRptId(block) or None  # none: the block's own reference
        self._handler = library.ReportHandler(self._came)
        lib.IedConnection_installReportHandler(self._connection, reference.encode(), report_id, self._handler, None)
        if not buffered:
            lib.ClientReportControlBlock_setResv(block, True)
            self._set(block, library.RESERVED)
        self._configure(block, buffered)
        self._heard = self._asked = time.monotonic()
        lib.ClientReportControlBlock_setRptEna(block, True)
        refused = self._set(block, library.RPT_ENA)
        if refused:
            lib.IedConnection_uninstallReportHandler(self._connection, reference.encode())
            return f"cannot be enabled (error {refused})"
        self.block = reference
        if self._agree(reference):
            self.carried = carried
        lib.ClientReportControlBlock_setGI(block, True)
        self._set(block, library.GI)
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

    def _configure(self, block: int, buffered: bool) -> None:
        """Options one by one: a device may have some of them fixed, and refuse to set these."""
        lib = self._lib
        fields = library.WITH_SEQUENCE | library.WITH_TIME | library.WITH_REASON | library.WITH_DATA_SET
        triggers = library.ON_CHANGE | library.ON_QUALITY | library.INTEGRITY | library.INTERROGATION
        lib.ClientReportControlBlock_setOptFlds(block, fields)
        lib.ClientReportControlBlock_setTrgOps(block, triggers)
        lib.ClientReportControlBlock_setIntgPd(block, INTEGRITY_MS)
        # What was buffered while nobody listened is of the past: nothing is controlled by it.
        lib.ClientReportControlBlock_setPurgeBuf(block, True)
        for option in (library.OPT_FLDS, library.TRG_OPS, library.INTG_PD, *([library.PURGE] if buffered else [])):
            self._set(block, option)

    def _agree(self, reference: str) -> bool:
        """See how often everything comes; False where neither period nor interrogation shows that the report lives."""
        lib, error = self._lib, c_int(0)
        block = lib.IedConnection_getRCBValues(self._connection, byref(error), reference.encode(), None)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        if not block:
            return False
        triggers = lib.ClientReportControlBlock_getTrgOps(block)
        period_ms = lib.ClientReportControlBlock_getIntgPd(block)
        lib.ClientReportControlBlock_destroy(block)
        periodic = bool(triggers & library.INTEGRITY) and period_ms > 0
        self._asks_itself = not periodic
        self._period_s = (max(period_ms, INTEGRITY_MS) if periodic else INTEGRITY_MS) / 1000.0
        return periodic or bool(triggers & library.INTERROGATION)

    def _set(self, block: int, option: int) -> int:
        error = c_int(0)
        self._lib.IedConnection_setRCBValues(self._connection, byref(error), block, option, True)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        return error.value

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


def _parts(reference: str) -> tuple[str, str, str]:
    """Logical node, BR or RP, and name of a report control block."""
    for letters in ("BR", "RP"):
        node, found, name = reference.partition(f".{letters}.")
        if found:
            return node, letters, name
    return reference, "", ""
