"""Metering: talking to smart meters, and what they count as energy of intervals."""

from flexergy_pipelines.metering.energy import energy_of_site, energy_per, interval_energy

__all__ = ["energy_of_site", "energy_per", "interval_energy"]
