"""Modbus frames in words, for trouble-shooting."""

from __future__ import annotations

FUNCTIONS = {
    1: "read coils", 2: "read discrete inputs", 3: "read holding", 4: "read input", 5: "write coil",
    6: "write register", 15: "write coils", 16: "write registers", 22: "mask write", 23: "read and write",
}  # fmt: skip
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target did not respond",
}  # fmt: skip


def exception_in_words(code: int) -> str:
    """An exception code, such as ``device busy (6)``."""
    return f"{EXCEPTIONS.get(code, 'exception')} ({code})"


def error_in_words(error: Exception, patience_s: float) -> str:
    """Why the library has no answer, after so long a wait [s]."""
    text = str(getattr(error, "string", error))
    if "No response" in text:
        return f"no answer within {patience_s:g} s"
    return text.rpartition("] ")[2]


def frame_in_words(sending: bool, data: bytes, *, serial: bool) -> str:
    """One frame: direction, unit, function, addresses, and its bytes.

    Parameters
    ----------
    sending : bool
        From us to the device.
    data : bytes
        The frame: MBAP header and PDU, or on a serial line address, PDU and check sum.
    """
    arrow, raw = ("->" if sending else "<-"), data.hex(" ")
    unit, pdu = (
        (data[0], data[1:-2]) if serial and len(data) > 4 else (data[6], data[7:]) if len(data) > 7 else (0, b"")
    )
    if not pdu:
        return f"{arrow} {len(data)} bytes [{raw}]"
    code = pdu[0]
    if code & 0x80:
        cause = EXCEPTIONS.get(pdu[1], f"code {pdu[1]}") if len(pdu) > 1 else "no code"
        words = f"{FUNCTIONS.get(code & 0x7F, f'function {code & 0x7F}')} refused: {cause}"
    else:
        words = FUNCTIONS.get(code, f"function {code}") + _detail(sending, code, pdu)
    return f"{arrow} unit {unit} {words} [{raw}]"


def _detail(sending: bool, code: int, pdu: bytes) -> str:
    if sending or code in {5, 6, 15, 16}:
        if len(pdu) < 5:
            return ""
        first, second = int.from_bytes(pdu[1:3]), int.from_bytes(pdu[3:5])
        return f" {first} = {second}" if code in {5, 6} else f" {first}..{first + second - 1}"
    if code in {3, 4} and len(pdu) > 2:
        words = [int.from_bytes(pdu[i : i + 2]) for i in range(2, len(pdu) - 1, 2)]
        return f": {' '.join(map(str, words))}"
    return ""
