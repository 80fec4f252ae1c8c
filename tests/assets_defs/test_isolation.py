"""One failing site fails alone: the others are done, the run says which failed, and only that one runs again."""

import dagster as dg
import pytest

from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore


class Work:
    """Work on a site that fails as often as it is told."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = failures
        self.calls: list[str] = []

    def __call__(self, _db: TenantStore, site_id: str) -> SiteReport:
        self.calls.append(site_id)
        if self.failures.get(site_id, 0) > 0:
            self.failures[site_id] -= 1
            raise RuntimeError(f"{site_id} is down")
        return SiteReport({"answer": 42.0}, summary="fine")


def run(
    instance: dg.DagsterInstance, work: Work, sites: list[str] | None = None, retry: dg.RetryPolicy | None = None
) -> dg.ExecuteInProcessResult:
    @dg.asset(retry_policy=retry)
    def worked(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
        return for_each_site(context, store, config, work)

    return dg.materialize(
        [worked],
        instance=instance,
        resources={"store": StoreResource()},
        run_config=dg.RunConfig(ops={"worked": SitesConfig(sites=sites or [])}),
        raise_on_error=False,
    )


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def test_every_site_is_worked_on_and_shown(instance: dg.DagsterInstance, installation: Settings) -> None:
    work = Work({})
    result = run(instance, work)
    assert result.success
    assert work.calls == ["hybrid-park", "microgrid"]
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["summary"].value == "hybrid-park: fine; microgrid: fine"
    assert "| microgrid | 42 |" in str(event.materialization.metadata["result"].value)


def test_the_others_are_done_and_the_failure_names_the_site(
    instance: dg.DagsterInstance, installation: Settings
) -> None:
    work = Work({"hybrid-park": 9})
    result = run(instance, work)
    assert not result.success
    assert work.calls == ["hybrid-park", "microgrid"]
    text = failure_of(result)
    assert "1 of 2 sites failed: hybrid-park: RuntimeError: hybrid-park is down" in text
    assert "run again with config sites: [hybrid-park]" in text


def test_only_the_named_site_runs_again(instance: dg.DagsterInstance, installation: Settings) -> None:
    work = Work({})
    assert run(instance, work, ["microgrid"]).success
    assert work.calls == ["microgrid"]


def test_a_retry_within_the_run_leaves_finished_sites_alone(
    instance: dg.DagsterInstance, installation: Settings
) -> None:
    work = Work({"microgrid": 1})
    assert run(instance, work, retry=dg.RetryPolicy(max_retries=1)).success
    assert work.calls == ["hybrid-park", "microgrid", "microgrid"]


def test_an_unknown_site_is_refused_at_once(instance: dg.DagsterInstance, installation: Settings) -> None:
    work = Work({})
    result = run(instance, work, ["atlantis"], retry=RETRY)
    assert failure_of(result) == "unknown site atlantis; known: hybrid-park, microgrid"
    assert work.calls == []
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no offset"):
        StoreResource(as_of="2026-03-01T00:00").now()
