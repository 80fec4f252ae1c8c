"""The process that interrogates IEC 60870-5-104 stations: `... iec104_browser HOST PORT COMMON_ADDRESS SECONDS`.

Common address 65535 asks all stations behind the address. Prints one JSON object: whether the line opened, and for each
common address the information objects that the interrogations brought, with types and value, or why there are none.
"""

# The library compares the annotations of callbacks with its own types, so they must not be strings here.

import datetime
import json
import os
import socket
import sys
import threading
import time
from typing import Any

import c104

from control_loop.protocols import iec104_asdu as asdu

QUIET_S = 1.0
"""When nothing new came for so long, the interrogation is over."""
EVERYBODY = 65_535
NAMES = {kind.value: name for name, kind in c104.Type.__members__.items()}


class Interrogation:
    """What was heard so far."""

    def __init__(self) -> None:
        self.news = threading.Event()
        self.stations: dict[int, dict[str, Any]] = {}

    def hear(self, connection: c104.Connection, data: bytes) -> None:
        """Take a frame."""
        del connection
        told = asdu.told(data, datetime.datetime.now(datetime.UTC))
        if told is None:
            return
        station = self.stations.setdefault(told.station, {"objects": {}, "refusal": ""})
        if told.kind == asdu.GENERAL_INTERROGATION and told.refusal:
            station["refusal"] = told.refusal
        for seen in told.seen:
            known = station["objects"].setdefault(str(seen.address), {"types": [], "value": None})
            kind = NAMES[told.kind]
            if kind not in known["types"]:
                known["types"].append(kind)
            known["value"] = seen.value if seen.good else None
        self.news.set()


def main() -> None:
    """Connect, interrogate, print, and go."""
    host, port, common_address, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    heard = Interrogation()

    # The library wants a function with exactly these parameters.
    def received(connection: c104.Connection, data: bytes) -> None:
        heard.hear(connection, data)

    client = c104.Client(tick_rate_ms=50, command_timeout_ms=2000)
    connection = client.add_connection(ip=socket.gethostbyname(host), port=port, init=c104.Init.NONE)
    if connection is None:
        raise SystemExit(2)
    if common_address != EVERYBODY:
        connection.add_station(common_address=common_address)
    connection.on_receive_raw(callable=received)
    client.start()
    connection.connect()
    deadline = time.monotonic() + seconds
    asked = False
    while time.monotonic() < deadline:
        if connection.state == c104.ConnectionState.OPEN_MUTED:
            connection.unmute()
        if connection.state == c104.ConnectionState.OPEN and not asked:
            asked = True
            connection.interrogation(common_address, wait_for_response=False)
            connection.counter_interrogation(common_address, wait_for_response=False)
        quiet = not heard.news.wait(QUIET_S if asked else 0.1)
        heard.news.clear()
        if asked and quiet and heard.stations:
            break
    sys.stdout.write(json.dumps({"open": asked, "stations": heard.stations}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
