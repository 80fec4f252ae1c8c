"""Add and list users, set passwords, lock accounts."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from flexergy_pipelines.store.terminal import refuse, tenant_opened

app = typer.Typer(add_completion=False, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Login name.", show_default=False)]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of making one.")
]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="administrator, operator, field_staff or viewer.")] = "viewer",
    password_stdin: FromStdin = False,
    valid_until: Annotated[str | None, typer.Option(help="End of access, such as 2027-01-31T00:00+01:00.")] = None,
) -> None:
    """Add a user; the password that is made is printed, this once."""
    from flexergy_pipelines.access import create_user

    password, made = _password(password_stdin)
    until = _moment(valid_until) if valid_until else None
    with tenant_opened() as db:
        user = create_user(db, name, password, role, valid_until=until, actor="command line")
    typer.echo(f"{user.name}: {user.role} of {user.tenant}" + (f", password {password}" if made else ""))


@app.command("list")
def list_command() -> None:
    """List the tenant's users."""
    from flexergy_pipelines.access import list_users

    with tenant_opened() as db:
        for user in list_users(db):
            end = f", until {user.valid_until:%Y-%m-%d %H:%M} UTC" if user.valid_until else ""
            typer.echo(f"{user.name}  {user.role}{end}{', locked' if user.locked else ''}")


@app.command()
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Set a new password and end the user's sessions; one that is made is printed, this once."""
    from flexergy_pipelines.access import set_password

    text, made = _password(password_stdin)
    with tenant_opened() as db:
        set_password(db, name, text, actor="command line")
    typer.echo(f"{name}: password {text}" if made else f"{name}: password set")


@app.command()
def lock(name: Name, unlock: Annotated[bool, typer.Option("--unlock", help="Open the account again.")] = False) -> None:
    """Close an account and end its sessions."""
    from flexergy_pipelines.access import lock_user

    with tenant_opened() as db:
        lock_user(db, name, locked=not unlock, actor="command line")
    typer.echo(f"{name}: {'open' if unlock else 'locked'}")


def _password(from_stdin: bool) -> tuple[str, bool]:
    from flexergy_pipelines.access.passwords import generate_password

    if not from_stdin:
        return generate_password(), True
    return sys.stdin.readline().rstrip("\r\n"), False


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"--valid-until {text!r} is not a time; give one such as 2027-01-31T00:00+01:00")
    if moment.tzinfo is None:
        refuse(f"--valid-until {text!r} has no time zone; give one such as 2027-01-31T00:00+01:00")
    return moment
