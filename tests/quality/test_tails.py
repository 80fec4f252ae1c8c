"""Quantiles of samples, on which every limit of cleansing rests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flexergy_pipelines.quality.tails import quantile, quantiles

SAMPLES = arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6))


@given(SAMPLES, st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_quantiles_are_those_of_numpy(sample: np.ndarray, shares: list[float]) -> None:
    assert quantiles(sample, *shares) == pytest.approx(np.quantile(sample, shares), rel=1e-9, abs=1e-6)


def test_nothing_has_no_quantile() -> None:
    assert np.isnan(quantile(np.zeros(0), 0.5))
