"""Drivers: one file a protocol, one interface for all."""
