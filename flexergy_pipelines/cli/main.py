"""The `flexergy` command: subcommands are found by entry point and loaded only when named."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path

GROUP = "flexergy.commands"


def _subcommands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def main() -> None:
    """Run the subcommand named by the first argument; each is a Typer app declared by its own package."""
    commands = _subcommands()
    words = sys.argv[1:]
    if not words or words[0] in {"-h", "--help"}:
        print("usage: flexergy COMMAND [OPTIONS]\n\nCommands (flexergy COMMAND --help tells more):")
        for name, entry in sorted(commands.items()):
            print(f"  {name:<12} {_one_line(entry)}")
        return
    if words[0] == "--version":
        print(f"flexergy {version('flexergy')}")
        return
    entry = commands.get(words[0])
    if entry is None:
        print(f"flexergy: no command '{words[0]}'; known: {', '.join(sorted(commands))}", file=sys.stderr)
        sys.exit(2)
    app = entry.load()
    try:
        app(args=words[1:], prog_name=f"flexergy {words[0]}")
    except Exception as error:  # the last resort: a person gets one line, the developer the whole story
        print(f"flexergy {words[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"This should not happen; please report it with {_write_crash_report()}", file=sys.stderr)
        sys.exit(1)


def _one_line(entry: EntryPoint) -> str:
    import ast
    from importlib.util import find_spec

    try:
        spec = find_spec(entry.module)
    except ModuleNotFoundError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    with Path(spec.origin).open(encoding="utf-8") as source:
        text = ast.get_docstring(ast.parse(source.read())) or ""
    return text.splitlines()[0] if text else ""


def _write_crash_report() -> Path | str:
    import traceback

    from flexergy_pipelines.settings import load_settings

    path = load_settings().logs_dir / "crash.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as report:
            report.write(f"{' '.join(sys.argv)}\n{traceback.format_exc()}\n")
    except OSError:
        return traceback.format_exc()
    return path
