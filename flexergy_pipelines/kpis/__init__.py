"""Energy statistics and key performance indicators."""
