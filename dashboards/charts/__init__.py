"""Charts as pure functions: polars frames in, Altair charts out."""

import altair as alt

Layered = alt.LayerChart | alt.FacetChart
"""What Altair says it makes of layers."""
