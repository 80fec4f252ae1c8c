"""Sites: their configuration as numbered versions, and the points whose values are stored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.frames import frame_of, utc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore


def save_site(db: TenantStore, site: Site, *, actor: str = "system") -> int:
    """Store a site's configuration and register its points.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site : Site
        A validated site.
    actor : str
        Who changed it; kept with the version and in the event log.

    Returns
    -------
    int
        The version that holds now; a new one only when the configuration differs from the last.
    """
    config = site.model_dump(mode="json")
    points = [(point.asset_id, point.quantity, point.unit or "") for point in site.points()]
    return register_site(db, site.id, name=site.name, kind=str(site.kind), config=config, points=points, actor=actor)


def register_site(
    db: TenantStore,
    site_id: str,
    *,
    name: str,
    kind: str,
    config: dict[str, Any],
    points: Iterable[tuple[str, str, str]],
    actor: str = "system",
) -> int:
    """What `save_site` does, from plain values; `points` are (asset, quantity, unit).

    Points that the configuration no longer has become inactive; their history stays readable.
    """
    wanted = sorted(set(points))
    text = json.dumps(config, sort_keys=True)
    with db.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO sites (site_id, name, kind) VALUES (%s, %s, %s) "
            "ON CONFLICT (tenant_id, site_id) DO UPDATE SET name = excluded.name, kind = excluded.kind",
            (site_id, name, kind),
        )
        last = connection.exec_driver_sql(
            "SELECT version, config = %s::jsonb FROM site_versions WHERE site_id = %s ORDER BY version DESC LIMIT 1",
            (text, site_id),
        ).one_or_none()
        version = last[0] if last else 0
        if last is None or not last[1]:
            version += 1
            connection.exec_driver_sql(
                "INSERT INTO site_versions (site_id, version, actor, config) VALUES (%s, %s, %s, %s::jsonb)",
                (site_id, version, actor, text),
            )
            connection.exec_driver_sql(
                "INSERT INTO events (actor, kind, site_id, subject, detail) "
                "VALUES (%s, 'site_configured', %s, %s, jsonb_build_object('version', %s::int))",
                (actor, site_id, site_id, version),
            )
        _register_points(connection, site_id, wanted)
    return version


def _register_points(connection: Connection, site_id: str, points: list[tuple[str, str, str]]) -> None:
    columns = [list(column) for column in zip(*points, strict=True)] or [[], [], []]
    connection.exec_driver_sql(
        "INSERT INTO points (site_id, asset_id, quantity, unit) "
        "SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[]) "
        "ON CONFLICT (tenant_id, site_id, asset_id, quantity) DO UPDATE SET unit = excluded.unit, active = true "
        "WHERE (points.unit, points.active) IS DISTINCT FROM (excluded.unit, true)",
        (site_id, *columns),
    )
    connection.exec_driver_sql(
        "UPDATE points SET active = false WHERE site_id = %s AND active AND (asset_id, quantity) NOT IN "
        "(SELECT * FROM unnest(%s::text[], %s::text[]))",
        (site_id, columns[0], columns[1]),
    )


def refresh_points(db: TenantStore) -> int:
    """Register points that this program knows of the tenant's sites and an earlier one did not.

    Returns
    -------
    int
        Points that were added. A site whose configuration this program refuses keeps its points.
    """
    from flexergy_pipelines.grid import SiteError

    added = 0
    for site_id in list_sites(db):
        with contextlib.suppress(SiteError), db.begin() as connection:
            wanted = {(point.asset_id, point.quantity, point.unit or "") for point in load_site(db, site_id).points()}
            known = set(points_frame(connection, site_id).select("asset_id", "quantity").iter_rows())
            missing = sorted(point for point in wanted if point[:2] not in known)
            if missing:
                _register_points(connection, site_id, sorted(wanted))
            added += len(missing)
    return added


def load_site(db: TenantStore, site_id: str, at: datetime | None = None) -> Site:
    """A site as configured now, or as it was configured at the instant `at`.

    Raises
    ------
    NotFoundError
        The tenant has no such site, or had none at `at`.
    """
    from flexergy_pipelines.grid import parse_site

    with db.begin() as connection:
        require_site(connection, site_id)
        row = connection.exec_driver_sql(
            "SELECT config FROM site_versions WHERE site_id = %s "
            "AND valid_from <= coalesce(%s, 'infinity'::timestamptz) ORDER BY version DESC LIMIT 1",
            (site_id, utc(at, "at") if at else None),
        ).one_or_none()
    if row is None:
        raise NotFoundError(f"site '{site_id}' was not configured yet at {at}")
    return parse_site(row[0])


def list_sites(db: TenantStore) -> list[str]:
    """Ids of the tenant's sites, in order."""
    with db.begin() as connection:
        return list(connection.exec_driver_sql("SELECT site_id FROM sites ORDER BY site_id").scalars())


def list_site_versions(db: TenantStore, site_id: str) -> pl.DataFrame:
    """Every version of a site's configuration: version, valid_from, actor."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT version, valid_from, actor FROM site_versions WHERE site_id = %s ORDER BY version", (site_id,)
        ).all()
    schema = {"version": pl.Int64, "valid_from": pl.Datetime("us", "UTC"), "actor": pl.String}
    return frame_of([tuple(row) for row in rows], schema)


def require_site(connection: Connection, site_id: str) -> None:
    """Refuse a site that the tenant does not have.

    Raises
    ------
    NotFoundError
        With the sites there are.
    """
    found = connection.exec_driver_sql("SELECT 1 FROM sites WHERE site_id = %s", (site_id,)).one_or_none()
    if found is None:
        known = list(connection.exec_driver_sql("SELECT site_id FROM sites ORDER BY site_id LIMIT 20").scalars())
        raise NotFoundError(f"site '{site_id}' does not exist; known: {', '.join(known) or 'none'}")


def points_frame(connection: Connection, site_id: str) -> pl.DataFrame:
    """Points of a site: point_id, asset_id, quantity, active."""
    require_site(connection, site_id)
    rows = connection.exec_driver_sql(
        "SELECT point_id, asset_id, quantity, active FROM points WHERE site_id = %s ORDER BY asset_id, quantity",
        (site_id,),
    ).all()
    schema = {"point_id": pl.Int32, "asset_id": pl.String, "quantity": pl.String, "active": pl.Boolean}
    return frame_of([tuple(row) for row in rows], schema)


def with_point_ids(connection: Connection, site_id: str, frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """`frame` with `point_id` in place of asset_id and quantity.

    Raises
    ------
    InvalidDataError
        A point is not one of the site; the message names it.
    """
    points = points_frame(connection, site_id)
    joined = frame.join(points.drop("active"), on=["asset_id", "quantity"], how="left", maintain_order="left")
    if joined["point_id"].null_count():
        unknown = joined.filter(pl.col("point_id").is_null()).select("asset_id", "quantity").unique().sort(pl.all())
        first = unknown.row(0)
        known_asset = points.filter(pl.col("asset_id") == first[0])["quantity"].to_list()
        allowed = (
            f"quantities of {first[0]}: {', '.join(known_asset)}"
            if known_asset
            else f"assets of {site_id}: {', '.join(points['asset_id'].unique().sort())}"
        )
        raise InvalidDataError(
            f"{what}: point {first[0]}/{first[1]} is not one of site '{site_id}' "
            f"({unknown.height} unknown in all); {allowed}"
        )
    return joined.drop("asset_id", "quantity")


def select_points(
    connection: Connection, site_id: str, points: list[tuple[str, str]] | None, what: str
) -> pl.DataFrame:
    """The named points (all of the site when None) with their ids."""
    known = points_frame(connection, site_id).drop("active")
    if points is None:
        return known
    asked = pl.DataFrame(points, schema={"asset_id": pl.String, "quantity": pl.String}, orient="row").unique()
    if asked.is_empty():
        return known.clear()
    with_point_ids(connection, site_id, asked, what)
    return known.join(asked, on=["asset_id", "quantity"], how="semi")


def cyclic_periods(connection: Connection, site_id: str, points: pl.DataFrame) -> list[float]:
    """For each row of `points` the period after which its value is stored even when it did not change [s]."""
    from flexergy_pipelines.grid import History

    stored = connection.exec_driver_sql(
        "SELECT config -> 'history' FROM site_versions WHERE site_id = %s ORDER BY version DESC LIMIT 1", (site_id,)
    ).scalar_one_or_none()
    history = History.model_validate_json(json.dumps(stored)) if stored else History()
    rows = points.select("asset_id", "quantity").iter_rows()
    return [history.rule_for(asset, quantity).cyclic_s or history.cyclic_s for asset, quantity in rows]
