"""Run all benchmarks, or those named: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> None:
    """Run the `main` of each module of this package that has one, in order of name."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    wanted = sys.argv[1:] or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"no benchmark '{unknown[0]}'; known: {', '.join(names)}")
    # Each benchmark reads the command line itself when it is run alone.
    sys.argv = sys.argv[:1]
    for name in wanted:
        run = getattr(importlib.import_module(f"benchmarks.{name}"), "main", None)
        if run is not None:
            print(f"== {name}", flush=True)
            run()


if __name__ == "__main__":
    main()
