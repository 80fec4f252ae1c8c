"""What Dagster is shown: a snapshot, so that a change of schedules or lineage is a decision and not an accident."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_defs.definitions import build_defs, defs
from assets_defs.resources import StoreResource

SNAPSHOT = Path(__file__).with_name("definitions.json")


def described() -> dict[str, Any]:
    """Names, groups, lineage, checks and automation of all definitions."""
    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys(), key=str):
        node = graph.get(key)
        assets["/".join(key.path)] = {
            "group": node.group_name,
            "deps": sorted("/".join(parent.path) for parent in node.parent_keys),
            "daily": isinstance(node.partitions_def, dg.DailyPartitionsDefinition),
            "owners": sorted(node.owners),
            "kinds": sorted(node.kinds),
            "checks": sorted(check.name for check in node.check_keys),
            "pools": sorted(node.pools or []),
            "described": bool(node.description),
        }
    repository = defs.get_repository_def()
    return {
        "assets": assets,
        "jobs": sorted(job for job in repository.job_names if not job.startswith("__")),
        "schedules": {
            schedule.name: [str(schedule.cron_schedule), schedule.job_name, schedule.default_status.value]
            for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
        },
        "sensors": {
            sensor.name: [sensor.minimum_interval_seconds, sensor.default_status.value]
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
    }


def test_the_definitions_are_those_of_the_snapshot() -> None:
    found = described()
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text()), "run once with UPDATE_SNAPSHOTS=1 when the change is wanted"


def test_every_asset_tells_what_it_is_and_retries_with_growing_pauses() -> None:
    for asset in defs.resolve_all_asset_keys():
        definition = defs.resolve_assets_def(asset)
        node = defs.resolve_asset_graph().get(asset)
        assert node.description, asset
        assert node.owners, asset
        assert node.kinds, asset
        policy = definition.op.retry_policy
        if asset.path[-1] != "dispatch_status":
            assert policy is not None
            assert policy.backoff is dg.Backoff.EXPONENTIAL


def test_resources_can_be_replaced() -> None:
    other = StoreResource(tenant="other")
    assert build_defs({"store": other}).resources == {**(defs.resources or {}), "store": other}


def test_the_workspace_loads_without_a_warning_and_without_the_heavy_libraries(tmp_path: Path) -> None:
    heavy = ["great_expectations", "prophet", "mlflow", "lightgbm", "pyomo", "matplotlib", "pvlib", "sklearn"]
    program = (
        "import sys, dagster\n"
        "from assets_defs.definitions import defs\n"
        "dagster.Definitions.validate_loadable(defs)\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.strip() == "[]"


def test_workspace_yaml_names_the_module() -> None:
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    assert "module_name: assets_defs.definitions" in workspace.read_text()


@pytest.mark.parametrize("word", ["--help", "run", "instance"])
def test_the_command_tells_how_it_is_used(word: str) -> None:
    from typer.testing import CliRunner

    from assets_defs.cli import app

    result = CliRunner().invoke(app, [word, "--help"] if word != "--help" else [word])
    assert result.exit_code == 0
