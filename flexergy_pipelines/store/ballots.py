"""Ballots of the control loop's instances, for a vote in each cycle: one row for each instance, always overwritten."""

from __future__ import annotations

from dataclasses import dataclass

from flexergy_pipelines.store.leases import OwnConnection

_COLUMNS = "instance, epoch, cycle, digest, body"


@dataclass(frozen=True, slots=True)
class BallotRow:
    """What one instance says in a cycle.

    Attributes
    ----------
    instance : str
        Who; empty for the image that the master published.
    epoch, cycle : int
        The master's lease and its cycle.
    digest : str
        Of the image that is meant.
    body : str
        The image, or the values computed on it, as JSON.
    """

    instance: str
    epoch: int
    cycle: int
    digest: str
    body: str


class StoreBallots(OwnConnection):
    """The ballots of one site's instances in the store, on a connection of its own.

    Notes
    -----
    Every call raises `StoreError` when the store cannot answer, and the next call connects anew.
    """

    def put(self, row: BallotRow) -> None:
        """Put a row in place of the one of the same instance."""
        self.run(
            "INSERT INTO control_ballots (name, instance, epoch, cycle, digest, body) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, name, instance) DO UPDATE SET epoch = excluded.epoch, cycle = excluded.cycle, "
            "digest = excluded.digest, body = excluded.body",
            (self.name, row.instance, row.epoch, row.cycle, row.digest, row.body),
        )

    def get(self, instance: str) -> BallotRow | None:
        """The row of one instance."""
        found = self.run(
            f"SELECT {_COLUMNS} FROM control_ballots WHERE name = %s AND instance = %s",  # noqa: S608 - constants
            (self.name, instance),
        ).fetchone()
        return None if found is None else BallotRow(*found)

    def rows(self) -> list[BallotRow]:
        """The rows of all instances; the image is not among them."""
        found = self.run(
            f"SELECT {_COLUMNS} FROM control_ballots WHERE name = %s AND instance <> ''",  # noqa: S608 - constants
            (self.name,),
        )
        return [BallotRow(*row) for row in found.fetchall()]

    def remove(self, instance: str) -> None:
        """Take a row away."""
        self.run("DELETE FROM control_ballots WHERE name = %s AND instance = %s", (self.name, instance))
