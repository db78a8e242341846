"""A figure for each result of a ranking. They need matplotlib.

Colours show the six best contenders by the geometric mean of the test losses; the others are grey.
The tables have the numbers of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnet.ranking.curves import medians, profile, sensitivity, tuning_curve
from jaxnet.ranking.ranking import Ranking
from jaxnet.ranking.statistics import median_and_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURED, _BANDS, _GREY = 6, 2, "0.75"
_VERDICTS = {"better": "tab:blue", "worse": "tab:orange", "cannot be told": "0.92"}


def make_figures(ranking: Ranking) -> dict[str, Figure]:
    """All figures by name; those about targets only if a task has one, and so on."""
    figures = {
        "losses": plot_losses(ranking),
        "comparisons": plot_comparisons(ranking),
        "tuning_curves": plot_tuning_curves(ranking),
    }
    if any(sensitivity(row[0]) for row in ranking.outcomes):
        figures["learning_rates"] = plot_sensitivity(ranking)
    if ranking.steps.size:
        figures["targets"] = plot_targets(ranking)
        figures["profiles"] = plot_profiles(ranking)
    return figures


def plot_losses(ranking: Ranking) -> Figure:
    """The median test loss of each contender on each task, with its 95 % interval over seeds.

    A cross at the right end stands for a median that is infinite, since runs diverged.
    """
    return _plot_rows(ranking, ranking.losses, ranking.tasks, "test loss")


def plot_targets(ranking: Ranking) -> Figure:
    """The steps to the target; a cross at the right end where it is not reached."""
    names = _aimed(ranking)
    return _plot_rows(ranking, ranking.steps, names, "steps to the target")


def plot_comparisons(ranking: Ranking) -> Figure:
    """The verdict on each pair: the contender of the row against that of the column."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    names = [ranking.contenders[i] for i in ranking.order]
    kinds = list(_VERDICTS)
    numbers = [
        [np.nan if a == b else kinds.index(ranking.verdict(a, b)) for b in names] for a in names
    ]
    side = 2.2 + 0.24 * len(names)
    figure, axes = _figure(side + 0.6, side + 0.4, 1, 1)
    axes[0].imshow(
        numbers, ListedColormap(list(_VERDICTS.values())), vmin=-0.5, vmax=2.5, aspect="auto"
    )
    axes[0].set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_xticks(np.arange(len(names)) - 0.5, minor=True)
    axes[0].set_yticks(np.arange(len(names)) - 0.5, minor=True)
    axes[0].grid(which="minor", color="white", linewidth=1)
    axes[0].tick_params(length=0, which="both")
    patches = [Patch(color=colour, label=kind) for kind, colour in _VERDICTS.items()]
    title = "the contender of the row is"
    figure.legend(handles=patches, loc="outside upper center", ncols=3, frameon=False, title=title)
    return figure


def plot_tuning_curves(ranking: Ranking) -> Figure:
    """The median of the lowest validation loss after each number of trials.

    The two best contenders have their simultaneous 95 % confidence bands.
    """
    columns = min(len(ranking.tasks), 4)
    figure, axes = _figure(max(6.4, 3.2 * columns), 2.7, -(-len(ranking.tasks) // columns), columns)
    lines: dict[str, Any] = {}
    for t, task in enumerate(ranking.tasks):
        curves = [tuning_curve(row[t].validation) for row in ranking.outcomes]
        numbers = np.arange(1, len(curves[0].median) + 1)
        for i, colour in _colours(ranking):
            curve = curves[i]
            (line,) = axes[t].plot(numbers, _finite(curve.median), color=colour, linewidth=1.3)
            lines[ranking.contenders[i]] = line
            if i in ranking.order[:_BANDS]:
                high = np.minimum(curve.high, 1e30)
                axes[t].fill_between(numbers, curve.low, high, color=colour, alpha=0.2, linewidth=0)
        shown = np.concatenate([_finite(curve.median) for curve in curves])
        low, high = np.nanmin(shown), np.nanquantile(shown, 0.95)
        axes[t].set(title=task)
        _scale(axes[t], "x", 1, len(numbers))
        _scale(axes[t], "y", low / 1.1, high * 1.1)
    for panel in axes[len(ranking.tasks) :]:
        panel.axis("off")
    _label(figure, "trials", "lowest validation loss")
    _legend(figure, ranking, lines)
    return figure


def plot_sensitivity(ranking: Ranking) -> Figure:
    """A panel for each contender: the median validation loss at each rate, over its lowest one."""
    shown = [i for i in ranking.order if sensitivity(ranking.outcomes[i][0])]
    columns = min(len(shown), 5)
    figure, axes = _figure(
        max(6.4, 2.4 * columns), 2.1, -(-len(shown) // columns), columns, sharey=True
    )
    lines: dict[str, Any] = {}
    for panel, i in zip(axes, shown, strict=False):
        for t, task in enumerate(ranking.tasks):
            found = sensitivity(ranking.outcomes[i][t])
            assert found is not None
            with np.errstate(invalid="ignore"):
                ratio = found.median / found.lowest.min()
            (lines[task],) = panel.plot(found.rates, _finite(ratio), color=f"C{t}", linewidth=1.2)
        panel.set(xscale="log", yscale="log", ylim=(0.9, 30))
        panel.set_title(ranking.contenders[i], fontsize=9)
    for panel in axes[len(shown) :]:
        panel.axis("off")
    _label(figure, "learning rate", "median validation loss over the lowest")
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, frameon=False)
    return figure


def plot_profiles(ranking: Ranking) -> Figure:
    """The share of tasks whose target is reached within a factor of the fastest's steps."""
    factors, shares = profile(medians(ranking.steps))
    figure, axes = _figure(6.4, 4, 1, 1)
    end = max(2.0, factors[-1]) * 1.1
    lines = {}
    for i, colour in _colours(ranking):
        x, y = np.append(factors, end), np.append(shares[i], shares[i][-1])
        (line,) = axes[0].step(x, y, where="post", color=colour, linewidth=1.5)
        lines[ranking.contenders[i]] = line
    axes[0].set(ylim=(0, 1.02))
    _scale(axes[0], "x", 1, end)
    _label(figure, "steps over those of the fastest", "share of tasks")
    _legend(figure, ranking, lines)
    return figure


def _plot_rows(ranking: Ranking, values: np.ndarray, names: Any, label: str) -> Figure:
    """A panel for each task, with a row for each contender: the median and its interval."""
    figure, axes = _figure(2.6 + 1.7 * len(names), 1.2 + 0.2 * len(values), 1, len(names), True)
    order = ranking.order
    for t, name in enumerate(names):
        rows = np.array([median_and_interval(values[i, t]) for i in order])
        shown, places = np.isfinite(rows[:, 0]), np.arange(len(order))
        median, low, high = rows[shown].T
        high = np.minimum(high, 10 * median.max(initial=0))  # beyond the end of the axis
        style: dict[str, Any] = {"fmt": "o", "markersize": 3.5, "linewidth": 1}
        axes[t].errorbar(median, places[shown], xerr=(median - low, high - median), **style)
        axes[t].set_title(name, fontsize=10)
        if shown.any():
            _scale(axes[t], "x", median.min() / 1.5, median.max() * 1.5)
        else:
            axes[t].set_xticks([])
        cross: dict[str, Any] = {"color": "tab:red", "transform": axes[t].get_yaxis_transform()}
        for place in places[~shown]:
            axes[t].plot(1, place, "x", clip_on=False, **cross)
        axes[t].grid(axis="y", color="0.92")
    axes[0].set_yticks(range(len(order)), [ranking.contenders[i] for i in order], fontsize=8)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    _label(figure, label, "")
    return figure


def _figure(
    width: float, height: float, rows: int, columns: int, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of that width, and that height for each row, and its panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    return figure, list(panels.flat)


def _scale(axes: Axes, name: str, low: float, high: float) -> None:
    """A logarithmic scale from low to high, with a few plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if not 0 < low < high < np.inf:  # losses of 0, or no finite ones
        return
    limits: dict[str, Any] = {f"{name}scale": "log", f"{name}lim": (low, high)}
    axes.set(**limits)
    axis = axes.xaxis if name == "x" else axes.yaxis
    numbers = (1,) if high > 50 * low else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=numbers) if high > 5 * low else MaxNLocator(3))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _colours(ranking: Ranking) -> list[tuple[int, str]]:
    """The contenders and their colours, the best last, so that they are drawn on top."""
    return [
        (i, f"C{place}" if place < _COLOURED else _GREY) for place, i in enumerate(ranking.order)
    ][::-1]


def _legend(figure: Figure, ranking: Ranking, lines: dict[str, Any]) -> None:
    names = [ranking.contenders[i] for i in ranking.order]
    shown = names[:_COLOURED]
    handles, labels = [lines[name] for name in shown], list(shown)
    if len(names) > _COLOURED:
        handles.append(lines[names[-1]])
        labels.append("others")
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)


def _label(figure: Figure, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)


def _aimed(ranking: Ranking) -> list[str]:
    """The tasks that have a target."""
    pairs = zip(ranking.tasks, ranking.targets, strict=True)
    return [task for task, target in pairs if target is not None]


def _finite(values: np.ndarray) -> np.ndarray:
    """NaN in place of infinity, which is not drawn."""
    return np.where(np.isfinite(values), values, np.nan)
