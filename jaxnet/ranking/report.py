"""A ranking in a folder: tables, figures, and a manifest from which it is repeated."""

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.core import checks
from jaxnet.core.atomic import atomic_write
from jaxnet.ranking.contenders import Contender
from jaxnet.ranking.curves import (
    medians,
    profile,
    sensitivity,
    steps_to_target,
    tuning_curve,
)
from jaxnet.ranking.figures import make_figures
from jaxnet.ranking.ranking import Ranking, rank_optimizers
from jaxnet.ranking.settings import describe, read_key
from jaxnet.ranking.statistics import median_and_interval
from jaxnet.ranking.tasks import Task, check_task
from jaxnet.ranking.trials import Outcome

_MANIFEST = "manifest.json"


@checks.door
def save_ranking(ranking: Ranking, folder: str | os.PathLike[str]) -> None:
    """Writes a ranking to a folder: tables, figures and a manifest.

    The tables are `losses.csv`, `comparisons.csv`, `trials.csv`, `seeds.csv`, `tuning_curves.csv`,
    `learning_rates.csv`, `targets.csv` and `profiles.csv`, and `seconds.csv` with measured times.
    All but the last are the same bytes when the ranking is repeated; numbers have all their digits.
    The manifest contains the key, the search spaces, hashes of the data, of the schedules and of
    the traced programs, and the versions of the packages. Each file is replaced as a whole, the
    manifest last.

    Args:
        ranking: the result of `rank_optimizers`.
        folder: is made if it does not exist. Files of the same names are replaced.

    Raises:
        TypeError: the ranking is not one, or the folder is not a path.
        ImportError: opda, pandas or matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    checks.instance("ranking", ranking, Ranking)
    checks.path("folder", folder)
    target = Path(folder)
    tables, figures = make_tables(ranking), make_figures(ranking)
    target.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        _write(target / f"{name}.csv", table.to_csv(index=False, lineterminator="\n").encode())
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, dpi=150, format="png")
        _write(target / f"{name}.png", picture.getvalue())
    _write(target / _MANIFEST, json.dumps(ranking.settings, indent=2).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


@checks.door
def repeat_ranking(
    folder: str | os.PathLike[str],
    contenders: Sequence[Contender],
    tasks: Sequence[Task],
    *,
    progress: bool = True,
) -> Ranking:
    """Repeats a saved ranking: bit for bit with the same packages on the same kind of device.

    Functions are not saved, so the contenders and tasks are given again.

    Args:
        folder: of `save_ranking`.
        contenders, tasks: the same as then.
        progress: as in `rank_optimizers`.

    Raises:
        ValueError: the contenders, the tasks, their data, the versions or the device differ from
            the manifest, or there is no manifest in this form.
        TypeError: an invalid argument.
        FileNotFoundError: there is no manifest.
    """
    checks.path("folder", folder)
    manifest = json.loads((Path(folder) / _MANIFEST).read_text())
    try:
        key, trials, seeds = read_key(manifest), manifest["trials"], manifest["seeds"]
    except (KeyError, TypeError, ValueError) as error:
        raise checks.InvalidValue(
            f"expected a manifest of save_ranking. Received: {error}"
        ) from None
    now = describe(contenders, [check_task(task) for task in tasks], key, trials, seeds)
    difference = _find_difference(manifest, json.loads(json.dumps(now)), "manifest")
    if difference is not None:
        path, before, after = difference
        raise checks.InvalidValue(f"expected {path} as it was, {before}. Received: {after}")
    return rank_optimizers(
        contenders, tasks, key=key, trials=trials, seeds=seeds, progress=progress
    )


def _find_difference(before: Any, after: Any, path: str) -> tuple[str, str, str] | None:
    """The path of the first difference of two trees of JSON, and the values there.

    >>> _find_difference({"tasks": [{"epochs": 3}]}, {"tasks": [{"epochs": 4}]}, "manifest")
    ('manifest/tasks/0/epochs', '3', '4')
    """
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if not isinstance(before, dict) or not isinstance(after, dict) or list(before) != list(after):
        same = before == after
        return None if same else (path, checks.shorten(str(before)), checks.shorten(str(after)))
    found = (_find_difference(before[name], after[name], f"{path}/{name}") for name in before)
    return next(filter(None, found), None)


def make_tables(ranking: Ranking) -> dict[str, Any]:
    """The results as `pandas.DataFrame`s by the names of their files."""
    import pandas

    parts = {
        "losses": _losses,
        "comparisons": lambda _: [pair._asdict() for pair in ranking.comparisons],
        "trials": _trials,
        "seeds": _seeds,
        "tuning_curves": _tuning_curves,
        "learning_rates": _learning_rates,
        "targets": _targets,
        "profiles": _profiles,
        "seconds": _seconds,
    }
    tables = {name: pandas.DataFrame(list(part(ranking))) for name, part in parts.items()}
    return {name: table for name, table in tables.items() if len(table)}


Rows = Iterator[dict[str, Any]]


def _each(ranking: Ranking) -> Iterator[tuple[int, int, dict[str, Any], Outcome]]:
    """Each contender on each task: their numbers, the first cells of a row, and the outcome."""
    for c, row in enumerate(ranking.outcomes):
        for t, outcome in enumerate(row):
            names = {"contender": ranking.contenders[c], "task": ranking.tasks[t]}
            yield c, t, names, outcome


def _losses(ranking: Ranking) -> Rows:
    for _, _, names, outcome in _each(ranking):
        median, low, high = median_and_interval(outcome.losses)
        diverged = int(np.isinf(outcome.validation).sum())
        yield names | {"median": median, "low": low, "high": high, "diverged_trials": diverged}


def _trials(ranking: Ranking) -> Rows:
    for _, _, names, outcome in _each(ranking):
        for i, loss in enumerate(outcome.validation):
            best = {"is_best": i == outcome.best, "is_best_of_group": i in outcome.winners}
            values = {name: value[i] for name, value in outcome.hyperparameters.items()}
            yield names | {"trial": i, "validation_loss": loss} | best | values


def _seeds(ranking: Ranking) -> Rows:
    for _, _, names, outcome in _each(ranking):
        for trial, losses in zip(outcome.winners, outcome.test, strict=True):
            for seed, loss in enumerate(losses):
                yield names | {"trial": trial, "seed": seed, "test_loss": loss}


def _tuning_curves(ranking: Ranking) -> Rows:
    for _, _, names, outcome in _each(ranking):
        for i, values in enumerate(zip(*tuning_curve(outcome.validation), strict=True)):
            median, low, high = values
            yield names | {"trials": i + 1, "median": median, "low": low, "high": high}


def _learning_rates(ranking: Ranking) -> Rows:
    for _, _, names, outcome in _each(ranking):
        for values in zip(*(sensitivity(outcome) or ()), strict=True):
            fields = zip(("learning_rate", "trials", "lowest", "median"), values, strict=True)
            yield names | dict(fields)


def _targets(ranking: Ranking) -> Rows:
    for _, t, names, outcome in _each(ranking):
        target = ranking.targets[t]
        steps = steps_to_target(outcome, ranking.steps_per_epoch[t], target)
        for seed, count in enumerate(() if steps is None else steps):
            yield names | {"target": target, "seed": seed, "steps": count}


def _profiles(ranking: Ranking) -> Rows:
    if not ranking.steps.size:
        return
    factors, shares = profile(medians(ranking.steps))
    for name, row in zip(ranking.contenders, shares, strict=True):
        for factor, share in zip(factors, row, strict=True):
            yield {"contender": name, "factor": factor, "share_of_tasks": share}


def _seconds(ranking: Ranking) -> Rows:
    for _, t, names, outcome in _each(ranking):
        row = names | {"seconds_per_step": outcome.seconds}
        steps = steps_to_target(outcome, ranking.steps_per_epoch[t], ranking.targets[t])
        if steps is not None:
            row["seconds_to_target"] = float(medians(steps)) * outcome.seconds
        yield row
