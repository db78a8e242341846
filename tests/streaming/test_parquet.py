"""Streams of rows in Parquet files."""

import sys

import jax
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(50, 3))
LABELS = RANDOM.integers(2, size=50)
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("parquet")
    columns = {name: INPUTS[:, i] for i, name in enumerate(NAMES)}
    lists = pyarrow.array(INPUTS.tolist())
    table = pyarrow.table({**columns, "label": LABELS, "lists": lists, "weight": LABELS + 0.5})
    parquet.write_table(table[:30], folder / "one.parquet", row_group_size=8)
    parquet.write_table(table[30:], folder / "two.parquet", row_group_size=7)
    return [folder / "one.parquet", str(folder / "two.parquet")]


@pytest.mark.parametrize("inputs", [NAMES, "lists"])
def test_rows_are_those_of_the_files(files, inputs):
    stream = jaxnet.parquet_stream(files, inputs, "label", "weight")
    assert (stream.rows, stream.piece) == (50, 8)
    for start, stop in ((0, 50), (7, 9), (29, 31), (49, 50)):
        x, y, w = stream.read(start, stop)
        np.testing.assert_array_equal(x, INPUTS[start:stop])
        np.testing.assert_array_equal(y, LABELS[start:stop])
        np.testing.assert_array_equal(w, LABELS[start:stop] + 0.5)


def test_a_network_is_trained(files):
    stream = jaxnet.parquet_stream(files, NAMES, "label")
    network, loss = jaxnet.mlp([3, 2]), jaxnet.softmax_cross_entropy
    options = {"key": jax.random.key(0), "epochs": 1, "batch_size": 4}
    run = jaxnet.fit(network, loss, jaxnet.adam(0.1), stream, **options)
    assert run.state.step == 13


def test_wrong_files_and_columns(files):
    with pytest.raises(ValueError, match=r"parquet_stream: expected a column 'd'. .*'a', 'b', 'c'"):
        jaxnet.parquet_stream(files, ["a", "d"], "label")
    with pytest.raises(ValueError, match=r"parquet_stream: expected files in the Parquet format"):
        jaxnet.parquet_stream(__file__, NAMES, "label")


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="parquet_stream: expected pyarrow; pip install pyarrow"):
        jaxnet.parquet_stream("rows.parquet", NAMES, "label")
