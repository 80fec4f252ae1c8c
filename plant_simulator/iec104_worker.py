"""Worker process: IEC 60870-5-104 servers for simulated devices (run by `plant_simulator.worker.Worker`).

The protocol's library calls back from threads of its own and may take the process down with it; nothing but these
servers lives here.
"""

import contextlib
import datetime
import json
import math
import socket
import sys
import threading
from typing import Any

import c104

REPORT_MS = 5_000
"""Cyclic report of every measured value."""
SPONTANEOUS_SHARE = 0.005
"""A change larger than this share of the value is sent at once."""
START_TRIES = 20
SHOWN = {"short": c104.Type.M_ME_NC_1, "single": c104.Type.M_SP_NA_1, "word": c104.Type.M_BO_NA_1}
WORD_MAX = 2.0**32 - 1.0

_output = threading.Lock()


def tell(**message: Any) -> None:
    """Send one message to the parent."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


class Station:
    """The server of one device."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.key = spec["key"]
        self.server, self.port = _start_server()
        station = self.server.add_station(common_address=spec["common_address"])
        if station is None:
            raise RuntimeError(f"{self.key}: common address {spec['common_address']} is not possible")
        self._points: dict[int, c104.Point] = {}
        self._stamped: dict[int, c104.Point] = {}
        self._last_sent: dict[int, float] = {}
        for monitored in spec["monitored"]:
            self._points[monitored["ioa"]] = _added(station, monitored["ioa"], SHOWN[monitored["kind"]], REPORT_MS)
            if monitored["stamped"] is not None:
                self._stamped[monitored["ioa"]] = _added(station, monitored["stamped"], c104.Type.M_ME_TF_1)
        for ioa in spec["setpoints"]:
            self._listen(_added(station, ioa, c104.Type.C_SE_NC_1))
        for ioa in spec["selectable"]:
            select = c104.CommandMode.SELECT_AND_EXECUTE
            self._listen(station.add_point(io_address=ioa, type=c104.Type.C_SE_NC_1, command_mode=select))
        for ioa in spec["bitstrings"]:
            self._listen(_added(station, ioa, c104.Type.C_BO_NA_1))
        self.server.on_clock_sync(callable=accept_clock)
        self.server.start()

    def show(self, values: dict[str, float | None], clock_error_s: float) -> None:
        """Set values, stamped by the device's own clock; what changed much is sent spontaneously."""
        stamp = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=clock_error_s)
        for ioa_text, value in values.items():
            ioa = int(ioa_text)
            point = self._points[ioa]
            quality = c104.Quality() if value is not None else c104.Quality.Invalid
            number = 0.0 if value is None else value
            if point.type == c104.Type.M_SP_NA_1:
                point.info = c104.SingleInfo(on=number >= 0.5, quality=quality)
            elif point.type == c104.Type.M_BO_NA_1:
                bits = round(min(max(number, 0.0), WORD_MAX))
                point.info = c104.BinaryInfo(blob=c104.Byte32(bits.to_bytes(4, "little")), quality=quality)
            else:
                point.info = c104.ShortInfo(actual=number, quality=quality)
            stamped = self._stamped.get(ioa)
            if stamped is not None:
                stamped.info = c104.ShortInfo(actual=number, quality=quality, recorded_at=stamp)
            before = self._last_sent.get(ioa, math.inf)
            band = 0.0 if point.type == c104.Type.M_BO_NA_1 else SPONTANEOUS_SHARE * max(1.0, abs(number))
            if not abs(number - before) <= band or value is None:
                self._last_sent[ioa] = number if value is not None else math.inf
                for changed in (point, stamped):
                    if changed is not None and self.server.has_open_connections:
                        changed.transmit(cause=c104.Cot.SPONTANEOUS)

    def _listen(self, point: c104.Point | None) -> None:
        if point is None:
            raise RuntimeError(f"{self.key}: an information object is there twice")
        key = self.key

        # The library insists on exactly these parameters.
        def receive(
            point: c104.Point,
            previous_info: c104.Information,  # noqa: ARG001
            message: c104.IncomingMessage,
        ) -> c104.ResponseState:
            value = _number(point.value)
            # The library executes what is to be cancelled.
            if message.cot != c104.Cot.ACTIVATION or not math.isfinite(value):
                return c104.ResponseState.FAILURE
            tell(key=key, ioa=point.io_address, value=value)
            return c104.ResponseState.SUCCESS

        point.on_receive(callable=receive)


def accept_clock(
    server: c104.Server,  # noqa: ARG001 - the library insists on these parameters
    ip: str,  # noqa: ARG001
    date_time: datetime.datetime,  # noqa: ARG001
) -> c104.ResponseState:
    """Confirm a clock synchronization; the simulated device keeps the machine's time."""
    return c104.ResponseState.SUCCESS


def _number(value: object) -> float:
    if isinstance(value, c104.Byte32):
        return float(int.from_bytes(bytes(value), "little"))
    return float(value) if isinstance(value, int | float) else math.nan


def _started(spec: dict[str, Any]) -> Station:
    """The device's station on a port that nobody took between the probe and the start."""
    for _ in range(START_TRIES):
        with contextlib.suppress(RuntimeError):
            return Station(spec)
    return Station(spec)


def _start_server() -> tuple[c104.Server, int]:
    """A server on a free port of the loopback interface, not started yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return c104.Server(ip="127.0.0.1", port=port, tick_rate_ms=100), port


def _added(station: c104.Station, ioa: int, kind: c104.Type, report_ms: int = 0) -> c104.Point:
    point = station.add_point(io_address=ioa, type=kind, report_ms=report_ms)
    if point is None:
        raise RuntimeError(f"information object {ioa} is there twice")
    return point


def main() -> None:
    """Serve what the first line specifies, until the input ends."""
    spec = json.loads(sys.stdin.readline())
    stations = {device["key"]: _started(device) for device in spec["devices"]}
    for station in stations.values():
        tell(key=station.key, port=station.port)
    for line in sys.stdin:
        message = json.loads(line)
        stations[message["key"]].show(message["values"], message["clock_error_s"])
    for station in stations.values():
        station.server.stop()


if __name__ == "__main__":
    main()
