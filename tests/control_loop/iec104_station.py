"""A station of another kind than the simulator's, in a process of its own: double and single points, the library's TLS.

Usage: iec104_station.py PORT FOLDER
"""

import sys
import threading
from pathlib import Path

import c104


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    security = c104.TransportSecurity(validate=True, only_known=False)
    security.set_certificate(cert=str(folder / "simulator.pem"), key=str(folder / "simulator.key"))
    security.set_ca_certificate(cert=str(folder / "ca.pem"))
    server = c104.Server(ip="127.0.0.1", port=port, tick_rate_ms=50, transport_security=security)
    station = server.add_station(common_address=7)
    assert station is not None
    switch = station.add_point(io_address=10, type=c104.Type.M_DP_NA_1)
    lamp = station.add_point(io_address=11, type=c104.Type.M_SP_NA_1)
    power = station.add_point(io_address=12, type=c104.Type.M_ME_TF_1)
    select = c104.CommandMode.SELECT_AND_EXECUTE
    double = station.add_point(io_address=20, type=c104.Type.C_DC_NA_1, command_mode=select)
    single = station.add_point(io_address=21, type=c104.Type.C_SC_NA_1)
    assert switch is not None
    assert lamp is not None
    assert power is not None
    assert double is not None
    assert single is not None
    switch.value, lamp.value, power.value = c104.Double.OFF, False, 12_500.0
    shown = {20: switch, 21: lamp}

    def take(point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage) -> c104.ResponseState:
        target = shown[point.io_address]
        target.value = point.value
        target.transmit(cause=c104.Cot.SPONTANEOUS)
        return c104.ResponseState.SUCCESS

    double.on_receive(callable=take)
    single.on_receive(callable=take)
    server.start()
    print("ready", flush=True)
    threading.Thread(target=sys.stdin.read, daemon=True).start()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
