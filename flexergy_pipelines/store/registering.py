"""From an approved proposal to a new version of the site."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flexergy_pipelines.grid import parse_site, site_to_dict
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.field_devices import DeviceProposal, decide_proposal, list_proposals
from flexergy_pipelines.store.sites import load_site, save_site

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

ADDRESS = re.compile(r"^(?P<host>.+):(?P<port>\d+) unit (?P<unit>\d+)$")
STORAGE = {"soc_min": 0.1, "soc_max": 0.9, "charge_efficiency": 0.95, "discharge_efficiency": 0.95}
"""What is assumed of a storage system until somebody knows better."""
CHARGE_POINT_KW = 22.0
GENSET = "generic_genset_controller"
METERS = frozenset({"generic_meter", "sunspec_meter"})
SOURCES = frozenset({"sunspec_inverter", "generic_res_controller", "generic_pv_controller"})
STORAGES = frozenset({"sunspec_storage", "generic_esc"})


def fields_of(pairs: Iterable[str]) -> dict[str, Any]:
    """Fields given as ``name=value``, the value as in YAML.

    Raises
    ------
    InvalidDataError
        One of them is no such pair, or a name comes twice.
    """
    import yaml

    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name or name in fields:
            raise InvalidDataError(f"field {pair.strip()}: give each name once, as name=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidDataError(f"field {name}: {text} is no value") from error
        fields[name] = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return fields


def find_proposal(db: TenantStore, proposal_id: int) -> DeviceProposal:
    """A proposal by its number.

    Raises
    ------
    NotFoundError
        There is none.
    """
    for proposal in list_proposals(db, status=None):
        if proposal.proposal_id == proposal_id:
            return proposal
    raise NotFoundError(f"device proposal {proposal_id} does not exist")


def approve(
    db: TenantStore, proposal_id: int, device_id: str, values: Mapping[str, Any], actor: str
) -> tuple[Site, int]:
    """Register a found device in its site, all or nothing.

    Parameters
    ----------
    device_id : str
        Id that the device gets; what hangs behind a controller gets it with ``-1``.
    values : mapping
        Fields of the asset, meter or charge point that the device itself does not tell, or tells wrong.
    actor : str
        Who approves.

    Returns
    -------
    site, version
        As they hold now.

    Raises
    ------
    InvalidDataError, SiteError
        The proposal was approved before, or the site would not hold together with it; nothing is stored then.
    """
    with db.begin():
        proposal = find_proposal(db, proposal_id)
        if proposal.status == "approved":
            raise InvalidDataError(f"device proposal {proposal_id} was approved before")
        raw = site_to_dict(load_site(db, proposal.site_id))
        site = parse_site(with_device(raw, proposal, device_id, dict(values)))
        version = save_site(db, site, actor=actor)
        decide_proposal(db, proposal_id, "approved", actor, device_id)
    return site, version


def with_device(
    raw: dict[str, Any], proposal: DeviceProposal, device_id: str, values: dict[str, Any]
) -> dict[str, Any]:
    """A site's configuration with the found device in it; not checked yet.

    Raises
    ------
    InvalidDataError
        The device fits nothing that a site can have.
    """
    if proposal.protocol == "ocpp16":
        return _with_charge_point(raw, proposal, device_id, values)
    connection = _connection(proposal)
    rated_kw = proposal.identity.get("rated_kw")
    rated = (lambda *names: dict.fromkeys(names, rated_kw)) if rated_kw is not None else (lambda *_: {})
    if proposal.protocol == "dlms" or proposal.template in METERS:
        meter = {"id": device_id, "role": "sub", "connection": connection}
        serial = proposal.identity.get("serial")
        raw["meters"] = [*raw["meters"], meter | ({"serial_number": serial} if serial else {}) | values]
        return raw
    if proposal.template in SOURCES:
        source = {"id": f"{device_id}-1", "kind": "pv", "name": _name(proposal, device_id), "tilt_deg": 30.0}
        source |= {"azimuth_deg": 180.0, "curtailable": True} | rated("peak_kw") | values
        controller = {"kind": "res_controller", "sources": [source]}
    elif proposal.template in STORAGES:
        ess = {"id": f"{device_id}-1", "name": _name(proposal, device_id)} | rated("max_charge_kw", "max_discharge_kw")
        controller = {"kind": "esc", "ess": [ess | STORAGE | values]}
    elif proposal.template == GENSET:
        genset = {"id": f"{device_id}-1", "name": _name(proposal, device_id)} | rated("max_kw") | values
        controller = {"kind": "genset_controller", "gensets": [genset]}
    else:
        ied = {"id": device_id, "name": _name(proposal, device_id), "role": "rtu", "connection": connection} | values
        raw["ieds"] = [*raw.get("ieds", []), ied]
        return raw
    controller |= {"id": device_id, "name": _name(proposal, device_id), "connection": connection}
    raw["controllers"] = [*raw["controllers"], controller]
    return raw


def _connection(proposal: DeviceProposal) -> dict[str, Any]:
    match = ADDRESS.match(proposal.address)
    if match is None:
        raise InvalidDataError(f"proposal {proposal.proposal_id}: address {proposal.address} is none of a device")
    connection: dict[str, Any] = {
        "protocol": proposal.protocol,
        "host": match["host"],
        "port": int(match["port"]),
        "unit_id": int(match["unit"]),
        "template": proposal.template or "generic_meter",
    }
    if proposal.protocol == "iec61850":
        connection |= {"objects": proposal.identity.get("points", [])}
        reports = proposal.identity.get("reports", [])
        connection |= {"report": reports[0]} if reports else {}
    return connection


def _with_charge_point(
    raw: dict[str, Any], proposal: DeviceProposal, device_id: str, values: dict[str, Any]
) -> dict[str, Any]:
    manager_id = proposal.identity.get("manager")
    manager = next((c for c in raw["controllers"] if c["id"] == manager_id), None)
    if manager is None:
        raise InvalidDataError(f"proposal {proposal.proposal_id}: charging manager {manager_id} is not there any more")
    point = {"id": device_id, "identity": proposal.address, "max_kw": CHARGE_POINT_KW} | values
    manager["charge_points"] = [*manager["charge_points"], point]
    return raw


def _name(proposal: DeviceProposal, device_id: str) -> str:
    told = [str(proposal.identity[key]) for key in ("manufacturer", "model") if proposal.identity.get(key)]
    return " ".join(told) or device_id
