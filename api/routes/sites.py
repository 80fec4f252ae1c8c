"""Sites and what they are made of."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import CallerDep, site_of
from api.models import AssetModel, PointModel, SiteDetail, SiteList, SiteSummary
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store.sites import list_sites

router = APIRouter(prefix="/sites", tags=["sites"])


def _summary(site: Site) -> SiteSummary:
    return SiteSummary(id=site.id, name=site.name, kind=site.kind, time_zone=site.time_zone, assets=len(site.assets()))


@router.get("", summary="All sites of your subsystem")
def sites(who: CallerDep) -> SiteList:
    """Sites in order of their id."""
    return SiteList(sites=[_summary(site_of(who, site_id)) for site_id in list_sites(who.db)])


@router.get("/{site_id}", summary="One site with its assets and points")
def site(site_id: str, who: CallerDep) -> SiteDetail:
    """What there is, in which unit, and within which range."""
    found = site_of(who, site_id)
    return SiteDetail(
        **_summary(found).model_dump(),
        import_limit_kw=found.grid_connection.import_limit_kw,
        export_limit_kw=found.grid_connection.export_limit_kw,
        asset_list=[AssetModel(id=asset.id, kind=asset.kind) for asset in found.assets()],
        points=[
            PointModel(
                asset_id=p.asset_id,
                quantity=p.quantity,
                unit=p.unit,
                writable=p.writable,
                minimum=p.minimum,
                maximum=p.maximum,
            )
            for p in found.points()
        ],
    )
