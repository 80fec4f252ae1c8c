"""Rated power of an asset, whatever its kind calls it."""

from __future__ import annotations

from flexergy_pipelines.grid.assets import ESS, Asset, Genset, GridConnection


def rated_power_kw(asset: Asset) -> float:
    """Rated active power [kW]: a storage's larger direction, a genset's most, a grid connection's larger limit."""
    if isinstance(asset, ESS):
        return max(asset.max_charge_kw, asset.max_discharge_kw)
    if isinstance(asset, Genset):
        return asset.max_kw
    if isinstance(asset, GridConnection):
        return max(asset.import_limit_kw, asset.export_limit_kw)
    return asset.rated_kw
