"""Faults of an outside HTTP service, laid around honest answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse, Response

from plant_simulator.faults import FaultBoard


async def answer_with_faults(board: FaultBoard, service: str, payload: Any) -> Response:
    """Send `payload` as JSON, delayed, refused, cut off or by other names when `service` has such a fault in force.

    Parameters
    ----------
    board : FaultBoard
        Faults in force.
    service : str
        ``weather`` or ``market``.
    payload : Any
        What an honest service would answer.
    """
    slow = board.find(service, "slow")
    if slow is not None:
        await asyncio.sleep(slow.delay_s)
    if board.has(service, "http_429"):
        reason = "Minutely API request limit exceeded. Please try again in one minute."
        return JSONResponse({"error": True, "reason": reason}, status_code=429, headers={"Retry-After": "60"})
    if board.has(service, "http_500"):
        return Response("Internal Server Error", status_code=500, media_type="text/plain")
    if board.has(service, "truncated"):
        body = json.dumps(payload)
        return Response(body[: len(body) // 2], media_type="application/json")
    return JSONResponse(_renamed(payload) if board.has(service, "changed_schema") else payload)


def _renamed(payload: Any) -> Any:
    """The same by other names and shapes, as after an upgrade that nobody announced: lists become numbered objects."""
    match payload:
        case dict():
            return {_camel(name): _renamed(value) for name, value in payload.items()}
        case list():
            return {str(number): _renamed(value) for number, value in enumerate(payload)}
        case _:
            return payload


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first.upper() if not more else first + "".join(word.capitalize() for word in more)
