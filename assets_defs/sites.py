"""Working through the sites of a run so that one that fails fails alone."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from assets_defs.resources import StoreResource

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""A failed step tries again after about 5 and 10 seconds, and then only the sites that are not done."""

RESUME_TAG = "dagster/is_resume_retry"


class SitesConfig(dg.Config):
    """Which sites a run works on."""

    sites: list[str] = Field(default=[], description="Ids of the sites; none means all.")


@dataclass(frozen=True)
class SiteReport:
    """What one site's work brought.

    Attributes
    ----------
    facts : mapping
        One line of the table in the asset's page.
    preview : str or None
        Markdown with a picture.
    summary : str
        A few words for the line of progress.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    preview: str | None = None
    summary: str = ""


def for_each_site(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    config: SitesConfig,
    work: Callable[["TenantStore", str], SiteReport],
) -> dg.MaterializeResult:
    """Do `work` for every site of the run, each alone.

    Parameters
    ----------
    context : AssetExecutionContext
        Of the asset.
    store : StoreResource
        Where sites are listed.
    config : SitesConfig
        Which sites.
    work : callable
        Takes the tenant's store and a site id.

    Returns
    -------
    MaterializeResult
        With a table of all sites' facts and their previews.

    Raises
    ------
    dagster.Failure
        After all other sites were done, naming those that failed and how to run them again.
    """
    from flexergy_pipelines.store.sites import list_sites

    db = store.db()
    known = list_sites(db)
    unknown = [site for site in config.sites if site not in known]
    if unknown:
        raise dg.Failure(f"unknown site {', '.join(unknown)}; known: {', '.join(known) or 'none'}", allow_retries=False)
    name = context.asset_key.path[-1]
    done = _done_before(context, name)
    reports: dict[str, SiteReport] = {}
    failures: dict[str, str] = {}
    for site in config.sites or known:
        if site in done:
            reports[site] = SiteReport({"result": "done in an earlier attempt"})
            continue
        began = time.monotonic()
        try:
            report = work(db, site)
        except Exception as error:  # one site's trouble, whatever it is, must not stop the others
            failures[site] = f"{type(error).__name__}: {error}"
            context.log.error(f"{site} failed: {error}", exc_info=True)
            continue
        seconds = time.monotonic() - began
        reports[site] = SiteReport({**report.facts, "seconds": round(seconds, 2)}, report.preview, report.summary)
        context.log.info(f"{site}: {dict(report.facts)}")
        done.add(site)
    if failures:
        context.instance.add_run_tags(
            context.run.run_id, {_tag(name): f"{context.run.run_id}:{','.join(sorted(done))}"}
        )
        raise dg.Failure(
            f"{len(failures)} of {len(failures) + len(reports)} sites failed: "
            + "; ".join(f"{site}: {why}" for site, why in failures.items())
            + f". The others are done; run again with config sites: [{', '.join(failures)}]",
            metadata={"failed_sites": list(failures), "finished_sites": sorted(done)},
        )
    return dg.MaterializeResult(metadata=site_metadata(reports))


def site_metadata(reports: Mapping[str, SiteReport]) -> dict[str, Any]:
    """Facts as one table, pictures as one entry a site."""
    summary = "; ".join(f"{site}: {report.summary}" for site, report in reports.items() if report.summary)
    metadata: dict[str, Any] = {
        "sites": len(reports),
        "summary": summary or f"{len(reports)} sites",
        "result": dg.MetadataValue.md(_table(reports)),
    }
    for site, report in reports.items():
        if report.preview:
            metadata[f"preview_{site.replace('-', '_')}"] = dg.MetadataValue.md(report.preview)
    return metadata


def _table(reports: Mapping[str, SiteReport]) -> str:
    columns = list(dict.fromkeys(key for report in reports.values() for key in report.facts))
    head = ["site", *columns]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for site, report in reports.items():
        cells = [_cell(report.facts.get(column)) for column in columns]
        lines.append(" | ".join([site, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "/").replace("\n", " ")


def _done_before(context: dg.AssetExecutionContext, name: str) -> set[str]:
    """Sites an earlier attempt of this run, or the run this one resumes, has finished."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is None:
        return set()
    owner, _, sites = run.tags.get(_tag(name), "").partition(":")
    resumed = run.tags.get(RESUME_TAG) == "true" and owner in {run.parent_run_id, run.root_run_id}
    return set(filter(None, sites.split(","))) if owner == run.run_id or resumed else set()


def _tag(name: str) -> str:
    return f"flexergy/done_{name}"
