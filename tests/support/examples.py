"""How generated examples are drawn: the same ones in every run of the suite, new ones in a soak.

A change is judged by what it changed, not by what was drawn that day; `make soak` looks for what nobody thought of.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("new", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("same")
