"""The process that interrogates one IEC 60870-5-104 station: `... iec104_browser HOST PORT COMMON_ADDRESS SECONDS`.

Prints one JSON object: the information objects that the general interrogation brought, with type and value.
"""

# The library compares the annotations of callbacks with its own types, so they must not be strings here.

import json
import os
import socket
import sys
import threading
import time
from typing import Any

import c104

from control_loop.protocols.iec104_worker import as_number

QUIET_S = 1.0
"""When nothing new came for so long, the interrogation is over."""


def main() -> None:
    """Connect, interrogate, print, and go."""
    host, port, common_address, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    found: dict[int, dict[str, Any]] = {}
    news = threading.Event()
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=2000)

    def seen(point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage) -> c104.ResponseState:
        del previous_info, message
        found[point.io_address] = {"type": point.type.name, "value": as_number(point.value)}
        news.set()
        return c104.ResponseState.SUCCESS

    def new(client: c104.Client, station: c104.Station, io_address: int, point_type: c104.Type) -> None:
        del client
        point = station.add_point(io_address=io_address, type=point_type)
        if point is not None:
            point.on_receive(callable=seen)
            found.setdefault(io_address, {"type": point_type.name, "value": None})
            news.set()

    client.on_new_point(callable=new)
    connection = client.add_connection(ip=socket.gethostbyname(host), port=port, init=c104.Init.NONE)
    if connection is None or connection.add_station(common_address=common_address) is None:
        raise SystemExit(2)
    client.start()
    deadline = time.monotonic() + seconds
    asked = False
    while time.monotonic() < deadline:
        if connection.state == c104.ConnectionState.OPEN_MUTED:
            connection.unmute()
        if connection.state == c104.ConnectionState.OPEN and not asked:
            asked = bool(connection.interrogation(common_address))
        quiet = not news.wait(QUIET_S if asked else 0.1)
        news.clear()
        if asked and quiet and found:
            break
    result: dict[str, Any] = {"open": asked, "objects": {str(number): found[number] for number in sorted(found)}}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
