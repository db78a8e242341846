"""Plots show the numbers of the comparison."""

import jax
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.plots import plot_comparison


@pytest.fixture(scope="module")
def comparison():
    with jax.numpy_dtype_promotion("standard"):
        return jaxnet.compare_optimizers(jaxnet.adam(0.011), optax.adam(0.01), steps=20)


def test_each_panel_shows_both_distances(comparison):
    figure = plot_comparison(comparison)
    for axes, problem in zip(figure.axes, comparison.problems, strict=False):
        assert axes.get_title() == f"{problem.name}: {problem.verdict}"
        floor, candidate = axes.get_lines()
        np.testing.assert_array_equal(floor.get_xdata(), np.arange(1, 21))
        for line, distance in ((floor, problem.chaos_floor), (candidate, problem.distance)):
            shown = np.nan_to_num(line.get_ydata())
            np.testing.assert_array_equal(shown, distance)
    zero = figure.axes[[p.name for p in comparison.problems].index("zero")]
    assert [text.get_text() for text in zero.texts] == ["no distance"]


def test_a_figure_can_be_saved(comparison, tmp_path):
    plot_comparison(comparison).savefig(tmp_path / "runs.png")
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")


def test_one_problem_has_one_panel(comparison):
    figure = plot_comparison(comparison._replace(problems=comparison.problems[:1]))
    assert len(figure.axes) == 1
