"""Dagster: assets, checks, jobs, schedules, sensors and resources around the functions of the other rooms."""
