"""Standardised jitter tables."""

import numpy as np

from carbonpilot.envs.schema import Transfer
from carbonpilot.envs.transfer.empirical import jitter_table


def test_normal_is_standard_symmetric_and_clipped():
    table = jitter_table(Transfer(model="tcp", congestion_control="bbr", jitter="normal"))
    assert table.dtype == np.float32
    assert table.shape == (1024,)
    assert abs(table.mean()) < 1e-3
    assert abs(table.std() - 1.0) < 0.02
    assert np.allclose(table, -table[::-1], atol=1e-5)
    assert np.abs(table).max() <= 3.0


def test_empirical_runs_through_its_quantiles():
    quantiles = [-1.0, 0.0, 0.5, 4.0]
    table = jitter_table(
        Transfer(model="empirical", jitter="empirical", jitter_quantiles=quantiles), size=999
    )
    assert (np.diff(table) >= 0).all()
    assert abs(table[499] - 0.25) < 1e-3  # the median lies midway between 0.0 and 0.5
    assert table[0] > -1.0
    assert table[-1] < 4.0
