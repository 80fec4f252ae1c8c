"""A client for the tests, in a process of its own: browses, reads, operates in all four ways, takes reports.

Usage: iec61850_client.py PORT
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pyiec61850.pyiec61850 as iec

DEVICE = "FLXesc1"
PATIENCE_S = 30.0
REPORT = f"{DEVICE}/LLN0.RP.urcbValues01"


class Reports(iec.RCBHandler):
    """Takes reports, in a thread of the library."""

    def __init__(self) -> None:
        iec.RCBHandler.__init__(self)
        self.arrived = threading.Event()

    def trigger(self) -> None:
        """Called with every report."""
        self.arrived.set()


def analogue(value: float) -> Any:
    """A control value of an APC: a structure with one float."""
    structure = iec.MmsValue_createEmptyStructure(1)
    iec.MmsValue_setElement(structure, 0, iec.MmsValue_newFloat(value))
    return structure


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.05)
    return False


def main() -> None:
    connection = iec.IedConnection_create()
    iec.IedConnection_connect(connection, "127.0.0.1", int(sys.argv[1]))

    def read(name: str) -> float:
        return iec.IedConnection_readFloatValue(connection, f"{DEVICE}/{name}", iec.IEC61850_FC_MX)[0]

    def operate(name: str, value: Any, select: str = "") -> bool:
        control = iec.ControlObjectClient_create(f"{DEVICE}/{name}", connection)
        if select == "plain" and not iec.ControlObjectClient_select(control):
            return False
        if select == "with value" and not iec.ControlObjectClient_selectWithValue(control, value):
            return False
        done = iec.ControlObjectClient_operate(control, value, 0)
        iec.ControlObjectClient_destroy(control)
        return bool(done)

    report: dict[str, Any] = {"soc": read("GGIO1.AnIn2.mag.f")}
    for number, select in ((1, ""), (2, "plain"), (3, ""), (4, "with value")):
        wanted = 10.0 * number
        report[f"AnOut{number}"] = operate(f"GGIO1.AnOut{number}", analogue(wanted), select) and until(
            lambda wanted=wanted: abs(read("GGIO1.AnIn1.mag.f") - wanted) < 0.01
        )
    report["without_select"] = operate("GGIO1.AnOut2", analogue(99.0))
    for slot in range(4):
        operate(f"GGIO1.AnOut{11 + slot}", analogue(5.0 * slot))
    report["start"] = operate("GGIO1.ISCSO1", iec.MmsValue_newIntegerFromInt32(1_780_484_400))
    report["ttl"] = operate("GGIO90.AnOut1", analogue(33.0))
    reports, subscriber = Reports(), iec.RCBSubscriber()
    subscriber.setIedConnection(connection)
    subscriber.setEventHandler(reports)
    subscriber.setRcbReference(REPORT)
    subscriber.setRcbRptId("urcbValues01")
    subscriber.subscribe()
    block = iec.ClientReportControlBlock_create(REPORT)
    iec.ClientReportControlBlock_setRptEna(block, True)
    iec.pyWrap_IedConnection_setRCBValues(connection, block, iec.RCB_ELEMENT_RPT_ENA, True)
    report["reported"] = reports.arrived.wait(PATIENCE_S)
    print(json.dumps(report), flush=True)
    # The library's threads are not worth waiting for.
    sys.stdout.close()
    os_exit()


def os_exit() -> None:
    """End without the library's clean-up, which may wait for its own callbacks."""
    import os

    os._exit(0)


if __name__ == "__main__":
    main()
