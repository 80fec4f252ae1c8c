"""How outside data gets in: weather, market and meter files."""
