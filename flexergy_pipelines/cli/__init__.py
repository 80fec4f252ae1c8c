"""The flexergy command: finds subcommands by entry point, runs and supervises the services."""
