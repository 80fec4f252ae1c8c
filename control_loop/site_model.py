"""From a site's configuration to what the control loop needs: its model, its drivers, its telemetry policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from control_loop.context import GridOperatorLimit
from control_loop.model import REACTIVE_SETPOINT, Actuator, CurtailmentRules, Procedure, SiteModel, Storage
from control_loop.reactive import ReactiveControl
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid import (
    ESS,
    Asset,
    ControllableLoad,
    EVBlock,
    Genset,
    PVPlant,
    Site,
    WindTurbine,
    load_template,
)
from flexergy_pipelines.grid.templates.alarm_words import AlarmBit, load_alarm_word

SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"


def model_of(site: Site) -> SiteModel:
    """The control loop's view of a site.

    Notes
    -----
    Safe values, for when the PCC meter or an asset is lost: storage and gensets stop; renewables are held to the share
    of their rating at which, all together, they cannot break the export limit whatever the load; controllable
    consumers together get half of the import limit.
    """
    assets = [asset for asset in site.assets() if asset.in_service]
    sources_kw = sum(a.rated_kw for a in assets if isinstance(a, PVPlant | WindTurbine))
    consumers_kw = sum(a.rated_kw for a in assets if isinstance(a, ControllableLoad | EVBlock))
    pcc = site.grid_connection
    source_share = min(1.0, pcc.export_limit_kw / sources_kw) if sources_kw else 1.0
    consumer_share = min(1.0, 0.5 * pcc.import_limit_kw / consumers_kw) if consumers_kw else 1.0
    words = _alarm_words(site)
    actuators: list[Actuator] = []
    for asset in assets:
        controller = site.controller_of(asset.id)
        if controller is not None:
            actuator = _actuator(asset, controller.id, source_share, consumer_share)
            if actuator is not None:
                actuators.append(replace(actuator, alarm_words=words.get(asset.id, ())))
    return SiteModel(
        site_id=site.id,
        actuators=tuple(actuators),
        import_limit_kw=pcc.import_limit_kw,
        export_limit_kw=pcc.export_limit_kw,
        ramp_kw_per_s=site.operation.max_ramp_kw_per_s,
        cycle_s=site.operation.control_cycle_s,
        pcc_id=pcc.id,
        setpoint_ttl_s=site.operation.setpoint_ttl_s,
        exchange_band_kw=site.operation.exchange_band_kw,
        procedures=tuple(
            Procedure(p.name, p.asset, tuple(p.powers_kw.items()), p.after_s, p.hold_s)
            for p in site.operation.contingency
        ),
        metered=tuple(load.id for load in site.loads if load.in_service),
        balance=_balance(assets, pcc.id) if site.loads else (),
        nominal_v=pcc.nominal_voltage_v / 3**0.5,
        nominal_hz=pcc.nominal_frequency_hz,
    )


def _balance(assets: Sequence[Asset], pcc_id: str) -> tuple[tuple[str, float], ...]:
    """Signs with which the powers of assets add up to the import."""
    producing = {"ess", "pv", "wind", "genset"}
    return tuple((a.id, -1.0 if a.kind in producing else 1.0) for a in assets if a.id != pcc_id)


def _alarm_words(site: Site) -> dict[str, tuple[tuple[str, tuple[AlarmBit, ...]], ...]]:
    """Alarm words of each asset, as the template of its device has them."""
    found: dict[str, tuple[tuple[str, tuple[AlarmBit, ...]], ...]] = {}
    for device in site.devices():
        named = load_template(device.connection.template).alarm_words
        words = tuple((quantity, load_alarm_word(word)) for quantity, word in named.items())
        found |= {asset.id: words for asset in device.assets}
    return found


def _actuator(asset: Asset, controller: str, source_share: float, consumer_share: float) -> Actuator | None:
    if isinstance(asset, ESS):
        return Actuator(
            asset.id,
            "ess",
            SETPOINT,
            controller,
            -asset.max_charge_kw,
            asset.max_discharge_kw,
            storage=Storage(
                asset.energy_capacity_kwh * asset.soh,
                asset.soc_min,
                asset.soc_max,
                asset.charge_efficiency,
                asset.discharge_efficiency,
                asset.min_temperature_c,
                asset.max_temperature_c,
            ),
        )
    if isinstance(asset, PVPlant | WindTurbine):
        if not asset.curtailable:
            return None
        rated_kw = asset.rated_kw
        return Actuator(
            asset.id, asset.kind, LIMIT, controller, 0.0, rated_kw, idle_kw=rated_kw, safe_kw=rated_kw * source_share
        )
    if isinstance(asset, Genset):
        return Actuator(
            asset.id,
            "genset",
            SETPOINT,
            controller,
            0.0,
            asset.max_kw,
            running_minimum_kw=asset.min_kw,
            min_up_s=60.0 * asset.min_up_minutes,
            min_down_s=60.0 * asset.min_down_minutes,
            ramp_kw_per_s=asset.ramp_kw_per_s,
        )
    if isinstance(asset, ControllableLoad | EVBlock):
        return Actuator(
            asset.id,
            asset.kind,
            LIMIT,
            controller,
            0.0,
            asset.rated_kw,
            idle_kw=asset.rated_kw,
            safe_kw=asset.rated_kw * consumer_share,
            least_kw=asset.min_limit_kw if isinstance(asset, EVBlock) else 0.0,
            priority=asset.priority if isinstance(asset, ControllableLoad) else EV_PRIORITY,
            curtailment=_curtailment(asset) if isinstance(asset, ControllableLoad) else None,
        )
    return None


def _curtailment(load: ControllableLoad) -> CurtailmentRules:
    return CurtailmentRules(
        load.curtail_steps, 60.0 * load.min_minutes_between_curtailments, 60.0 * load.max_curtailed_minutes
    )


def reactive_of(site: Site, epoch: int) -> ReactiveControl | None:
    """Reactive control of the site's storage and PV inverters whose device takes such a setpoint; None without any."""
    takers: dict[str, str] = {}
    for device in site.devices():
        objects = device.connection.objects
        named = not objects or any(o.quantity == REACTIVE_SETPOINT for o in objects)
        if device.assets and named and REACTIVE_SETPOINT in load_template(device.connection.template).quantities:
            takers |= {asset.id: device.id for asset in device.assets}
    inverters = [a for a in site.assets() if isinstance(a, ESS | PVPlant) and a.in_service and a.id in takers]
    if not inverters:
        return None
    actuators = tuple(
        Actuator(a.id, a.kind, REACTIVE_SETPOINT, takers[a.id], -a.rated_kva, a.rated_kva) for a in inverters
    )
    return ReactiveControl(
        replace(model_of(site), actuators=actuators),
        site.grid_code.reactive,
        nominal_v=site.grid_connection.nominal_voltage_v,
        rated_kw={a.id: a.rated_kw if isinstance(a, PVPlant) else a.max_discharge_kw for a in inverters},
        epoch=epoch,
    )


def grid_limits_of(site: Site) -> list[GridOperatorLimit]:
    """Standing limits of the grid operator, as the site's configuration has them."""
    return [
        GridOperatorLimit(
            limit.asset, limit.minimum_kw, limit.maximum_kw, limit.reason, unless_ordered=limit.unless_ordered
        )
        for limit in site.grid_code.limits
    ]


EV_PRIORITY = 5
"""EV charging as a whole ranks in the middle of 1 (curtailed last) .. 9 (first)."""


def telemetry_filter(site: Site) -> TelemetryFilter:
    """The site's policy of what readings are kept; a dead band of 0 means cyclically only."""

    def policy(asset_id: str, quantity: str) -> PointPolicy:
        rule = site.history.rule_for(asset_id, quantity)
        return PointPolicy(rule.cyclic_s or site.history.cyclic_s, rule.deadband or None)

    return TelemetryFilter(policy)
