"""Meter values from files and on request."""
