"""A small study case, and the command that studies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from flexergy_pipelines.optimization.cli import app

RUNNER = CliRunner()


def base() -> dict[str, Any]:
    return {
        "case": 1,
        "horizon": {"start": "2026-03-02T00:00+01:00", "step_minutes": 60, "steps": 4},
        "grid": {"import_price_eur_per_kwh": [0.1, 0.2, 0.3, 0.4], "export_price_eur_per_kwh": 0.05},
        "loads": [{"id": "load", "power_kw": 5.0}],
        "batteries": [
            {
                "id": "ess-1",
                "energy_capacity_kwh": 10.0,
                "max_charge_kw": 5.0,
                "max_discharge_kw": 5.0,
                "soc_start": 0.0,
            }
        ],
    }


def study(folder: Path, case: Any, *options: str) -> Any:
    path = folder / "case.yaml"
    path.write_text(case if isinstance(case, str) else yaml.safe_dump(case))
    return RUNNER.invoke(app, [str(path), *options])
