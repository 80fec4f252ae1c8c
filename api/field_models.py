"""Answers on field devices: their links, and what was found."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class LinkModel(BaseModel):
    """How the link of one field device worked in a period; null is not known."""

    model_config = ConfigDict(frozen=True)
    device_id: str
    protocol: str
    network_type: str | None
    connected: Annotated[bool | None, Field(description="at `seen`")]
    seen: Annotated[datetime | None, Field(description="when the control loop last told of it")]
    requests: int
    success: Annotated[float | None, Field(description="share of the requests that were answered, 0..1")]
    retries: int
    reconnects: int
    bytes_sent: int
    bytes_received: int
    latency_s: Annotated[float | None, Field(description="mean time until an answer, s")]
    worst_latency_s: float | None
    signal_dbm: Annotated[float | None, Field(description="newest strength of the modem's signal, dBm")]
    last_error: str | None


class Links(BaseModel):
    """Links to a site's field devices."""

    model_config = ConfigDict(frozen=True)
    site: str
    start: datetime
    end: datetime
    links: list[LinkModel]


class FoundDevice(BaseModel):
    """A device that was found and waits until somebody registers it or turns it down."""

    model_config = ConfigDict(frozen=True)
    id: int
    protocol: str
    address: str
    template: Annotated[str | None, Field(description="template that fits what it offers")]
    identity: Annotated[dict[str, Any], Field(description="what it says of itself")]
    found_at: datetime
    seen_at: datetime


class FoundDevices(BaseModel):
    """Devices of a site that wait for a decision, newest first."""

    model_config = ConfigDict(frozen=True)
    site: str
    devices: list[FoundDevice]
