"""A small ranking from end to end: fair, paired, reproducible, and robust to divergence."""

import json
import pickle
from pathlib import Path

import helpers
import jax
import numpy as np
import optax
import pandas
import pytest

import jaxnet
from jaxnet.ranking import (
    Contender,
    LogUniform,
    cosine,
    make_task,
    rank_optimizers,
    repeat_ranking,
    save_ranking,
    standard_tasks,
)
from jaxnet.ranking.figures import make_figures
from jaxnet.ranking.report import make_tables
from jaxnet.ranking.spaces import fold_name

X = np.linspace(-1, 1, 48, dtype=np.float32)[:, None]
TASK = make_task(
    "square", jaxnet.mlp([1, 4, 1]), jaxnet.squared_error, (X, X**2), batch_size=6, epochs=5
)._replace(target=0.1)
GOOD, WILD = LogUniform(0.01, 0.2), LogUniform(1e8, 1e9)
CONTENDERS = [
    Contender("good", jaxnet.sgd, {"learning_rate": GOOD}),
    Contender("good, cosine", jaxnet.sgd, {"learning_rate": GOOD}, cosine),
    Contender("wild", jaxnet.sgd, {"learning_rate": WILD}),
]
KEY, OTHER_KEY = jax.random.key(7), jax.random.key(8)
SIZES = {"trials": 16, "seeds": 3, "progress": False}
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: COMPILED.append(event) if "backend_compile" in event else None
)


@pytest.fixture(autouse=True)
def as_users_do():
    """optax needs implicit promotion; runs are repeated with the same keys on purpose."""
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def ranking():
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        return rank_optimizers(CONTENDERS, [TASK], key=KEY, **SIZES)


@pytest.fixture(scope="module")
def folder(ranking, tmp_path_factory):
    path = tmp_path_factory.mktemp("ranking") / "new" / "folder"
    save_ranking(ranking, path)
    return path


def test_runs_with_fresh_seeds_are_those_of_train(ranking):
    """The best trial, with the data of the task, its schedule, and the parameters of `train`."""
    outcome = ranking.outcomes[1][0]
    rate = float(outcome.hyperparameters["learning_rate"][outcome.best])
    optimizer = jaxnet.sgd(optax.cosine_decay_schedule(rate, 20))
    options = {"epochs": 5, "batch_size": 6, "validation": TASK.validation}

    @jax.jit
    def run(key):
        state, history = jaxnet.train(
            TASK.network, TASK.loss, optimizer, TASK.train, key=key, **options
        )
        outputs = TASK.network.apply(state.best.parameters, TASK.test.inputs)
        return history["validation_cost"], TASK.loss(outputs, TASK.test.targets).mean()

    key = jax.random.split(fold_name(KEY, "square"), 3)[2]
    with helpers.unchecked():
        history, test = run(jax.random.split(key, 3)[1])
    np.testing.assert_allclose(outcome.history[1], history, rtol=1e-4)
    assert outcome.losses[1] == pytest.approx(float(test), rel=1e-4)


def test_the_best_of_all_and_of_each_group_are_chosen_by_validation(ranking):
    for outcome in (ranking.outcomes[0][0], ranking.outcomes[1][0]):
        assert outcome.best == np.argmin(outcome.validation)
        groups = np.arange(16).reshape(4, 4)
        winners = tuple(group[np.argmin(outcome.validation[group])] for group in groups)
        assert outcome.winners == winners
        assert (outcome.losses == outcome.test[outcome.winners.index(outcome.best)]).all()


def test_divergence_counts_as_the_worst_and_never_wins(ranking):
    outcome = ranking.outcomes[2][0]
    assert np.isinf(outcome.validation).all()
    assert np.isinf(outcome.test).all()
    assert ranking.order[-1] == 2
    assert ranking.verdict("wild", "good") == "worse"
    assert ranking.verdict("good", "wild") == "better"


def test_a_contender_does_not_depend_on_the_others(ranking):
    with helpers.unchecked():
        alone = rank_optimizers([CONTENDERS[2], CONTENDERS[0]], [TASK], key=KEY, **SIZES)
    first, second = alone.outcomes[1][0], ranking.outcomes[0][0]
    np.testing.assert_equal(
        first._replace(seconds=0.0)._asdict(), second._replace(seconds=0.0)._asdict()
    )


def test_one_program_makes_all_runs_of_contenders_that_differ_in_values_alone(ranking):
    """Schedules and spaces too: with another key, nothing is compiled."""
    COMPILED.clear()
    with helpers.unchecked():
        other = rank_optimizers(CONTENDERS[:2], [TASK], key=OTHER_KEY, **SIZES)
    assert COMPILED == []
    assert (other.losses != ranking.losses[:2]).all()


def test_steps_to_the_target_are_counted_in_epochs(ranking):
    assert ranking.steps.shape == (3, 1, 3)
    for row, steps in zip(ranking.outcomes, ranking.steps[:, 0], strict=True):
        for history, count in zip(row[0].history, steps, strict=True):
            reached = [4 * (i + 1) for i, loss in enumerate(history) if loss <= 0.1]
            assert count == (reached[0] if reached else np.inf)
    assert np.isfinite(ranking.steps[0]).all()
    assert np.isinf(ranking.steps[2]).all()


def test_it_prints_as_a_table(ranking):
    lines = str(ranking).splitlines()
    pairs = [pair.verdict for pair in ranking.comparisons]
    told = len(pairs) - pairs.count("cannot be told")
    assert lines[0].endswith(f"lower is better. {told} of 3 pairs can be told apart.")
    assert lines[2].split() == ["square", "better", "than", "worse", "than"]
    assert lines[-1].split() == ["wild", "inf", "0", "2"]
    median = f"{np.median(ranking.losses[0, 0]):.4g}"
    assert next(line for line in lines if line.startswith("good ")).split()[1] == median


def test_it_can_be_pickled(ranking):
    again = pickle.loads(pickle.dumps(ranking))
    assert again.comparisons == ranking.comparisons
    assert str(again) == str(ranking)


def test_a_saved_ranking_is_repeated_to_the_byte(folder):
    with helpers.unchecked():
        again = repeat_ranking(folder, CONTENDERS, [TASK], progress=False)
    tables = make_tables(again)
    assert {path.stem for path in folder.glob("*.csv")} == tables.keys()
    assert len(tables) == 9
    for name in tables.keys() - {"seconds"}:
        text = tables[name].to_csv(index=False, lineterminator="\n")
        assert (folder / f"{name}.csv").read_bytes() == text.encode(), name
    assert json.loads((folder / "manifest.json").read_text()) == again.settings
    assert not list(folder.glob(".*"))  # nothing unfinished


def test_the_tables_contain_the_results(ranking, folder):
    def read(name):
        return pandas.read_csv(folder / f"{name}.csv")

    trials = read("trials")
    assert len(trials) == 3 * 16
    first = trials[(trials.contender == "good") & (trials.task == "square")]
    np.testing.assert_array_equal(first.validation_loss, ranking.outcomes[0][0].validation)
    assert trials.is_best.sum() == 3 and trials.is_best_of_group.sum() == 12
    seeds = read("seeds")
    tests = [outcome.test.ravel() for row in ranking.outcomes for outcome in row]
    np.testing.assert_array_equal(seeds.test_loss, np.concatenate(tests))
    comparisons = read("comparisons")
    assert tuple(comparisons.verdict) == tuple(pair.verdict for pair in ranking.comparisons)
    np.testing.assert_array_equal(comparisons.p_value, [p.p_value for p in ranking.comparisons])
    curves = read("tuning_curves")
    assert (curves.low <= curves["median"]).all() and (curves["median"] <= curves.high).all()


def test_the_manifest_says_what_the_results_depend_on(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["key"]["data"] == jax.random.key_data(KEY).tolist()
    space = manifest["contenders"][0]["space"]["learning_rate"]
    assert space == {"kind": "LogUniform", "low": 0.01, "high": 0.2}
    assert manifest["versions"]["jax"] == jax.__version__
    assert (manifest["trials"], manifest["seeds"]) == (16, 3)


CHANGES = {
    "another optimizer": (
        [
            *CONTENDERS[:2],
            CONTENDERS[2]._replace(make=lambda learning_rate: jaxnet.sgd(learning_rate, 0.1)),
        ],
        [TASK],
        "expected manifest/programs/wild/square as it was",
    ),
    "another loss": (
        CONTENDERS,
        [TASK._replace(loss=jaxnet.absolute_error)],
        "expected manifest/programs/good/square as it was",
    ),
    "a space": (
        [CONTENDERS[0]._replace(space={"learning_rate": LogUniform(0.01, 0.3)}), *CONTENDERS[1:]],
        [TASK],
        "expected manifest/contenders/0/space/learning_rate/high as it was, 0.2. Received: 0.3",
    ),
    "the data": (
        CONTENDERS,
        [TASK._replace(test=TASK.train)],
        "expected manifest/tasks/0/data as it was, ",
    ),
    "a schedule": (
        [CONTENDERS[0]._replace(schedule=cosine), *CONTENDERS[1:]],
        [TASK],
        "expected manifest/contenders/0/schedule as it was, ",
    ),
    "more tasks": (CONTENDERS, [TASK] * 2, "expected manifest/tasks as it was, "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_ranking_is_not_taken_for_a_repetition(folder, name):
    contenders, tasks, said = CHANGES[name]
    with helpers.refused(ValueError, f"repeat_ranking: {said}"):
        repeat_ranking(folder, contenders, tasks)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        repeat_ranking(tmp_path, CONTENDERS, [TASK])
    (tmp_path / "manifest.json").write_text("{}")
    with helpers.refused(ValueError, "repeat_ranking: expected a manifest of save_ranking."):
        repeat_ranking(tmp_path, CONTENDERS, [TASK])
    with helpers.refused(TypeError, "repeat_ranking: expected folder as a string or a pathlib"):
        repeat_ranking(3, CONTENDERS, [TASK])


def test_only_a_ranking_is_saved(tmp_path, ranking):
    with helpers.refused(TypeError, "save_ranking: expected ranking of type Ranking. Received: "):
        save_ranking({}, tmp_path)
    with helpers.refused(TypeError, "save_ranking: expected folder as a string or a pathlib.Path"):
        save_ranking(ranking, 3)


def test_figures(ranking, folder):
    """They show the numbers of the ranking; one is drawn for each result."""
    names = {"losses", "comparisons", "tuning_curves", "learning_rates", "targets", "profiles"}
    assert {path.stem for path in folder.glob("*.png")} == names
    figures = make_figures(ranking)
    panel = figures["losses"].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        ranking.contenders[i] for i in ranking.order
    ]
    points = panel.lines[0].get_xdata()
    expected = [np.median(ranking.losses[i, 0]) for i in ranking.order[:2]]
    np.testing.assert_allclose(points, expected)
    assert [axes.get_title() for axes in figures["targets"].axes] == ["square"]


CALLS = {
    "no list": (
        lambda c, t: rank_optimizers(c[0], t, key=KEY),
        "expected a list of at least one of contenders. Received: Contender ",
    ),
    "no tasks": (
        lambda c, t: rank_optimizers(c, [], key=KEY),
        "expected a list of at least one of tasks. Received: list []",
    ),
    "one contender": (
        lambda c, t: rank_optimizers(c[:1], t, key=KEY),
        "expected at least two contenders. Received: 1",
    ),
    "an optimizer": (
        lambda c, t: rank_optimizers([jaxnet.sgd(0.1)] * 2, t, key=KEY),
        "expected each contender of type Contender. Received: GradientTransformation",
    ),
    "a name twice": (
        lambda c, t: rank_optimizers([*c, c[1]], t, key=KEY),
        "expected contenders of different names. Received: 'good, cosine' 2 times",
    ),
    "a task twice": (
        lambda c, t: rank_optimizers(c, [t[0], t[0]], key=KEY),
        "expected tasks of different names. Received: 'square' 2 times",
    ),
    "a tuple for a task": (
        lambda c, t: rank_optimizers(c, [(X, X)], key=KEY),
        "expected each task of type Task. Received: tuple ",
    ),
    "a seed": (
        lambda c, t: rank_optimizers(c, t, key=0),
        "expected one key made by jax.random.key(seed). Received: int 0",
    ),
    "few trials": (
        lambda c, t: rank_optimizers(c, t, key=KEY, trials=7),
        "expected trials of at least 8. Received: 7",
    ),
    "one seed": (
        lambda c, t: rank_optimizers(c, t, key=KEY, seeds=1),
        "expected seeds of at least 2. Received: 1",
    ),
    "progress": (
        lambda c, t: rank_optimizers(c, t, key=KEY, progress="yes"),
        "expected True or False for progress. Received: str 'yes'",
    ),
    "no epochs": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(epochs=0)], key=KEY),
        "task 'square': expected epochs of at least 1. Received: 0",
    ),
    "no network": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(network=3)], key=KEY),
        "task 'square': expected ",
    ),
    "no validation data": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(validation=None)], key=KEY),
        "task 'square': expected validation as a tuple (inputs, targets) or ",
    ),
    "missing values": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(test=(X * np.nan, X))], key=KEY),
        "task 'square': expected finite inputs of test. Received: nan at index (0, 0)",
    ),
    "no target": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(target="low")], key=KEY),
        "task 'square': expected a number for target. Received: str 'low'",
    ),
    "no name": (
        lambda c, t: rank_optimizers(c, [t[0]._replace(name=None)], key=KEY),
        "expected a task with a name. Received: NoneType None",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_refused_before_anything_is_compiled(name):
    call, said = CALLS[name]
    COMPILED.clear()
    with helpers.refused((TypeError, ValueError), f"rank_optimizers: {said}"):
        call(CONTENDERS, [TASK])
    assert COMPILED == []


def test_a_verdict_is_about_contenders(ranking):
    with helpers.refused(ValueError, "Ranking.verdict: expected two contenders of good, "):
        ranking.verdict("good", "bad")


def test_a_task_is_made_of_a_table():
    """Halves and quarters that share no row, on the scale of the training data."""
    rows = np.arange(41.0)[:, None] * [1.0, 3.0] + [0.0, 5.0]
    inputs = np.column_stack([rows, np.full(41, 2.0)])
    network = jaxnet.mlp([3, 1])
    task = make_task(
        "t", network, jaxnet.squared_error, (inputs, rows[:, :1]), batch_size=8, epochs=3
    )
    parts = [np.asarray(part.targets)[:, 0] for part in (task.train, task.validation, task.test)]
    assert [len(part) for part in parts] == [20, 10, 11]
    assert sorted(np.concatenate(parts)) == list(range(41))
    np.testing.assert_allclose(task.train.inputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(task.train.inputs.std(0), [1, 1, 0], atol=1e-6)
    expected = (parts[2] - parts[0].mean()) / parts[0].std()
    np.testing.assert_allclose(task.test.inputs[:, 1], expected, rtol=1e-5)
    assert (task.steps_per_epoch, task.steps) == (3, 9)
    with helpers.refused(ValueError, "make_task: expected at least 4 examples. Received: 3"):
        make_task("t", network, jaxnet.squared_error, (X[:3], X[:3]), batch_size=1, epochs=1)


def test_the_standard_tasks_have_the_data_of_scikit_learn():
    tasks = {task.name: task for task in standard_tasks()}
    sizes = {
        "digits": 1797,
        "wine": 178,
        "breast cancer": 569,
        "diabetes": 442,
        "digits autoencoder": 1797,
        "step neurons": 1797,
        "fruit": 600,
    }
    assert {
        name: sum(len(part[0]) for part in (task.train, task.validation, task.test))
        for name, task in tasks.items()
    } == sizes


def test_the_table_of_fruit_is_that_of_the_examples():
    copy = Path(jaxnet.__file__).parent / "ranking" / "fruit.csv"
    original = Path(__file__).resolve().parents[2] / "examples" / "fruit.csv"
    assert copy.read_bytes() == original.read_bytes()
