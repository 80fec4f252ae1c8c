"""The REST service for other systems."""
