"""The report of `benchmark_tables.py`: tables in Markdown, and how often jaxnet wins."""

import platform
from typing import Any

import pandas as pd

from benchmarking.report import table

COLUMNS = ["table", "method", "split", "error", "accuracy", "first.cpu", "warm.cpu", "cv.cpu"]
GOALS = [  # what is compared, its column, the other method, and what jaxnet is to reach
    ("Error below linear models'", "error", "linear", "none"),
    ("Error below scikit-learn MLP's", "error", "scikit-learn MLP", "9"),
    (
        "Error below HistGradientBoosting's",
        "error",
        "HistGradientBoosting",
        "6, and at most 1.05 on the others",
    ),
    ("Error below RealMLP's", "error", "RealMLP", "6"),
    ("Error below that of RealMLP for the log loss", "error", "RealMLP, log loss", "none"),
    ("Warm fit faster than scikit-learn MLP's", "warm.cpu", "scikit-learn MLP", "all"),
    ("First fit faster than RealMLP's", "first.cpu", "RealMLP", "all"),
    ("Five folds faster than RealMLP's", "cv.cpu", "RealMLP", "at most 0.20 on all"),
]


def body(lines: list[dict[str, Any]]) -> str:
    """All of it, as Markdown."""
    every = pd.json_normalize(lines).reindex(columns=COLUMNS)
    folds = every[every["split"] == "cv"]
    results = every[every["split"] != "cv"]
    splits = results.groupby(["method", "table"])["split"].nunique()
    versions = sorted({pair for line in lines for pair in line["versions"].items()})
    parts = [
        f"{platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(map(" ".join, versions))
        + f". Mean ± standard deviation over {splits.min()} to {splits.max()} splits.",
        "### Error on the test rows",
        _table(results, "error", _spread),
        "### Accuracy",
        _table(results, "accuracy", _spread),
        "### CPU seconds of the first fit and prediction in a process",
        _table(results, "first.cpu", _median),
        "### CPU seconds of the second fit and prediction",
        _table(results, "warm.cpu", _median),
        "### CPU seconds of five folds",
        _table(folds, "cv.cpu", _median),
    ]
    if "jaxnet" in set(results["method"]):
        parts += ["### jaxnet against the others", _verdicts(results, folds)]
    return "\n\n".join(parts)


def _table(results: pd.DataFrame, column: str, show: Any) -> str:
    """A row for each table of data, a column for each method."""
    results = results.dropna(subset=column)
    if not len(results):
        return "No results."
    groups = dict(iter(results.groupby(["table", "method"])[column]))
    methods = list(results["method"].unique())
    rows = [
        [name, *(show(groups[name, m]) if (name, m) in groups else "-" for m in methods)]
        for name in results["table"].unique()
    ]
    return table(["", *methods], rows)


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.3f} ± {values.std():.3f}"


def _median(values: pd.Series) -> str:
    return f"{values.median():.2f}"


def _verdicts(results: pd.DataFrame, folds: pd.DataFrame) -> str:
    """For each goal, on how many tables jaxnet's mean is below the other method's.

    The tables are listed from the best ratio of the means to the worst, with the number of splits
    on which jaxnet is below the other method, since splits of a table differ more than methods.
    """
    lines = []
    for text, column, other, goal in GOALS:
        rows = folds if column == "cv.cpu" else results
        pairs = rows.pivot_table(column, ["table", "split"], "method")
        if not {"jaxnet", other} <= set(pairs):
            continue
        pairs = pairs[["jaxnet", other]].dropna()
        means = pairs.groupby("table").mean()
        ratios = (means["jaxnet"] / means[other]).sort_values()
        wins = (pairs["jaxnet"] < pairs[other]).groupby("table").agg(["sum", "size"])
        listed = [
            f"{name} {ratio:.2f} ({wins['sum'][name]}/{wins['size'][name]})"
            for name, ratio in ratios.items()
        ]
        count = f"{(ratios < 1).sum()} of {len(ratios)} tables"
        lines.append(f"- {text}: {count} (goal: {goal}): {', '.join(listed)}.")
    return "\n".join(lines)
