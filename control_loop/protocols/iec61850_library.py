"""libiec61850 by ctypes: calls free the interpreter while they last, unlike those of the library's own binding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from importlib.metadata import files
from typing import Any

# Constants of the library's public headers (iec61850_common.h, iec61850_client.h, mms_value.h).
FC_ST, FC_MX = 0, 1
STRUCTURE, BOOLEAN, BIT_STRING, INTEGER, UNSIGNED, FLOAT, UTC_TIME = 1, 2, 3, 4, 5, 6, 14
ACCESS_ERROR = 15
DATA_OBJECTS, DATA_SETS, BUFFERED_REPORTS, UNBUFFERED_REPORTS = 0, 1, 2, 3
STATUS_ONLY, DIRECT, SELECT, DIRECT_ENHANCED, SELECT_ENHANCED = 0, 1, 2, 3, 4
RPT_ENA, DATA_SET, OPT_FLDS, TRG_OPS, INTG_PD, GI, PURGE = 2, 8, 32, 256, 512, 1024, 2048
ON_CHANGE, ON_QUALITY, INTEGRITY, INTERROGATION = 1, 2, 8, 16
WITH_SEQUENCE, WITH_TIME, WITH_REASON, WITH_DATA_SET = 1, 2, 4, 8
AUTOMATIC_REMOTE = 6
QUALITY_BITS = 13
QUALITY_VALIDITY = 3
CLOCK_FAILURE, CLOCK_NOT_SYNCHRONIZED = 0x40, 0x20
"""Of the time quality (IEC 61850-8-1, table 12): a stamp with one of them says nothing."""

ReportHandler = CFUNCTYPE(None, c_void_p, c_void_p)
TerminationHandler = CFUNCTYPE(None, c_void_p, c_void_p)


class LastApplError(Structure):
    """Why a device refused an order."""

    _fields_ = (("number", c_int), ("error", c_int), ("cause", c_int))


ADD_CAUSES = {
    1: "not supported", 2: "blocked by switching hierarchy", 3: "select failed", 4: "invalid position",
    5: "position reached", 6: "parameter change in execution", 7: "step limit", 8: "blocked by mode",
    9: "blocked by process", 10: "blocked by interlocking", 11: "blocked by synchrocheck",
    12: "command already in execution", 13: "blocked by health", 14: "one of n control", 15: "abortion by cancel",
    16: "time limit over", 17: "abortion by trip", 18: "object not selected", 19: "object already selected",
    20: "no access authority", 21: "ended with overshoot", 22: "abortion due to deviation",
    23: "abortion by communication loss", 24: "blocked by command", 26: "inconsistent parameters",
    27: "locked by other client",
}  # fmt: skip
"""IEC 61850-7-2, additional cause diagnosis."""


def load_library() -> ctypes.CDLL:
    """The protocol's library, as its wheel installed it.

    Raises
    ------
    FileNotFoundError
        The wheel holds none for this machine.
    """
    for file in files("pyiec61850-ng") or []:
        if file.name.startswith("libiec61850") and (".so" in file.name or ".dylib" in file.name):
            return _declared(ctypes.CDLL(str(file.locate())))
    raise FileNotFoundError("pyiec61850-ng brought no libiec61850 for this machine")


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    error = POINTER(c_int)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "IedConnection_create": (c_void_p, ()),
        "IedConnection_destroy": (None, (c_void_p,)),
        "IedConnection_close": (None, (c_void_p,)),
        "IedConnection_setConnectTimeout": (None, (c_void_p, c_uint32)),
        "IedConnection_setRequestTimeout": (None, (c_void_p, c_uint32)),
        "IedConnection_connect": (None, (c_void_p, error, c_char_p, c_int)),
        "IedConnection_readObject": (c_void_p, (c_void_p, error, c_char_p, c_int)),
        "IedConnection_getLogicalDeviceList": (c_void_p, (c_void_p, error)),
        "IedConnection_getLogicalDeviceDirectory": (c_void_p, (c_void_p, error, c_char_p)),
        "IedConnection_getLogicalNodeVariables": (c_void_p, (c_void_p, error, c_char_p)),
        "IedConnection_getLogicalNodeDirectory": (c_void_p, (c_void_p, error, c_char_p, c_int)),
        "IedConnection_getDataSetDirectory": (c_void_p, (c_void_p, error, c_char_p, POINTER(c_bool))),
        "IedConnection_getRCBValues": (c_void_p, (c_void_p, error, c_char_p, c_void_p)),
        "IedConnection_setRCBValues": (None, (c_void_p, error, c_void_p, c_uint32, c_bool)),
        "IedConnection_installReportHandler": (None, (c_void_p, c_char_p, c_char_p, ReportHandler, c_void_p)),
        "IedConnection_uninstallReportHandler": (None, (c_void_p, c_char_p)),
        "ClientReportControlBlock_destroy": (None, (c_void_p,)),
        "ClientReportControlBlock_getRptId": (c_char_p, (c_void_p,)),
        "ClientReportControlBlock_getDataSetReference": (c_char_p, (c_void_p,)),
        "ClientReportControlBlock_setRptEna": (None, (c_void_p, c_bool)),
        "ClientReportControlBlock_setGI": (None, (c_void_p, c_bool)),
        "ClientReportControlBlock_setPurgeBuf": (None, (c_void_p, c_bool)),
        "ClientReportControlBlock_setOptFlds": (None, (c_void_p, c_int)),
        "ClientReportControlBlock_setTrgOps": (None, (c_void_p, c_int)),
        "ClientReportControlBlock_setIntgPd": (None, (c_void_p, c_uint32)),
        "ClientReport_getDataSetValues": (c_void_p, (c_void_p,)),
        "ClientReport_getReasonForInclusion": (c_int, (c_void_p, c_int)),
        "ControlObjectClient_create": (c_void_p, (c_char_p, c_void_p)),
        "ControlObjectClient_destroy": (None, (c_void_p,)),
        "ControlObjectClient_getControlModel": (c_int, (c_void_p,)),
        "ControlObjectClient_getCtlValType": (c_int, (c_void_p,)),
        "ControlObjectClient_setOrigin": (None, (c_void_p, c_char_p, c_int)),
        "ControlObjectClient_select": (c_bool, (c_void_p,)),
        "ControlObjectClient_selectWithValue": (c_bool, (c_void_p, c_void_p)),
        "ControlObjectClient_operate": (c_bool, (c_void_p, c_void_p, c_uint64)),
        "ControlObjectClient_getLastApplError": (LastApplError, (c_void_p,)),
        "ControlObjectClient_setCommandTerminationHandler": (None, (c_void_p, TerminationHandler, c_void_p)),
        "LinkedList_getNext": (c_void_p, (c_void_p,)),
        "LinkedList_getData": (c_char_p, (c_void_p,)),
        "LinkedList_destroy": (None, (c_void_p,)),
        "MmsValue_createEmptyStructure": (c_void_p, (c_int,)),
        "MmsValue_setElement": (None, (c_void_p, c_int, c_void_p)),
        "MmsValue_getElement": (c_void_p, (c_void_p, c_int)),
        "MmsValue_getArraySize": (c_uint32, (c_void_p,)),
        "MmsValue_getType": (c_int, (c_void_p,)),
        "MmsValue_getBitStringSize": (c_int, (c_void_p,)),
        "MmsValue_newFloat": (c_void_p, (c_float,)),
        "MmsValue_newBoolean": (c_void_p, (c_bool,)),
        "MmsValue_newIntegerFromInt32": (c_void_p, (c_int32,)),
        "MmsValue_toDouble": (c_double, (c_void_p,)),
        "MmsValue_toInt64": (c_int64, (c_void_p,)),
        "MmsValue_getBoolean": (c_bool, (c_void_p,)),
        "MmsValue_getBitStringAsInteger": (c_uint32, (c_void_p,)),
        "MmsValue_getUtcTimeInMs": (c_uint64, (c_void_p,)),
        "MmsValue_getUtcTimeQuality": (c_uint8, (c_void_p,)),
        "MmsValue_delete": (None, (c_void_p,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Values:
    """Reads the library's values."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._lib = library

    def number(self, value: int | None, kind: str) -> float | None:
        """The number in a value: a structure's is in its first element, whatever its depth."""
        lib = self._lib
        while value and lib.MmsValue_getType(value) == STRUCTURE:
            value = lib.MmsValue_getElement(value, 0)
        if not value:
            return None
        match lib.MmsValue_getType(value):
            case types if types == FLOAT:
                return float(lib.MmsValue_toDouble(value))
            case types if types in {INTEGER, UNSIGNED}:
                return float(lib.MmsValue_toInt64(value))
            case types if types == BOOLEAN:
                return float(lib.MmsValue_getBoolean(value))
            case types if types == BIT_STRING and kind == "double":
                return {1: 0.0, 2: 1.0}.get(lib.MmsValue_getBitStringAsInteger(value))
        return None

    def quality(self, value: int) -> bool | None:
        """Whether the quality in a value says good; None when there is none in it."""
        lib = self._lib
        if lib.MmsValue_getType(value) == STRUCTURE:
            for index in range(lib.MmsValue_getArraySize(value)):
                element = lib.MmsValue_getElement(value, index)
                if element and lib.MmsValue_getType(element) == BIT_STRING:
                    found = self.quality(element)
                    if found is not None:
                        return found
            return None
        if lib.MmsValue_getType(value) != BIT_STRING or lib.MmsValue_getBitStringSize(value) != QUALITY_BITS:
            return None
        return lib.MmsValue_getBitStringAsInteger(value) & QUALITY_VALIDITY == 0

    def stamp(self, value: int) -> float | None:
        """The time in a value [s since 1970]; None without one, or where the device's clock was not right."""
        lib = self._lib
        kind = lib.MmsValue_getType(value)
        if kind == STRUCTURE:
            elements = (lib.MmsValue_getElement(value, i) for i in range(lib.MmsValue_getArraySize(value)))
            return next((t for e in elements if e and (t := self.stamp(e)) is not None), None)
        if kind != UTC_TIME or lib.MmsValue_getUtcTimeQuality(value) & (CLOCK_FAILURE | CLOCK_NOT_SYNCHRONIZED):
            return None
        milliseconds = lib.MmsValue_getUtcTimeInMs(value)
        return milliseconds / 1000.0 if milliseconds > 0 else None

    def make(self, wanted: int, value: float) -> int:
        """A control value of the type that the device wants; to be deleted by the caller."""
        lib = self._lib
        if wanted == STRUCTURE:
            made = lib.MmsValue_createEmptyStructure(1)
            lib.MmsValue_setElement(made, 0, lib.MmsValue_newFloat(value))
            return made
        if wanted == BOOLEAN:
            return lib.MmsValue_newBoolean(value >= 0.5)
        if wanted == FLOAT:
            return lib.MmsValue_newFloat(value)
        return lib.MmsValue_newIntegerFromInt32(int(value))


@contextmanager
def names_in(library: ctypes.CDLL, linked_list: int | None) -> Iterator[list[str]]:
    """The strings of a list of the library's, which is freed afterwards."""
    found: list[str] = []
    item = library.LinkedList_getNext(linked_list) if linked_list else None
    while item:
        found.append(library.LinkedList_getData(item).decode())
        item = library.LinkedList_getNext(item)
    try:
        yield found
    finally:
        if linked_list:
            library.LinkedList_destroy(linked_list)
