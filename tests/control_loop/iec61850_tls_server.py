"""An IEC 61850 server with the library's own TLS, in a process of its own; one measured value and nothing else.

Usage: iec61850_tls_server.py PORT FOLDER
"""

import os
import sys
from ctypes import c_bool, c_char_p, c_int, c_uint32, c_void_p
from pathlib import Path

from control_loop.protocols.iec61850_library import load_library

SIGNATURES = {
    "TLSConfiguration_create": (c_void_p, ()),
    "TLSConfiguration_setOwnKeyFromFile": (c_bool, (c_void_p, c_char_p, c_char_p)),
    "TLSConfiguration_setOwnCertificateFromFile": (c_bool, (c_void_p, c_char_p)),
    "TLSConfiguration_addCACertificateFromFile": (c_bool, (c_void_p, c_char_p)),
    "TLSConfiguration_setChainValidation": (None, (c_void_p, c_bool)),
    "TLSConfiguration_setAllowOnlyKnownCertificates": (None, (c_void_p, c_bool)),
    "IedServer_createWithTlsSupport": (c_void_p, (c_void_p, c_void_p)),
    "IedServer_setLocalIpAddress": (None, (c_void_p, c_char_p)),
    "IedServer_start": (None, (c_void_p, c_int)),
    "IedModel_create": (c_void_p, (c_char_p,)),
    "LogicalDevice_create": (c_void_p, (c_char_p, c_void_p)),
    "LogicalNode_create": (c_void_p, (c_char_p, c_void_p)),
    "CDC_ENS_create": (c_void_p, (c_char_p, c_void_p, c_uint32)),
    "CDC_MV_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_bool)),
}


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    lib = load_library()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    model = lib.IedModel_create(b"FLX")
    device = lib.LogicalDevice_create(b"esc1", model)
    lib.CDC_ENS_create(b"Mod", lib.LogicalNode_create(b"LLN0", device), 0)
    lib.CDC_MV_create(b"AnIn1", lib.LogicalNode_create(b"GGIO1", device), 0, False)
    tls = lib.TLSConfiguration_create()
    lib.TLSConfiguration_setOwnKeyFromFile(tls, str(folder / "simulator.key").encode(), None)
    lib.TLSConfiguration_setOwnCertificateFromFile(tls, str(folder / "simulator.pem").encode())
    lib.TLSConfiguration_addCACertificateFromFile(tls, str(folder / "ca.pem").encode())
    lib.TLSConfiguration_setChainValidation(tls, True)
    lib.TLSConfiguration_setAllowOnlyKnownCertificates(tls, False)
    server = lib.IedServer_createWithTlsSupport(model, tls)
    lib.IedServer_setLocalIpAddress(server, b"127.0.0.1")
    lib.IedServer_start(server, port)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
