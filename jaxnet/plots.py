"""Plots. They need matplotlib: `pip install -e '.[plots]'` in a checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxnet.core import checks
from jaxnet.testing.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checks.door
def plot_comparison(comparison: Comparison) -> Figure:
    """Plots the distance of free-running trajectories from the reference, and the chaos floor.

    Each problem has one panel with logarithmic axes. A candidate that stays at the chaos floor
    cannot be told from the reference started one unit in the last place away.

    Args:
        comparison: the result of `compare_optimizers`.

    Returns:
        A figure, which notebooks display and `figure.savefig(path)` saves.

    Raises:
        ImportError: matplotlib is not installed.

    >>> from jaxnet import adam, compare_optimizers
    >>> figure = plot_comparison(compare_optimizers(adam(0.01), adam(0.011), steps=50))
    >>> [axes.get_title() for axes in figure.axes][:2]
    ['quadratic: different', 'narrow quadratic: different']
    """
    from matplotlib.figure import Figure

    checks.instance("comparison", comparison, Comparison)
    problems = comparison.problems
    columns = min(len(problems), 4)
    rows = -(-len(problems) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, problem in zip(panels.flat, problems, strict=False):
        _draw(axes, problem.chaos_floor, "reference, started one ULP away", "0.65")
        _draw(axes, problem.distance, "candidate", "C3")
        axes.set_title(f"{problem.name}: {problem.verdict}", fontsize=10)
    for axes in panels.flat[len(problems) :]:
        axes.axis("off")
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("distance from the reference", fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(axes: Axes, distance: np.ndarray, label: str, colour: str) -> None:
    """Draws one curve; zeros have no logarithm and are omitted."""
    steps = np.arange(1, len(distance) + 1)
    shown = np.where(np.isfinite(distance) & (distance > 0), distance, np.nan)
    axes.loglog(steps, shown, color=colour, label=label, linewidth=1.3)
    if np.isnan(shown).all():
        axes.text(0.5, 0.5, "no distance", transform=axes.transAxes, ha="center", color=colour)
