"""Fixtures every test may use, and the report of which requirements the run proved."""

pytest_plugins = [
    "tests.support.examples",
    "tests.support.logs",
    "tests.support.parallel",
    "tests.support.requirements",
    "tests.support.store",
]
