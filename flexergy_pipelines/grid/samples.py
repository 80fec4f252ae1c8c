"""The sample sites that ship with a checkout."""

from __future__ import annotations

from pathlib import Path

from flexergy_pipelines.grid.loading import load_site_file
from flexergy_pipelines.grid.site import Site

SAMPLE_FILES = {"microgrid": "microgrid.yaml", "hybrid-park": "hybrid_park.yaml"}


def examples_dir() -> Path:
    """Folder `examples` of the checkout that this package runs from.

    Raises
    ------
    FileNotFoundError
        The package was installed without its examples.
    """
    folder = Path(__file__).resolve().parents[2] / "examples"
    if not (folder / "sites").is_dir():
        raise FileNotFoundError(
            f"no sample sites in {folder}: the samples come with the source code; run from a checkout of the repository"
        )
    return folder


def sample_site(site_id: str) -> Site:
    """One of the sample sites.

    Raises
    ------
    KeyError
        There is no such sample.
    """
    if site_id not in SAMPLE_FILES:
        raise KeyError(f"no sample site {site_id}, there are {', '.join(SAMPLE_FILES)}")
    return load_site_file(examples_dir() / "sites" / SAMPLE_FILES[site_id])


def sample_sites() -> tuple[Site, ...]:
    """All sample sites."""
    return tuple(sample_site(site_id) for site_id in SAMPLE_FILES)
