"""One tenant never sees or changes another's rows: through every function, and by raw SQL of the application's role."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from sqlalchemy.exc import DBAPIError

from flexergy_pipelines.access import create_user, open_session
from flexergy_pipelines.operation.grid_orders import orders_between
from flexergy_pipelines.operation.modes import list_modes
from flexergy_pipelines.operation.outages import outages_between
from flexergy_pipelines.store import InvalidDataError, NotFoundError, Store, StoreError, TenantStore
from flexergy_pipelines.store.alarms import acknowledge_alarm, clear_alarm, list_alarms, raise_alarm
from flexergy_pipelines.store.ancillary import read_ancillary_prices, read_transactions, write_ancillary_prices
from flexergy_pipelines.store.ballots import BallotRow, StoreBallots
from flexergy_pipelines.store.bulk import (
    BulkJob,
    MeterRead,
    list_bulk_jobs,
    reading_statistics,
    save_bulk_job,
    write_meter_reads,
)
from flexergy_pipelines.store.charging_access import charge_point_keys, list_id_tags, new_charge_point_key, save_id_tag
from flexergy_pipelines.store.clean import read_clean, write_clean
from flexergy_pipelines.store.commands import (
    acknowledge_command,
    close_replan,
    open_commands,
    pending_replans,
    request_replan,
    write_command,
)
from flexergy_pipelines.store.energy import read_energy, write_energy
from flexergy_pipelines.store.ev_sessions import read_sessions, write_sessions
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.field_devices import list_proposals, propose_device
from flexergy_pipelines.store.forecasts import ForecastRun, list_forecast_runs, read_forecast, write_forecast
from flexergy_pipelines.store.frequency_curves import (
    FrequencyCurve,
    read_frequency_curves,
    write_frequency_curve,
)
from flexergy_pipelines.store.kpis_table import read_kpis, write_kpis
from flexergy_pipelines.store.leases import LeaseRow, StoreLease
from flexergy_pipelines.store.link_statistics import LinkRow, read_link_statistics, write_link_statistics
from flexergy_pipelines.store.live import read_live, write_live
from flexergy_pipelines.store.meter_files import find_meter_file, list_meter_files, record_meter_file
from flexergy_pipelines.store.open_days import open_days
from flexergy_pipelines.store.plans import (
    PlanRecord,
    list_plans,
    read_active_plan,
    read_plan,
    read_plan_values,
    write_plan,
)
from flexergy_pipelines.store.prices import read_prices, write_prices
from flexergy_pipelines.store.quality import read_findings, read_quality, replace_findings, write_quality
from flexergy_pipelines.store.readings import latest_reading_time, read_corrections, read_readings, write_readings
from flexergy_pipelines.store.setpoints import latest_setpoints, read_setpoints, write_setpoints
from flexergy_pipelines.store.sites import list_sites
from flexergy_pipelines.store.weather import read_weather, read_weather_as_issued, write_weather
from tests.support.store import plain_site

T0 = datetime(2026, 5, 4, 10, tzinfo=UTC)
END = T0 + timedelta(days=1)
SITE = "s1"
PV = ("pv-1", "active_power_kw")
SHA = "ab" * 32
_OWNERS = "SELECT DISTINCT tenant_id FROM "


def row(**values: Any) -> pl.DataFrame:
    return pl.DataFrame([{"asset_id": PV[0], "quantity": PV[1], "time": T0} | values])


def energy_row(value: float) -> pl.DataFrame:
    rest = {"forward_kwh": value, "reverse_kwh": 0.0, "basis": 0, "estimated": False}
    return pl.DataFrame([{"asset_id": PV[0], "time": T0} | rest])


def quality_row() -> dict[str, Any]:
    counts = {"expected": 96, "measured": 90, "wrong": 1, "estimated": 3, "empty": 2}
    return {"asset_id": PV[0], "quantity": PV[1], "day": T0.date()} | counts


def fill(db: TenantStore, value: float) -> dict[str, int]:
    """Write one of everything for the site that both tenants call by the same name."""
    plain_site(db, SITE, [PV])
    write_readings(db, SITE, row(value=value + 1, quality=0), "test")
    write_readings(db, SITE, row(value=value, quality=0), "test")
    write_clean(db, SITE, row(value=value))
    write_forecast(db, ForecastRun(SITE, *PV, issued_at=T0, model="m"), pl.DataFrame({"time": [T0], "value": [value]}))
    write_weather(db, SITE, "w", T0, pl.DataFrame({"time": [T0], "temperature_2m_c": [value]}))
    price = pl.DataFrame({"time": [T0], "price_eur_per_kwh": [value], "resolution_minutes": [60]})
    write_prices(db, SITE, "day_ahead", price, T0)
    plan = PlanRecord(SITE, "intraday", T0, T0, END, 15, "optimal", objective_eur=value)
    plan_id = write_plan(db, plan, row(value=value))
    write_setpoints(db, SITE, row(sent=value, status="ok"))
    write_live(db, SITE, row(value=value, quality=0))
    write_frequency_curve(db, SITE, FrequencyCurve(PV[0], T0, ((49.8, value), (50.2, -value)), 1.0))
    stay = {"asset_id": "ev-1", "charge_point": "cp-1", "session_id": "1", "arrival": T0, "departure": END}
    write_sessions(db, SITE, pl.DataFrame([stay | {"energy_kwh": abs(value)}]))
    write_energy(db, SITE, energy_row(value))
    write_quality(db, SITE, pl.DataFrame([quality_row()]))
    finding = {"check_name": "balance", "day": T0.date(), "subject": "all", "expected": value, "found": 0.0}
    findings = pl.DataFrame([finding | {"deviation": 1.0, "detail": "off"}])
    replace_findings(db, SITE, ["balance"], T0.date(), T0.date(), findings)
    save_bulk_job(db, BulkJob(SITE, f"every {value:g}"), actor="ann")
    write_meter_reads(db, SITE, "hourly", [MeterRead("m", None, T0, True, 1, value, 2, 2)])
    write_kpis(
        db,
        SITE,
        pl.DataFrame(
            [{"period_kind": "day", "period_start": T0, "scope": "site", "kpi": "k", "value": value}
             | {"unit": "kWh", "coverage": 1.0}]
        ),
    )  # fmt: skip
    offer = {"product": "fcr", "direction": "both", "time": T0, "resolution_minutes": 240}
    offer |= {"capacity_price_eur_per_kw_h": value, "activation_price_eur_per_kwh": None}
    write_ancillary_prices(db, SITE, pl.DataFrame([offer]), T0)
    with closing(StoreLease(db, "control")) as lease:
        lease.compare_and_set(None, LeaseRow(f"loop {value:g}", 1, 0))
    with closing(StoreBallots(db, "control")) as ballots:
        ballots.put(BallotRow(f"loop {value:g}", 1, 0, "digest", "[]"))
    _fill_operation(db, value)
    _fill_field(db, value)
    return {
        "plan": plan_id,
        "alarm": raise_alarm(db, SITE, "code", 2, f"is {value}"),
        "replan": request_replan(db, SITE, f"is {value}"),
        "command": write_command(db, SITE, *PV, value, f"is {value}", "user"),
        "file": record_meter_file(db, SITE, f"{value}.csv", SHA, "ingested"),
    }


def lease_of(db: TenantStore) -> LeaseRow | None:
    with closing(StoreLease(db, "control")) as lease:
        return lease.load()


def _fill_operation(db: TenantStore, value: float) -> None:
    """Rows of what an operator schedules, straight into their tables: the site of this test has no configuration."""
    with db.begin() as connection:
        for statement in (
            "mode_schedule (site_id, mode, parameters, starts_at, reason, created_by) "
            "VALUES (%s, 'idle', '{}', %s, '', '')",
            "planning_settings (site_id, settings, changed_at, changed_by) VALUES (%s, '{}', %s, '')",
            "asset_outages (site_id, starts_at, asset_id, ends_at, reason, created_by) "
            "VALUES (%s, %s, 'pv', '2100-01-01', '', '')",
            "grid_orders (site_id, starts_at, asset_id, maximum_kw, source, reason, created_by) "
            "VALUES (%s, %s, 'pv', 1, '', '', '')",
        ):
            connection.exec_driver_sql(f"INSERT INTO {statement}", (SITE, T0))
        connection.exec_driver_sql(
            "INSERT INTO market_transactions (site_id, market, transaction_id, product, direction, starts_at, ends_at, "
            "power_kw, price_eur_per_kw_h, received_at) VALUES (%s, 'm', '1', 'fcr', 'up', %s, %s, %s, 0, %s)",
            (SITE, T0, END, value, T0),
        )


def _fill_field(db: TenantStore, value: float) -> None:
    """A found device, a link's statistics, a driver's tag and a charge point's key."""
    propose_device(
        db, SITE, protocol="modbus_tcp", address="10.0.0.5:502 unit 1", identity={"serial": value}, template=None
    )
    counts = (1, 0, 0, 1, 10, 10)
    write_link_statistics(db, SITE, [LinkRow("esc-1", T0, True, *counts, value, value, "modbus_tcp", None, "")])
    save_id_tag(db, "TAG-1", actor="ann", holder=f"holder {value:g}")
    new_charge_point_key(db, SITE, "cp-1", actor="ann")


def everything(db: TenantStore, plan_id: int) -> dict[str, Any]:
    """What a tenant can read, by every reading function there is."""
    active = read_active_plan(db, SITE, T0)
    return {
        "sites": list_sites(db),
        "readings": read_readings(db, SITE, T0, END)["value"].to_list(),
        "means": read_readings(db, SITE, T0, T0 + timedelta(hours=1), step="1h")["value"].to_list(),
        "newest": latest_reading_time(db, SITE),
        "found": [proposal.identity for proposal in list_proposals(db)],
        "links": read_link_statistics(db, SITE, T0 - timedelta(hours=1), END)["latency_s"].to_list(),
        "tags": [tag.holder for tag in list_id_tags(db)],
        "keys": list(charge_point_keys(db, SITE).values()),
        "corrections": read_corrections(db, SITE, T0, END)["old_value"].to_list(),
        "clean": read_clean(db, SITE, T0, END)["value"].to_list(),
        "energy": read_energy(db, SITE, T0, END)["forward_kwh"].to_list(),
        "quality": read_quality(db, SITE, T0.date(), T0.date())["coverage"].to_list(),
        "findings": read_findings(db, SITE, T0.date(), T0.date())["expected"].to_list(),
        "bulk_jobs": [job.name for job in list_bulk_jobs(db, SITE)],
        "meter_reads": reading_statistics(db, SITE, T0, END)["mean_latency_s"].to_list(),
        "open_days": [(one.day, one.readings) for one in open_days(db)],
        "forecast": read_forecast(db, SITE, *PV, T0, END)["value"].to_list(),
        "runs": list_forecast_runs(db, SITE).height,
        "weather": read_weather(db, SITE, T0, END)["temperature_2m_c"].to_list(),
        "weather_as_issued": read_weather_as_issued(db, SITE, T0, END)["temperature_2m_c"].to_list(),
        "prices": read_prices(db, SITE, T0, END)["price_eur_per_kwh"].to_list(),
        "plans": [plan.record.objective_eur for plan in list_plans(db, SITE)],
        "plan": read_plan(db, plan_id).record.objective_eur,
        "plan_values": read_plan_values(db, plan_id)["value"].to_list(),
        "active_plan": active and active.values["value"].to_list(),
        "setpoints": read_setpoints(db, SITE, T0, END)["sent"].to_list(),
        "latest_setpoints": latest_setpoints(db, SITE)["sent"].to_list(),
        "live": read_live(db, SITE)["value"].to_list(),
        "curves": [curve.points[0][1] for curve in read_frequency_curves(db, SITE, T0, END)],
        "lease": lease_of(db),
        "sessions": read_sessions(db, SITE, T0, END)["energy_kwh"].to_list(),
        "kpis": read_kpis(db, SITE)["value"].to_list(),
        "ancillary": read_ancillary_prices(db, SITE, T0, END)["capacity_price_eur_per_kw_h"].to_list(),
        "sales": [sale.power_kw for sale in read_transactions(db, SITE, T0, END)],
        "modes": len(list_modes(db, SITE, T0, END)),
        "outages": len(outages_between(db, SITE, T0, END)),
        "grid_orders": len(orders_between(db, SITE, T0, END)),
        "alarms": list_alarms(db, SITE, active_only=False)["message"].to_list(),
        "replans": [request.reason for request in pending_replans(db)],
        "commands": [command.reason for command in open_commands(db, SITE)],
        "files": [file.name for file in list_meter_files(db, SITE)],
        "file": (file := find_meter_file(db, SITE, SHA)) and file.name,
        "events": list_events(db, datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)).height,
    }


@pytest.mark.requirement("users.02.1", "users.02.2", "asset.04.1")
def test_each_tenant_reads_its_own_rows_only_through_every_function(db: TenantStore, other_db: TenantStore) -> None:
    mine = fill(db, 1.0)
    before = everything(db, mine["plan"])
    theirs = fill(other_db, 2.0)
    assert everything(db, mine["plan"]) == before
    assert before["readings"] == before["clean"] == before["forecast"] == before["live"] == [1.0]
    assert before["corrections"] == [2.0]
    other = everything(other_db, theirs["plan"])
    assert other["readings"] == other["clean"] == other["plan_values"] == other["latest_setpoints"] == [2.0]
    assert other["alarms"] == other["replans"] == other["commands"] == ["is 2.0"]


@pytest.mark.requirement("users.02.1", "users.02.2")
def test_no_tenant_can_touch_anothers_rows_by_their_numbers(db: TenantStore, other_db: TenantStore) -> None:
    mine = fill(db, 1.0)
    before = everything(db, mine["plan"])
    plain_site(other_db, SITE, [])
    for forbidden in (
        lambda: acknowledge_alarm(other_db, mine["alarm"], "thief"),
        lambda: close_replan(other_db, mine["replan"]),
        lambda: acknowledge_command(other_db, mine["command"], "done"),
        lambda: read_plan(other_db, mine["plan"]),
        lambda: write_readings(other_db, SITE, row(value=9.0, quality=0), "thief"),
    ):
        with pytest.raises((NotFoundError, InvalidDataError)):
            forbidden()
    assert not clear_alarm(other_db, SITE, "code")
    assert read_plan_values(other_db, mine["plan"]).is_empty()
    assert read_active_plan(other_db, SITE, T0) is None
    assert everything(db, mine["plan"]) == before


def tenant_tables(store: Store) -> list[str]:
    with store.engine.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'tenants'"
        ).scalars()
        return sorted(rows)


@pytest.mark.requirement("users.02.2")
def test_raw_sql_of_the_application_reaches_one_tenant_only(
    store: Store, db: TenantStore, other_db: TenantStore
) -> None:
    for tenant, name in ((db, "ann"), (other_db, "bob")):
        fill(tenant, float(tenant.tenant_id))
        create_user(tenant, name, "a long password", "viewer")
        open_session(tenant, name)
    tables = tenant_tables(store)
    assert len(tables) > 25
    readable = [table for table in tables if not table.startswith(("readings_", "clean_readings_", "energy_15min_"))]
    with db.begin() as connection:
        for table in readable:
            owners = set(connection.exec_driver_sql(_OWNERS + table).scalars())
            assert owners <= {db.tenant_id}, table
            assert owners or table == "login_attempts", f"{table} was not filled"
    with store.engine.begin() as connection:
        for table in readable:
            assert not connection.exec_driver_sql(_OWNERS + table).all(), table
    for table in set(tables) - set(readable):
        with pytest.raises(DBAPIError, match="permission denied"), store.engine.begin() as connection:
            connection.exec_driver_sql(_OWNERS + table)


@pytest.mark.requirement("users.02.2")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO sites (tenant_id, site_id, name, kind) VALUES ({other}, 'x', 'x', 'x')",
        "UPDATE sites SET tenant_id = {other}",
        "INSERT INTO readings VALUES ({other}, 1, '2026-05-04Z', 1, 0, 1)",
    ],
)
def test_rows_cannot_be_written_into_another_tenant(db: TenantStore, other_db: TenantStore, statement: str) -> None:
    fill(db, 1.0)
    fill(other_db, 2.0)
    with pytest.raises(StoreError, match="row-level security"), db.begin() as connection:
        connection.exec_driver_sql(statement.format(other=other_db.tenant_id))


def test_every_table_with_a_tenant_is_protected_also_from_its_owner(store: Store) -> None:
    with store.engine.begin() as connection:
        bare = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND NOT (relrowsecurity AND relforcerowsecurity)",
            (tenant_tables(store),),
        ).all()
        assert bare == []
        assert connection.exec_driver_sql(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'flexergy%%' AND (rolsuper OR rolbypassrls)"
        ).scalar_one() == 0  # fmt: skip


def test_without_a_tenant_nothing_can_be_written(store: Store, db: TenantStore) -> None:
    plain_site(db, SITE, [PV])
    with pytest.raises(DBAPIError, match=r"row-level security|null value"), store.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sites (site_id, name, kind) VALUES ('x', 'x', 'x')")


def test_the_binding_does_not_outlive_its_transaction_in_the_pool(store: Store, db: TenantStore) -> None:
    plain_site(db, SITE, [PV])
    with pytest.raises(RuntimeError, match="stop"), db.begin():
        raise RuntimeError("stop")
    for _ in range(20):
        with store.engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM sites").scalar_one() == 0


@pytest.mark.requirement("users.02.3")
def test_tenants_are_added_as_needed(store: Store) -> None:
    for number in range(30):
        store.create_tenant(f"t{number}")
    assert store.create_tenant("t7").tenant_id == store.tenant("t7").tenant_id
    assert len(store.tenants()) == 32
    with pytest.raises(NotFoundError, match="tenant 'nobody' does not exist"):
        store.tenant("nobody")
    with pytest.raises(StoreError, match="1 to 100 characters"):
        store.create_tenant(" ")
