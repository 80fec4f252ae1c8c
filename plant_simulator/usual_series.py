"""Series for assets of which a site's file names none: usual shapes from the shipped data, scaled to the ratings."""

from __future__ import annotations

from flexergy_pipelines.grid import Asset, EvChargingManager, Site
from flexergy_pipelines.grid.ratings import rated_power_kw
from flexergy_pipelines.grid.replay_source import ReplayColumn, ReplaySeries, ReplaySource, ReplayWeather

SIMBENCH = "simbench_2016_15min.parquet"
SIMBENCH_YEAR = 2016
PRICES = ReplayColumn(file="price_nl_dayahead_60min.parquet", column="price_nl_eur_mwh")
SHAPES: dict[str, tuple[tuple[str, float], ...]] = {
    "load": (("G0-A_p", 0.45), ("H0-A_p", 0.45)),
    "controllable_load": (("G3-H_p", 0.9),),
    "pv": (("PV3", 1.0),),
    "wind": (("WP4", 1.0),),
    "ev": (("ev_APLS_A_22.0", 1.0),),
}
"""Columns of each kind of asset, and the share of its rating that a column's peak is. Storage, gensets and the
connection have none: they follow from control."""
WEEKS = 52


def with_usual_series(site: Site) -> tuple[Site, tuple[str, ...]]:
    """The site with a series for every asset that needs one.

    Parameters
    ----------
    site : Site
        A site, with or without a `replay` section, which may leave assets out.

    Returns
    -------
    site : Site
        The same, completed.
    added : tuple of str
        Assets for which a usual shape stands in.
    """
    named = set() if site.replay is None else {series.asset for series in site.replay.series}
    missing = [asset for asset in site.assets() if asset.kind in SHAPES and asset.id not in named]
    added = tuple(_usual(site, asset) for asset in missing)
    if site.replay is not None:
        replay = site.replay.model_copy(update={"series": (*site.replay.series, *added)})
    elif added:
        weather = ReplayWeather(
            solar=ReplayColumn(file=SIMBENCH, column="PV3"), wind=ReplayColumn(file=SIMBENCH, column="WP4")
        )
        replay = ReplaySource(source_year=SIMBENCH_YEAR, series=added, price=PRICES, weather=weather)
    else:
        raise ValueError(
            f"site {site.id} has nothing that produces or consumes by itself; there is nothing to simulate"
        )
    return site.model_copy(update={"replay": replay}), tuple(asset.id for asset in missing)


def _usual(site: Site, asset: Asset) -> ReplaySeries:
    rated_kw = rated_power_kw(asset)
    columns = []
    for name, share in SHAPES[asset.kind]:
        copies = 1
        if asset.kind == "ev":  # cars that come and go one by one
            manager = site.controller_of(asset.id)
            copies = min(WEEKS, len(manager.charge_points)) if isinstance(manager, EvChargingManager) else 1
        scale = share * rated_kw / copies
        shift_days = 7 * (WEEKS // copies) if copies > 1 else 7
        columns.append(ReplayColumn(file=SIMBENCH, column=name, scale=scale, copies=copies, copy_shift_days=shift_days))
    return ReplaySeries(asset=asset.id, columns=tuple(columns), maximum_kw=rated_kw)
