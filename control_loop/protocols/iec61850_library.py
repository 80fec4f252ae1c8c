"""libiec61850 by ctypes: calls free the interpreter while they last, unlike those of the library's own binding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
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
FC_ST, FC_MX, FC_SP, FC_CF, FC_CO, FC_RP, FC_BR = 0, 1, 2, 4, 12, 15, 16
CONSTRAINT_NAMES = {FC_ST: "ST", FC_MX: "MX", FC_SP: "SP"}
LINK_ERRORS = frozenset({1, 3, 5, 20})
"""Not connected, connection lost, rejected, no answer in time; every other error is an answer."""
STRUCTURE, BOOLEAN, BIT_STRING, INTEGER, UNSIGNED, FLOAT, UTC_TIME = 1, 2, 3, 4, 5, 6, 14
TEXTS = frozenset({8, 13})
ACCESS_ERROR = 15
DATA_OBJECTS, DATA_SETS, BUFFERED_REPORTS, UNBUFFERED_REPORTS = 0, 1, 2, 3
STATUS_ONLY, DIRECT, SELECT, DIRECT_ENHANCED, SELECT_ENHANCED = 0, 1, 2, 3, 4
ERRORS = {
    21: "access denied", 22: "object does not exist", 24: "access not supported", 25: "type inconsistent",
    26: "temporarily unavailable", 27: "object undefined", 29: "hardware fault", 30: "type not supported",
    32: "value invalid", 33: "object invalidated", 98: "service not implemented",
}  # fmt: skip
"""Of the library, for what a device answers."""
RPT_ENA, RESERVED, OPT_FLDS, TRG_OPS, INTG_PD, GI, PURGE = 2, 4, 32, 256, 512, 1024, 2048
ON_CHANGE, ON_QUALITY, INTEGRITY, INTERROGATION = 1, 2, 8, 16
WITH_SEQUENCE, WITH_TIME, WITH_REASON, WITH_DATA_SET = 1, 2, 4, 8
AUTOMATIC_REMOTE = 6
QUALITY_BITS, DOUBLE_POINT_BITS = 13, 2
DOUBLE_POINTS = {2: 0.0, 1: 1.0}
"""Off and on of a double point; the library counts its first bit, which stands for 2, as the lowest."""
DOUBLE_EXPONENT_BITS, INT32_BITS = 11, 32
QUALITY_VALIDITY, QUALITY_TEST, QUALITY_BLOCKED = 0x0003, 0x0800, 0x1000
"""Not valid; made for a test; held back by an operator: none of these tells of the process now (IEC 61850-7-3)."""
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
        "IedConnection_getVariableSpecification": (c_void_p, (c_void_p, error, c_char_p, c_int)),
        "IedConnection_writeObject": (None, (c_void_p, error, c_char_p, c_int, c_void_p)),
        "IedConnection_triggerGIReport": (None, (c_void_p, error, c_char_p)),
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
        "ClientReportControlBlock_create": (c_void_p, (c_char_p,)),
        "ClientReportControlBlock_destroy": (None, (c_void_p,)),
        "ClientReportControlBlock_getRptId": (c_char_p, (c_void_p,)),
        "ClientReportControlBlock_getDataSetReference": (c_char_p, (c_void_p,)),
        "ClientReportControlBlock_getRptEna": (c_bool, (c_void_p,)),
        "ClientReportControlBlock_getResv": (c_bool, (c_void_p,)),
        "ClientReportControlBlock_getTrgOps": (c_int, (c_void_p,)),
        "ClientReportControlBlock_getIntgPd": (c_uint32, (c_void_p,)),
        "ClientReportControlBlock_setResv": (None, (c_void_p, c_bool)),
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
        "MmsVariableSpecification_destroy": (None, (c_void_p,)),
        "MmsVariableSpecification_getType": (c_int, (c_void_p,)),
        "MmsVariableSpecification_getSize": (c_int, (c_void_p,)),
        "MmsVariableSpecification_getExponentWidth": (c_int, (c_void_p,)),
        "MmsVariableSpecification_getChildSpecificationByName": (c_void_p, (c_void_p, c_char_p, POINTER(c_int))),
        "MmsVariableSpecification_getChildSpecificationByIndex": (c_void_p, (c_void_p, c_int)),
        "MmsValue_newDefaultValue": (c_void_p, (c_void_p,)),
        "MmsValue_newBitString": (c_void_p, (c_int,)),
        "MmsValue_setBitStringFromInteger": (None, (c_void_p, c_uint32)),
        "MmsValue_newFloat": (c_void_p, (c_float,)),
        "MmsValue_newDouble": (c_void_p, (c_double,)),
        "MmsValue_newBoolean": (c_void_p, (c_bool,)),
        "MmsValue_newIntegerFromInt32": (c_void_p, (c_int32,)),
        "MmsValue_newIntegerFromInt64": (c_void_p, (c_int64,)),
        "MmsValue_newUnsignedFromUint32": (c_void_p, (c_uint32,)),
        "MmsValue_toDouble": (c_double, (c_void_p,)),
        "MmsValue_toInt64": (c_int64, (c_void_p,)),
        "MmsValue_toString": (c_char_p, (c_void_p,)),
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

    def at(self, value: int | None, place: Iterable[int]) -> int | None:
        """The part of a value at a place in its structures; None where there is none."""
        for index in place:
            if not value or self._lib.MmsValue_getType(value) != STRUCTURE:
                return None
            if index >= self._lib.MmsValue_getArraySize(value):
                return None
            value = self._lib.MmsValue_getElement(value, index)
        return value or None

    def number(self, value: int | None) -> float | None:
        """The number in a basic value; two bits are a double point, of which off and on are numbers."""
        lib = self._lib
        if not value:
            return None
        match lib.MmsValue_getType(value):
            case types if types == FLOAT:
                return float(lib.MmsValue_toDouble(value))
            case types if types in {INTEGER, UNSIGNED}:
                return float(lib.MmsValue_toInt64(value))
            case types if types == BOOLEAN:
                return float(lib.MmsValue_getBoolean(value))
            case types if types == BIT_STRING and lib.MmsValue_getBitStringSize(value) == DOUBLE_POINT_BITS:
                return DOUBLE_POINTS.get(lib.MmsValue_getBitStringAsInteger(value))
        return None

    def quality(self, value: int | None) -> bool | None:
        """Whether a quality says that its value tells of the process now; None for what is no quality."""
        lib = self._lib
        if not value or lib.MmsValue_getType(value) != BIT_STRING:
            return None
        if lib.MmsValue_getBitStringSize(value) != QUALITY_BITS:
            return None
        bad = QUALITY_VALIDITY | QUALITY_TEST | QUALITY_BLOCKED
        return lib.MmsValue_getBitStringAsInteger(value) & bad == 0

    def stamp(self, value: int | None) -> float | None:
        """The time in a value [s since 1970]; None without one, or where the device's clock was not right."""
        lib = self._lib
        if not value or lib.MmsValue_getType(value) != UTC_TIME:
            return None
        if lib.MmsValue_getUtcTimeQuality(value) & (CLOCK_FAILURE | CLOCK_NOT_SYNCHRONIZED):
            return None
        milliseconds = lib.MmsValue_getUtcTimeInMs(value)
        return milliseconds / 1000.0 if milliseconds > 0 else None

    def make(self, spec: int, value: float) -> int:
        """A value of the type that the device wants; to be deleted by the caller.

        Raises
        ------
        ValueError
            The device's type cannot hold it.
        """
        lib = self._lib
        wanted, size = lib.MmsVariableSpecification_getType(spec), lib.MmsVariableSpecification_getSize(spec)
        if wanted == BOOLEAN:
            return lib.MmsValue_newBoolean(value >= 0.5)
        if wanted == FLOAT:
            double = lib.MmsVariableSpecification_getExponentWidth(spec) == DOUBLE_EXPONENT_BITS
            return lib.MmsValue_newDouble(value) if double else lib.MmsValue_newFloat(value)
        if wanted not in {INTEGER, UNSIGNED, BIT_STRING}:
            raise ValueError(f"the device wants a value of MMS type {wanted}, which no number is")
        whole = round(value)
        low = -(1 << (size - 1)) if wanted == INTEGER else 0
        high = (1 << (size - 1)) - 1 if wanted == INTEGER else (1 << abs(size)) - 1
        if not low <= whole <= high:
            raise ValueError(f"{whole} is outside {low}..{high} of the device's type")
        if wanted == BIT_STRING:
            made = lib.MmsValue_newBitString(size)
            lib.MmsValue_setBitStringFromInteger(made, whole)
            return made
        if wanted == UNSIGNED:
            return lib.MmsValue_newUnsignedFromUint32(whole)
        return lib.MmsValue_newIntegerFromInt64(whole) if size > INT32_BITS else lib.MmsValue_newIntegerFromInt32(whole)


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
