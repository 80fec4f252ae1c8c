"""What `flexergy up` prints once the platform runs: each site's summary, the addresses, and the first password."""

from __future__ import annotations

import json
from typing import Any

LABELS = {
    "dashboards": "Operators",
    "dagster": "Data engineers",
    "mlflow": "ML engineers",
    "api": "Other systems",
}


def as_json(
    summaries: list[dict[str, Any]],
    urls: dict[str, str],
    password: str | None,
    ready_s: float,
    timings_s: dict[str, float],
) -> str:
    """The report as JSON: ``sites``, ``addresses``, ``ready_s``, ``timings_s`` by step, at first ``admin_password``."""
    report: dict[str, Any] = {
        "sites": summaries,
        "addresses": urls,
        "ready_s": round(ready_s, 1),
        "timings_s": timings_s,
    }
    if password is not None:
        report["admin_password"] = password
    return json.dumps(report, indent=1)


def as_text(summaries: list[dict[str, Any]], urls: dict[str, str], password: str | None, ready_s: float) -> str:
    """The report for a person."""
    from flexergy_pipelines.operation.summary_text import summary_text

    lines = [summary_text(summary) for summary in summaries]
    if urls:
        lines.append("Open in a browser")
        for name, label in LABELS.items():
            lines.append(f"  {label:<15} {urls[name]}{'/docs' if name == 'api' else ''}")
    if password is not None:
        lines += [
            "",
            f"  Sign in as admin with password {password}",
            "  (shown this once; `flexergy user password admin` sets another)",
        ]
    if urls:
        lines += ["", f"Ready after {ready_s:.0f} s. Ctrl-C stops everything."]
    return "\n".join(lines)
