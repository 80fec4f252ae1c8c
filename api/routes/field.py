"""Field devices: how their links work, and what was found and waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter

from api.auth import CallerDep, site_of
from api.field_models import FoundDevice, FoundDevices, LinkModel, Links
from api.periods import EndQuery, StartQuery, period
from flexergy_pipelines.store.field_devices import list_proposals
from flexergy_pipelines.store.link_statistics import link_summary

_COUNTS = ("requests", "retries", "reconnects", "bytes_sent", "bytes_received")
_NOT_KNOWN = ("connected", "seen", "success", "latency_s", "worst_latency_s", "signal_dbm", "last_error")
_UNHEARD: dict[str, Any] = {**dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_NOT_KNOWN)}

router = APIRouter(prefix="/sites/{site_id}", tags=["field"])


@router.get("/links", summary="How the links to field devices work")
def links(site_id: str, who: CallerDep, start: StartQuery = None, end: EndQuery = None) -> Links:
    """One entry a device of the site, also where nothing was heard of its link; by default of the last 24 h."""
    site = site_of(who, site_id)
    first, last = period(start, end, now=datetime.now(UTC), default=timedelta(hours=24))
    known = {row["device_id"]: row for row in link_summary(who.db, site.id, first, last).iter_rows(named=True)}
    entries: list[LinkModel] = []
    for device in site.devices():
        row: dict[str, Any] = known.get(device.id, _UNHEARD)
        about = {"protocol": device.connection.protocol, "network_type": device.connection.network_type}
        figures = {name: row[name] for name in LinkModel.model_fields if name in row and name not in about}
        entries.append(LinkModel.model_validate({**figures, **about, "device_id": device.id}))
    return Links(site=site.id, start=first, end=last, links=entries)


@router.get("/found-devices", summary="Devices that were found and wait")
def found_devices(site_id: str, who: CallerDep) -> FoundDevices:
    """They are registered, or turned down, on the page Devices or by `flexergy discover`."""
    site = site_of(who, site_id)
    return FoundDevices(
        site=site.id,
        devices=[
            FoundDevice(
                id=found.proposal_id,
                protocol=found.protocol,
                address=found.address,
                template=found.template,
                identity=found.identity,
                found_at=found.found_at,
                seen_at=found.seen_at,
            )
            for found in list_proposals(who.db, site.id)
        ],
    )
