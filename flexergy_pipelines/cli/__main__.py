"""`python -m flexergy_pipelines.cli` is the `flexergy` command, for processes that must use this very interpreter."""

from flexergy_pipelines.cli.main import main

main()
