"""What every test shares: users' examples print four digits, the same on every processor."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def four_digits():
    with np.printoptions(precision=4, suppress=True):
        yield
