"""One report control block of a device, as far as a subscriber needs it."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_shapes import LinkLostError

BUFFERED = ".BR."
TRIGGER_SHIFT = 1
"""The first bit of the trigger options is reserved."""


class ReportBlock:
    """A report control block.

    Parameters
    ----------
    lib : ctypes.CDLL
        The protocol's library.
    connection : int
        The association.
    reference : str
        ``LDevice/LN.BR.name`` or ``LDevice/LN.RP.name``.

    Attributes
    ----------
    enabled, reserved : bool
        Whether a client has it.
    data_set : str
        Reference of its data set, empty without one.
    report_id : bytes or None
        Identification in its reports; None: its own reference.
    triggers : int
        Trigger options, as the library counts them.
    period_ms : int
        Integrity period, 0 without one.
    """

    def __init__(self, lib: ctypes.CDLL, connection: int, reference: str) -> None:
        self.reference = reference
        self.buffered = BUFFERED in reference
        self.enabled = self.reserved = False
        self.data_set = ""
        self.report_id: bytes | None = None
        self.triggers = self.period_ms = 0
        self._lib = lib
        self._connection = connection
        self._handle: int = lib.ClientReportControlBlock_create(reference.encode())

    def free(self) -> None:
        """Give back the library's memory."""
        self._lib.ClientReportControlBlock_destroy(self._handle)

    def read(self) -> bool:
        """Read it from the device; returns whether it is there.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        lib, error = self._lib, c_int(0)
        lib.IedConnection_getRCBValues(self._connection, byref(error), self.reference.encode(), self._handle)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        if error.value != 0:
            return self._read_by_attribute()
        self.enabled = lib.ClientReportControlBlock_getRptEna(self._handle)
        self.reserved = not self.buffered and lib.ClientReportControlBlock_getResv(self._handle)
        self._take_names(
            lib.ClientReportControlBlock_getDataSetReference(self._handle),
            lib.ClientReportControlBlock_getRptId(self._handle),
        )
        self.triggers = lib.ClientReportControlBlock_getTrgOps(self._handle)
        self.period_ms = lib.ClientReportControlBlock_getIntgPd(self._handle)
        return True

    def enable(self, wanted: bool) -> int:
        """Enable or disable it; returns the library's error, 0 when it is so."""
        self._lib.ClientReportControlBlock_setRptEna(self._handle, wanted)
        return self._set(library.RPT_ENA)

    def reserve(self) -> int:
        """Reserve an unbuffered one."""
        self._lib.ClientReportControlBlock_setResv(self._handle, True)
        return self._set(library.RESERVED)

    def configure(self, fields: int, triggers: int, period_ms: int) -> None:
        """Set what its reports hold and when they come.

        One by one, for a device may have some of these fixed and refuse to set them. What was buffered while nobody
        listened is of the past and thrown away.
        """
        lib = self._lib
        lib.ClientReportControlBlock_setOptFlds(self._handle, fields)
        lib.ClientReportControlBlock_setTrgOps(self._handle, triggers)
        lib.ClientReportControlBlock_setIntgPd(self._handle, period_ms)
        lib.ClientReportControlBlock_setPurgeBuf(self._handle, True)
        for option in (library.OPT_FLDS, library.TRG_OPS, library.INTG_PD, *([library.PURGE] if self.buffered else [])):
            self._set(option)

    def interrogate(self) -> None:
        """Have it report everything now."""
        self._lib.ClientReportControlBlock_setGI(self._handle, True)
        self._set(library.GI)

    def _set(self, option: int) -> int:
        error = c_int(0)
        self._lib.IedConnection_setRCBValues(self._connection, byref(error), self._handle, option, True)
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        return error.value

    def _take_names(self, data_set: bytes | None, report_id: bytes | None) -> None:
        name = (data_set or b"").decode("latin-1").replace("$", ".")
        # Some devices leave out their own logical device.
        self.data_set = f"{self.reference.partition('/')[0]}/{name}" if name and "/" not in name else name
        self.report_id = report_id or None

    def _read_by_attribute(self) -> bool:
        """Read what is needed one by one, of a device that does not give the block as a whole."""
        lib, found = self._lib, dict[str, int]()
        node, _, name = self.reference.partition(BUFFERED if self.buffered else ".RP.")
        constraint = library.FC_BR if self.buffered else library.FC_RP
        reserved = [] if self.buffered else ["Resv"]
        try:
            for attribute in ("RptEna", "DatSet", "RptID", "TrgOps", "IntgPd", *reserved):
                error, reference = c_int(0), f"{node}.{name}.{attribute}".encode()
                read = lib.IedConnection_readObject(self._connection, byref(error), reference, constraint)
                if error.value in library.LINK_ERRORS:
                    raise LinkLostError
                if read:
                    found[attribute] = read
            types = {attribute: lib.MmsValue_getType(value) for attribute, value in found.items()}
            if types.get("RptEna") != library.BOOLEAN:
                return False
            texts = {a: lib.MmsValue_toString(found[a]) for a in ("DatSet", "RptID") if types.get(a) in library.TEXTS}
            self._take_names(texts.get("DatSet"), texts.get("RptID"))
            self.enabled = lib.MmsValue_getBoolean(found["RptEna"])
            self.reserved = types.get("Resv") == library.BOOLEAN and lib.MmsValue_getBoolean(found["Resv"])
            if types.get("TrgOps") == library.BIT_STRING:
                self.triggers = lib.MmsValue_getBitStringAsInteger(found["TrgOps"]) >> TRIGGER_SHIFT
            if types.get("IntgPd") in {library.UNSIGNED, library.INTEGER}:
                self.period_ms = lib.MmsValue_toInt64(found["IntgPd"])
            return True
        finally:
            for value in found.values():
                lib.MmsValue_delete(value)
