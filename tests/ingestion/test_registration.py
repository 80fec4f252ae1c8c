"""Many meters registered at once: a dry run first, every row's error, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.sites import load_site
from ingestion.meters.manage import app
from ingestion.meters.registration import RegistrationError, plan_registration

HEAD = "id,role,host,port,template,asset,integration_period_minutes\n"


def planned(tmp_path: Path, rows: str, head: str = HEAD) -> Any:
    path = tmp_path / "meters.csv"
    path.write_text(head + rows, encoding="utf-8")
    return plan_registration(sample_site("microgrid"), path)


@pytest.mark.requirement("infra.01.3")
def test_every_row_says_what_it_would_do(tmp_path: Path) -> None:
    rows = "sub-1,sub,10.0.0.5,502,generic_meter,pv-1,5\nsub-2,sub,10.0.0.6,502,generic_meter,,\n"
    found = planned(tmp_path, rows)
    assert [(row.row, row.meter, row.action) for row in found.rows] == [(2, "sub-1", "add"), (3, "sub-2", "add")]
    added = {meter.id: meter for meter in found.site.meters}["sub-1"]
    assert (added.asset, added.integration_period_minutes, added.connection.host) == ("pv-1", 5, "10.0.0.5")
    path = tmp_path / "meters.csv"
    again = plan_registration(found.site, path)
    assert [row.action for row in again.rows] == ["same", "same"]
    path.write_text(path.read_text().replace("10.0.0.6", "10.0.0.7"))
    assert [row.action for row in plan_registration(found.site, path).rows] == ["same", "change"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Sub 1,sub,h,502,generic_meter,,", "id: "),
        ("sub-1,boss,h,502,generic_meter,,", "role: .*got 'boss'"),
        ("sub-1,sub,h,99999,generic_meter,,", "connection.port: .*65535, got 99999"),
        ("sub-1,sub,h,modbus,generic_meter,,", "port: 'modbus' is not an integer"),
        ("sub-1,sub,h,502,no_such,,", "template no_such is unknown"),
        ("sub-1,sub,h,502,generic_meter,moon,", "asset moon is unknown"),
        ("sub-1,sub,h,502,generic_meter,,7", "integration_period_minutes: .*got 7"),
        ("ess-1,sub,h,502,generic_meter,,", "id ess-1 is given 2 times"),
        ("second,pcc,h,502,generic_meter,,", "have role pcc; a site needs exactly one"),
        (",sub,h,502,generic_meter,,", "id: "),
    ],
)
def test_a_wrong_row_says_why_and_the_others_are_still_judged(tmp_path: Path, row: str, reason: str) -> None:
    import re

    found = planned(tmp_path, f"{row}\nfine,sub,h,503,generic_meter,,\n")
    assert [item.action for item in found.rows] == ["error", "add"]
    assert re.search(reason, found.rows[0].reason or "")
    assert "\n" not in (found.rows[0].reason or "")


def test_a_meter_named_twice_in_the_file(tmp_path: Path) -> None:
    found = planned(tmp_path, "a,sub,h,502,generic_meter,,\na,sub,h,503,generic_meter,,\n")
    assert found.rows[1].reason == "a stands in row 2 already"


@pytest.mark.parametrize(
    ("head", "reason"),
    [("id,role\n", "header lacks port, template"), (HEAD.replace("asset", "colour"), "header has 'colour'")],
)
def test_a_wrong_header_is_refused(tmp_path: Path, head: str, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        planned(tmp_path, "", head)


@pytest.fixture
def command(store_settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `flexergy meters` in an installation that holds the microgrid."""
    assert store_settings.database_url is not None
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store_settings.database_url)
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.requirement("infra.01.3", "infra.01.4")
def test_a_dry_run_stores_nothing_an_error_neither_and_a_good_file_all(
    command: Any, db: TenantStore, tmp_path: Path
) -> None:
    path = tmp_path / "meters.csv"
    path.write_text(HEAD + "".join(f"sub-{i},sub,10.0.0.{i},502,generic_meter,,\n" for i in range(1, 6)))
    before = len(load_site(db, "microgrid").meters)
    assert "dry run: nothing stored" in command("register", path, "--site", "microgrid", "--dry-run").stdout
    assert len(load_site(db, "microgrid").meters) == before
    bad = tmp_path / "bad.csv"
    bad.write_text(path.read_text() + "x,boss,h,502,generic_meter,,\n")
    refused = command("register", bad, "--site", "microgrid")
    assert (refused.exit_code, "6 rows, 1 with errors; nothing stored" in refused.stdout) == (2, True)
    assert len(load_site(db, "microgrid").meters) == before
    answer = command("register", path, "--site", "microgrid", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["stored"]) == (0, True)
    assert len(load_site(db, "microgrid").meters) == before + 5


def test_wrong_words_exit_with_2(command: Any, tmp_path: Path) -> None:
    nowhere = command("register", tmp_path / "none.csv", "--site", "microgrid")
    assert (nowhere.exit_code, "No such file" in nowhere.stderr) == (2, True)
    assert command("register", tmp_path / "none.csv", "--site", "atlantis").exit_code == 2
    unknown = command("collect", "--site", "microgrid", "--meter", "nope")
    assert (unknown.exit_code, "nope: no meter of microgrid" in unknown.stderr) == (2, True)


@pytest.mark.requirement("infra.02.6")
def test_the_catalogue_is_listed(command: Any) -> None:
    listed = {row["code"]: row for row in json.loads(command("catalogue", "--json").stdout)}
    assert listed["AIi_L2"]["full_obis"] == "1-0:41.29.0.255"
    assert listed["V_L3"]["full_obis"] == "1-0:72.7.0.255"
    assert "S29       AIi " in command("catalogue").stdout
