"""The look of the dashboards: colours by kind of asset, and Streamlit's options for light and dark."""

from __future__ import annotations

from typing import Any

KIND_COLOURS: dict[str, str] = {
    "pv": "#E69F00",
    "wind": "#0FA37F",
    "genset": "#B4662A",
    "ess": "#7C6BF2",
    "pcc": "#7A8899",
    "load": "#D9573F",
    "controllable_load": "#C774A8",
    "ev": "#3B8FD4",
}
"""One colour a kind of asset, the same in every chart and picture; readable on white and on near-black."""

SEVERITY_COLOURS: dict[int, str] = {1: "#D92D3A", 2: "#E07A1F", 3: "#C9A200", 4: "#3B8FD4"}
SEVERITY_NAMES: dict[int, str] = {1: "critical", 2: "major", 3: "minor", 4: "notice"}

GOOD = "#12A150"
ACCENT_LIGHT = "#0B7A75"
ACCENT_DARK = "#35C9BF"

STREAMLIT_THEME: dict[str, Any] = {
    "theme.baseRadius": "0.6rem",
    "theme.showWidgetBorder": True,
    "theme.headingFontWeights": [700, 650, 600],
    "theme.light.primaryColor": ACCENT_LIGHT,
    "theme.light.backgroundColor": "#FBFCFC",
    "theme.light.secondaryBackgroundColor": "#EEF3F2",
    "theme.light.textColor": "#16211F",
    "theme.light.borderColor": "#D5DEDC",
    "theme.light.sidebar.backgroundColor": "#F1F5F4",
    "theme.dark.primaryColor": ACCENT_DARK,
    "theme.dark.backgroundColor": "#0E1514",
    "theme.dark.secondaryBackgroundColor": "#18211F",
    "theme.dark.textColor": "#E4ECEA",
    "theme.dark.borderColor": "#2C3835",
    "theme.dark.sidebar.backgroundColor": "#121A19",
}
"""Options of ``streamlit run`` that make the two themes; the browser's own preference picks one."""


def colour_of(kind: str) -> str:
    """Colour of a kind of asset, grey for a kind without one."""
    return KIND_COLOURS.get(kind, "#7A8899")
