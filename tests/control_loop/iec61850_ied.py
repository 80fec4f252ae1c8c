"""An IEC 61850 device whose objects have what classes leave open; in a process of its own.

Usage: iec61850_ied.py PORT

Its logical device `ACMEld` has measured values with an instantaneous one before the usual, one that is a scaled
integer, a phase of a three-phase value, controls with their originator before the status, set points that are written,
and two instances of one report control block.
"""

import os
import sys
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_float, c_int, c_int32, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

from control_loop.protocols.iec61850_library import load_library

BOOLEAN, INT32, FLOAT32, ENUMERATED, OCTETS, TIMESTAMP, QUALITY, CODED, STRUCTURE, INT8U = (
    0, 3, 10, 12, 13, 22, 23, 25, 27, 6,
)  # fmt: skip
ST, MX, SP, CF = 0, 1, 2, 4
DIRECT, SELECT_ENHANCED, WITH_ORIGIN, WITH_NUMBER = 1, 4, 64, 128
ON_CHANGE, INTEGRITY, INTERROGATION = 1, 8, 16
TEST = 0x0800
ALLOW = 0
SIGNATURES = {
    "IedModel_create": (c_void_p, (c_char_p,)),
    "LogicalDevice_create": (c_void_p, (c_char_p, c_void_p)),
    "LogicalNode_create": (c_void_p, (c_char_p, c_void_p)),
    "DataObject_create": (c_void_p, (c_char_p, c_void_p, c_int)),
    "DataAttribute_create": (c_void_p, (c_char_p, c_void_p, c_int, c_int, c_uint8, c_int, c_uint32)),
    "CDC_ENS_create": (c_void_p, (c_char_p, c_void_p, c_uint32)),
    "CDC_SPC_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_uint32)),
    "CDC_DPC_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_uint32)),
    "CDC_INC_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_uint32)),
    "DataSet_create": (c_void_p, (c_char_p, c_void_p)),
    "DataSetEntry_create": (c_void_p, (c_void_p, c_char_p, c_int, c_char_p)),
    "ReportControlBlock_create": (
        c_void_p,
        (c_char_p, c_void_p, c_char_p, c_bool, c_char_p, c_uint32, c_uint8, c_uint8, c_uint32, c_uint32),
    ),
    "IedServer_create": (c_void_p, (c_void_p,)),
    "IedServer_setLocalIpAddress": (None, (c_void_p, c_char_p)),
    "IedServer_start": (None, (c_void_p, c_int)),
    "IedServer_setWriteAccessPolicy": (None, (c_void_p, c_int, c_int)),
    "IedServer_updateFloatAttributeValue": (None, (c_void_p, c_void_p, c_float)),
    "IedServer_updateInt32AttributeValue": (None, (c_void_p, c_void_p, c_int32)),
    "IedServer_updateBooleanAttributeValue": (None, (c_void_p, c_void_p, c_bool)),
    "IedServer_updateDbposValue": (None, (c_void_p, c_void_p, c_int)),
    "IedServer_updateQuality": (None, (c_void_p, c_void_p, c_uint16)),
    "IedServer_updateUTCTimeAttributeValue": (None, (c_void_p, c_void_p, c_uint64)),
    "ModelNode_getChild": (c_void_p, (c_void_p, c_char_p)),
}
ControlHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_bool)


def main() -> None:
    lib = load_library()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.IedServer_setControlHandler.restype = None
    lib.IedServer_setControlHandler.argtypes = (c_void_p, c_void_p, ControlHandler, c_void_p)

    def attribute(name: bytes, parent: int, kind: int, constraint: int, *, changes: bool = False) -> int:
        return lib.DataAttribute_create(name, parent, kind, constraint, ON_CHANGE if changes else 0, 0, 0)

    def analogue(name: bytes, parent: int, part: bytes, kind: int, constraint: int) -> int:
        return attribute(part, attribute(name, parent, STRUCTURE, constraint), kind, constraint, changes=True)

    def stamped(parent: int, constraint: int) -> int:
        attribute(b"t", parent, TIMESTAMP, constraint)
        return attribute(b"q", parent, QUALITY, constraint)

    model = lib.IedModel_create(b"ACME")
    device = lib.LogicalDevice_create(b"ld", model)
    first = lib.LogicalNode_create(b"LLN0", device)
    lib.CDC_ENS_create(b"Mod", first, 0)
    node = lib.LogicalNode_create(b"MMXU1", device)
    power = lib.DataObject_create(b"TotW", node, 0)
    instant = analogue(b"instMag", power, b"f", FLOAT32, MX)
    usual = analogue(b"mag", power, b"f", FLOAT32, MX)
    attribute(b"range", power, ENUMERATED, MX)
    stamped(power, MX)
    frequency = lib.DataObject_create(b"Hz", node, 0)
    hertz = analogue(b"mag", frequency, b"i", INT32, MX)
    stamped(frequency, MX)
    scaling = attribute(b"sVC", frequency, STRUCTURE, CF)
    factor = attribute(b"scaleFactor", scaling, FLOAT32, CF)
    attribute(b"offset", scaling, FLOAT32, CF)
    phases = lib.DataObject_create(b"PhV", node, 0)
    phase = lib.DataObject_create(b"phsB", phases, 0)
    volts = attribute(b"f", attribute(b"mag", attribute(b"cVal", phase, STRUCTURE, MX), STRUCTURE, MX), FLOAT32, MX)
    stamped(phase, MX)
    tested = lib.DataObject_create(b"TotVAr", node, 0)
    analogue(b"mag", tested, b"f", FLOAT32, MX)
    tested_quality = stamped(tested, MX)

    breaker, switch = (lib.LogicalNode_create(name, device) for name in (b"Q0XCBR1", b"GGIO1"))
    position = lib.CDC_DPC_create(b"Pos", breaker, 0, SELECT_ENHANCED | WITH_ORIGIN | WITH_NUMBER)
    start = lib.CDC_SPC_create(b"SPCSO1", switch, 0, DIRECT | WITH_ORIGIN | WITH_NUMBER)
    step = lib.CDC_INC_create(b"ISCSO1", switch, 0, DIRECT | WITH_ORIGIN | WITH_NUMBER)
    setting = lib.DataObject_create(b"WSpt", lib.LogicalNode_create(b"DSCC1", device), 0)
    analogue(b"setMag", setting, b"f", FLOAT32, SP)

    data_set = lib.DataSet_create(b"Meas", first)
    for entry in (b"MMXU1$MX$TotW", b"MMXU1$MX$PhV", b"Q0XCBR1$ST$Pos$stVal", b"Q0XCBR1$ST$Pos$q", b"GGIO1$ST$SPCSO1"):
        lib.DataSetEntry_create(data_set, entry, -1, None)
    for name in (b"brcbA01", b"brcbA02"):
        lib.ReportControlBlock_create(
            name, first, None, True, b"Meas", 1, ON_CHANGE | INTEGRITY | INTERROGATION, 0, 50, 0
        )

    server = lib.IedServer_create(model)
    lib.IedServer_setLocalIpAddress(server, b"127.0.0.1")
    lib.IedServer_setWriteAccessPolicy(server, SP, ALLOW)
    for place, value in ((instant, 1.0), (usual, 42.5), (volts, 231.5), (factor, 0.001)):
        lib.IedServer_updateFloatAttributeValue(server, place, value)
    lib.IedServer_updateInt32AttributeValue(server, hertz, 49_987)
    lib.IedServer_updateQuality(server, tested_quality, TEST)
    lib.IedServer_updateDbposValue(server, lib.ModelNode_getChild(position, b"stVal"), 2)

    def obey(action: object, parameter: int, value: int, test: bool) -> int:
        del action, test
        state = lib.ModelNode_getChild(parameter, b"stVal")
        if parameter == position:
            lib.IedServer_updateDbposValue(server, state, 2 if lib.MmsValue_getBoolean(value) else 1)
        elif parameter == start:
            lib.IedServer_updateBooleanAttributeValue(server, state, lib.MmsValue_getBoolean(value))
        else:
            lib.IedServer_updateInt32AttributeValue(server, state, lib.MmsValue_toInt64(value))
        return 1

    handler = ControlHandler(obey)
    for control in (position, start, step):
        lib.IedServer_setControlHandler(server, control, handler, control)
    lib.IedServer_start(server, int(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
