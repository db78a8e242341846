"""The sizes of pieces and blocks, and how well they shuffle."""

import numpy as np
import pytest

import jaxnet
from jaxnet.streaming.layout import Layout, make_layout

STREAM = jaxnet.Stream(10_000_000, lambda start, stop: ())


def test_a_sorted_file_varies_as_the_law_says():
    """The variance of the number of rows of a class in a batch, over 400 epochs."""
    layout, batch = Layout(4096, 8, 64), 16  # 8 blocks
    random = np.random.default_rng(0)
    counts = []
    for _ in range(400):
        pieces = random.permutation(512)[:64]
        rows = random.permutation((pieces[:, None] * 8 + np.arange(8)).ravel())
        counts += ((rows.reshape(-1, batch) // 8) % 512 < 64).sum(axis=1).tolist()
    chance = batch * (1 / 8) * (7 / 8) * (4096 - batch) / 4095
    assert layout.variance(batch) == pytest.approx(np.var(counts) / chance, rel=0.04)


def test_the_default_layout_is_a_good_shuffle_of_whole_batches():
    for batch in (1, 7, 32, 100, 128, 1000, 1024):
        for row_bytes in (8, 404, 3140):
            layout = make_layout(STREAM, row_bytes, batch)
            assert layout.variance(batch) <= 1.25
            assert layout.size % batch == 0
            assert layout.size * row_bytes <= 2**26
            assert 2**13 <= layout.piece * row_bytes <= 2**20
