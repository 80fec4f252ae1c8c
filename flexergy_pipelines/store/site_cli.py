"""Validate, import, export and list sites."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexergy_pipelines.store.terminal import refuse, tenant_opened

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

app = typer.Typer(add_completion=False, no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Site files (YAML).", show_default=False)]
SiteId = Annotated[str, typer.Argument(metavar="SITE", help="Id of a site.", show_default=False)]


@app.command()
def validate(files: Files) -> None:
    """Check site files; nothing is stored. Prints a line for each problem and ends with 2 when there is one."""
    for site in _load(files):
        typer.echo(f"{site.id}: valid, {len(site.assets())} assets, {len(site.points())} points")


@app.command("import")
def import_sites(files: Files) -> None:
    """Store sites, all of them or none; a site that is known becomes a new version when it differs."""
    from flexergy_pipelines.store.sites import list_sites, save_site

    sites = _load(files)
    told = []
    with tenant_opened() as db, db.begin():
        known = set(list_sites(db))
        for site in sites:
            version = save_site(db, site, actor=_actor())
            told.append(f"{site.id}: version {version}" + ("" if site.id in known else ", new"))
    for line in told:
        typer.echo(line)


@app.command("export")
def export_site(
    site: SiteId,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output when left out.")] = None,
) -> None:
    """Write a site's configuration as YAML that `import` reads back identically."""
    from flexergy_pipelines.grid import dump_site
    from flexergy_pipelines.store.sites import load_site

    with tenant_opened() as db:
        text = dump_site(load_site(db, site))
    if out is None:
        typer.echo(text, nl=False)
        return
    _write_whole(out, text)


def _write_whole(out: Path, text: str) -> None:
    """Write a file that appears under its name only when it is complete; a device is written to as it is."""
    scratch = out if out.exists() and not out.is_file() else out.with_name(f".{out.name}.part")
    try:
        scratch.write_text(text, encoding="utf-8")
        if scratch != out:
            scratch.replace(out)
    except OSError as error:
        if scratch != out:
            scratch.unlink(missing_ok=True)
        refuse(f"{out}: cannot be written ({error.strerror})", 1)


@app.command("schema")
def schema_command(
    out: Annotated[Path | None, typer.Option(help="File to write; without it, standard output.")] = None,
) -> None:
    """Print the JSON Schema of a site file, with which editors complete and check it."""
    from flexergy_pipelines.grid import site_json_schema

    text = json.dumps(site_json_schema(), indent=1) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    _write_whole(out, text)


@app.command("list")
def list_command() -> None:
    """List the tenant's sites with their versions."""
    from flexergy_pipelines.store.sites import list_site_versions, list_sites

    with tenant_opened() as db:
        for name in list_sites(db):
            last = list_site_versions(db, name).row(-1, named=True)
            since = f"{last['valid_from']:%Y-%m-%d %H:%M} UTC"
            typer.echo(f"{name}  version {last['version']} since {since} by {last['actor']}")


def _load(files: list[Path]) -> list[Site]:
    """All files or none: every problem of every file is told before anything is done."""
    from flexergy_pipelines.grid import SiteError, load_site_file

    sites, problems = [], []
    for file in files:
        try:
            sites.append(load_site_file(file))
        except SiteError as error:
            problems += str(error).splitlines()
    seen: set[str] = set()
    for site in sites:
        if site.id in seen:
            problems.append(f"{site.id}: two of the files describe this site")
        seen.add(site.id)
    if problems:
        refuse("\n".join(problems))
    return sites


def _actor() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "command line"
