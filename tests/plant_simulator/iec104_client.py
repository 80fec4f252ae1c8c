"""A client for the tests, in a process of its own: connects, interrogates, sends setpoints, prints what it sees.

Usage: iec104_client.py PORT DIRECT_IOA SELECT_IOA VALUE
"""

import datetime
import json
import sys
import threading
from collections.abc import Callable

import c104

PATIENCE_S = 40.0
_news = threading.Event()


def seen(point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage) -> c104.ResponseState:
    """Note that some value arrived."""
    _news.set()
    return c104.ResponseState.SUCCESS


def added(station: c104.Station, ioa: int, kind: c104.Type) -> c104.Point:
    """A new point of the station."""
    point = station.add_point(io_address=ioa, type=kind)
    assert point is not None
    return point


def until(condition: Callable[[], bool], act: Callable[[], object] | None = None) -> bool:
    """Wait for a condition, acting again and again (the library loses the first word now and then)."""
    deadline = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=PATIENCE_S)
    while datetime.datetime.now(datetime.UTC) < deadline:
        if condition():
            return True
        if act is not None:
            act()
        _news.wait(0.2)
        _news.clear()
    return condition()


def main() -> None:
    port, direct_ioa, select_ioa, value = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=3000)
    connection = client.add_connection(ip="127.0.0.1", port=port, init=c104.Init.INTERROGATION)
    assert connection is not None
    station = connection.add_station(common_address=1)
    assert station is not None
    watched = {}
    for ioa in (1, 3, 30001):
        watched[ioa] = added(station, ioa, c104.Type.M_ME_NC_1)
        watched[ioa].on_receive(callable=seen)
    client.start()
    report = {"open": until(lambda: connection.state == c104.ConnectionState.OPEN, connection.unmute)}
    report["interrogated"] = until(lambda: watched[3].value > 0, lambda: connection.interrogation(1))
    report["soc"] = watched[3].value
    report["clock"] = connection.clock_sync(1)
    direct = added(station, direct_ioa, c104.Type.C_SE_NC_1)
    direct.value = value
    report["direct"] = until(
        lambda: abs(watched[30001].value - value) < 0.01, lambda: direct.transmit(cause=c104.Cot.ACTIVATION)
    )
    report["power_followed"] = until(lambda: abs(watched[1].value - value) < 0.01)
    select = added(station, select_ioa, c104.Type.C_SE_NC_1)
    select.command_mode = c104.CommandMode.SELECT_AND_EXECUTE
    select.value = -value
    report["selected"] = until(
        lambda: abs(watched[30001].value + value) < 0.01, lambda: select.transmit(cause=c104.Cot.ACTIVATION)
    )
    print(json.dumps(report), flush=True)
    client.stop()


if __name__ == "__main__":
    main()
