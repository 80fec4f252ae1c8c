"""The running platform driven from outside, through each door that its users use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from pymodbus.client import AsyncModbusTcpClient

from flexergy_pipelines.grid import Controller, load_template
from flexergy_pipelines.grid.templates import decode
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.plans import read_plan_values
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.setpoints import latest_setpoints
from flexergy_pipelines.store.sites import load_site
from tests.system.conftest import Stack

pytestmark = pytest.mark.timeout(900)

SITES = {"microgrid", "hybrid-park"}
MEMORY_LIMIT_MB = 2500.0


def graphql(stack: Stack, query: str) -> dict[str, Any]:
    answer = httpx.post(f"{stack.url('dagster')}/graphql", json={"query": query}, timeout=60.0, trust_env=False)
    body = answer.raise_for_status().json()
    assert "errors" not in body, body
    return body["data"]


@pytest.mark.requirement("module.operation", "energy.04.2", "uc.3")
def test_the_chain_has_planned_and_dispatched_both_sites(stack: Stack) -> None:
    sites = {row["site"]: row for row in stack.report["sites"]}
    assert set(sites) == SITES
    for site in sites.values():
        assert site["plan"]["status"] == "optimal"
        assert site["plan"]["saved_eur"] >= -1e-6
        assert site["dispatch"], f"nothing dispatched at {site['site']}"
        assert site["forecasts"], f"no forecast scored at {site['site']}"


@pytest.mark.requirement("module.operation", "module.weather", "energy.03.1")
def test_dagster_says_that_the_assets_materialized(stack: Stack) -> None:
    nodes = graphql(stack, "{assetNodes{assetKey{path} groupName assetMaterializations(limit:1){timestamp}}}")[
        "assetNodes"
    ]
    materialized = {"/".join(node["assetKey"]["path"]) for node in nodes if node["assetMaterializations"]}
    groups = {node["groupName"] for node in nodes}
    assert {"weather", "ami", "market", "training", "forecasts", "planning", "accounting"} <= groups
    assert {"weather_forecast", "clean_readings", "day_ahead_prices", "forecasts"} <= materialized


def test_dagster_runs_its_schedules_and_sensors(stack: Stack) -> None:
    answer = graphql(
        stack,
        "{repositoriesOrError{__typename ... on RepositoryConnection{nodes{schedules{name scheduleState{status}}"
        " sensors{name sensorState{status}}}}}}",
    )
    (repository,) = answer["repositoriesOrError"]["nodes"]
    assert len(repository["schedules"]) >= 5
    assert len(repository["sensors"]) >= 2
    states = {row["name"]: row["scheduleState"]["status"] for row in repository["schedules"]}
    assert set(states.values()) == {"RUNNING"}, states


@pytest.mark.requirement("energy.02.1")
def test_mlflow_lists_champions(stack: Stack) -> None:
    address = f"{stack.url('mlflow')}/api/2.0/mlflow/registered-models"
    models = (
        httpx.get(f"{address}/search", timeout=60.0, trust_env=False).raise_for_status().json()["registered_models"]
    )
    champions = {model["name"] for model in models if any(a["alias"] == "champion" for a in model.get("aliases", []))}
    assert any("microgrid" in name for name in champions)
    assert any("hybrid-park" in name for name in champions)


@pytest.mark.requirement("com.01.1", "energy.12.1", "asset.01.2")
def test_the_devices_received_what_the_plan_says(stack: Stack, stack_db: TenantStore) -> None:
    """The ESC's registers hold the plan's power, or less where a limit that is named took some away."""
    for site_id in sorted(SITES):
        site = load_site(stack_db, site_id)
        for storage in site.ess():
            controller = site.controller_of(storage.id)
            assert controller is not None
            on_device, sent = settled_setpoint(stack, stack_db, site_id, storage.id, controller)
            assert -storage.max_charge_kw - 1 <= on_device <= storage.max_discharge_kw + 1
            assert on_device == pytest.approx(sent["sent"], abs=1.0)
            if sent["layer"] != "plan":
                assert sent["reason"]
                continue
            planned = read_plan_values(stack_db, sent["plan_id"]).filter(
                pl.col("asset_id") == storage.id,
                pl.col("quantity") == "active_power_setpoint_kw",
                pl.col("time") <= sent["time"],
            )
            tolerance = max(2.0, 0.02 * storage.max_discharge_kw)
            on_plan = abs(on_device - planned.sort("time")["value"][-1]) <= tolerance
            assert on_plan or sent["status"] == "clipped", sent


def settled_setpoint(
    stack: Stack, db: TenantStore, site_id: str, asset_id: str, controller: Controller
) -> tuple[float, dict[str, Any]]:
    """The register and the logged setpoint, read when the loop did not change it in between."""
    before: dict[str, Any] = {}
    for _ in range(10):
        on_device = asyncio.run(read_setpoint(stack, site_id, controller.id, controller.connection.template))
        rows = latest_setpoints(db, site_id).filter(
            pl.col("asset_id") == asset_id, pl.col("quantity") == "active_power_setpoint_kw"
        )
        row = rows.row(0, named=True)
        if before.get("sent") == row["sent"]:
            return on_device, row
        before = row
    raise AssertionError(f"the setpoint of {site_id}/{asset_id} never settled")


async def read_setpoint(stack: Stack, site_id: str, device: str, template_name: str) -> float:
    host, port = stack.endpoint(f"{site_id}/{device}")
    template = load_template(template_name)
    point = next(point for point in template.points if point.quantity == "active_power_setpoint_kw")
    client = AsyncModbusTcpClient(host, port=port, timeout=20)
    assert await client.connect()
    try:
        width = 2 if point.type.endswith("32") else 1
        answer = await client.read_holding_registers(point.address, count=width, device_id=1)
        assert not answer.isError()
        value = decode(point, answer.registers)
        assert value is not None
        return value
    finally:
        client.close()


@pytest.mark.requirement("asset.04.1")
def test_telemetry_reaches_the_store(stack: Stack, stack_db: TenantStore) -> None:
    now = datetime.now(UTC)
    rows = read_readings(stack_db, "microgrid", now.replace(hour=0, minute=0, second=0, microsecond=0), now)
    newest = rows.group_by("asset_id").agg(pl.col("time").max())
    assert {"pv-1", "wind-1", "load-1", "ess-1", "pcc"} <= set(newest["asset_id"])


def test_the_api_answers_another_system(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url("api"), timeout=30.0, trust_env=False) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/sites").status_code == 401
        login = client.post("/login", json={"name": "admin", "password": stack.report["admin_password"]})
        assert login.status_code == 200, login.text
        client.headers["Authorization"] = f"Bearer {login.json()['token']}"
        sites = client.get("/sites")
        assert sites.status_code == 200
        assert {row["id"] for row in sites.json()["sites"]} >= SITES
        plan = client.get("/sites/microgrid/plan")
        assert plan.status_code == 200
        assert client.get("/sites/elsewhere").status_code == 404


def test_the_whole_platform_fits_in_its_memory(stack: Stack) -> None:
    """Proportional set size of every process, so that shared pages count once."""
    total_mb = 0.0
    for process in [*stack.tree(), *postgres_processes(stack)]:
        try:
            total_mb += process.memory_full_info().pss / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    assert total_mb < MEMORY_LIMIT_MB


def postgres_processes(stack: Stack) -> list[psutil.Process]:
    pid_file = stack.settings.postgres_dir / "postmaster.pid"
    postmaster = psutil.Process(int(pid_file.read_text().splitlines()[0]))
    return [postmaster, *postmaster.children(recursive=True)]
