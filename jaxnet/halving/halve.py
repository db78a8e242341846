"""Successive halving: many members start, and the best ones go on."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet.core import checks
from jaxnet.core.console import note_interrupts, progress_bar
from jaxnet.halving.members import Advance, Member, Start, from_plain, trace_members
from jaxnet.halving.result import Finalist, Halving
from jaxnet.halving.rungs import Rung, States
from jaxnet.sweeping.chunks import Chunk, compile_runs
from jaxnet.sweeping.grid import Grid, make_grid
from jaxnet.sweeping.run import check_signature
from jaxnet.sweeping.schedule import Programs, run_chunks

_MOST_ON_CPU = 4  # side by side: more save little time, and few members may be left


@checks.door
def halve(
    start: Start,
    run: Advance,
    grid: Mapping[str, Any],
    *,
    rungs: Sequence[int],
    factor: int = 3,
    structural: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    zipped: bool = False,
    largest: bool = False,
    memory: float | None = None,
    progress: bool = True,
) -> Halving:
    """Starts a member for every combination of hyperparameters, and lets only the best go on.

    This is successive halving. All members are advanced to the first rung, a number of calls of
    `run`. The best of them, one in `factor`, are advanced to the next rung, and so on. With rungs
    that grow by the same factor, every rung takes about as much time, so 1,000 members in 5 rungs
    take a twentieth of the time of a sweep.

    Each score equals that of `start` and as many calls of `run` alone, up to summation order. All
    rungs share one compiled program for each combination of structural values. Ctrl-C finishes the
    members that are running, and returns what is known; a second Ctrl-C raises KeyboardInterrupt
    immediately.

    Args:
        start: `start(**hyperparameters) -> state`, a pure function that returns any tree of arrays.
            See `Start`.
        run: `run(state, **hyperparameters) -> (state, score)`, a pure function that advances a
            member by one unit, typically an epoch of `train`. The score is one real number. See
            `Advance`.
        grid, structural, zipped, memory, progress: as for `sweep`.
        rungs: increasing numbers of calls of `run` in total, at least 1.
        factor: at each rung but the last, one in `factor` of the members goes on, rounded up; at
            least 2. Those with a non-finite score are the worst. Of equal scores, those that come
            first in the grid are better.
        largest: whether a larger score is better.

    The states of all members of the first rung are in the host's memory. With validation data,
    `train` adds the best parameters to the state. Then the first call of `run` is compiled on its
    own, which takes half as long again. A score that `run` computes by `network.apply` avoids that.

    Returns:
        The scores of all members, how far each got, and the states of those in the last rung.

    Raises:
        TypeError: as for `sweep`; `run` returns no pair, or a score that is not one real number.
        ValueError: as for `sweep`; rungs that are not increasing; `run` changes the structure, the
            shapes or the dtypes of the state.

        Errors raised by `start` and `run` are not changed.

    Reference: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter
    optimization, 2016; Li et al., Hyperband, 2018.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnet import initial_state, mlp, sgd, squared_error, train
    >>> x = jnp.linspace(-1.0, 1.0, 48)[:, None]
    >>> data, held_out = (x[::2], x[::2] ** 2), (x[1::2], x[1::2] ** 2)
    >>> network, sizes = mlp([1, 8, 1]), {"epochs": 1, "batch_size": 8}
    >>> def start(key, rate):
    ...     return initial_state(network, sgd(rate), key=key)
    >>> def run(state, key, rate):
    ...     state, history = train(network, squared_error, sgd(rate), data, key=key, **sizes,
    ...                            validation=held_out, state=state)
    ...     return state, history["validation_cost"][-1]
    >>> grid = {"rate": jnp.logspace(-4, 0, 9), "key": jax.random.split(jax.random.key(0), 9)}
    >>> found = halve(start, run, grid, rungs=(1, 3, 9), zipped=True)
    >>> sorted(found.calls.tolist())
    [1, 1, 1, 1, 1, 1, 3, 3, 9]
    >>> round(float(found.best.hyperparameters["rate"]), 2)
    0.32
    """
    checks.function("start", start)
    checks.function("run", run)
    rungs = _check_rungs(rungs)
    factor = checks.integer("factor", factor, 2)
    for name, value in (("zipped", zipped), ("largest", largest), ("progress", progress)):
        checks.boolean(name, value)
    if memory is not None:
        memory = checks.number("memory", memory, 1)
    axes = make_grid(grid, structural, zipped)
    names = [*axes.structural, *axes.values]
    check_signature(start, names, "start")
    check_signature(run, names, has_state=True)
    members = trace_members(start, run, axes)
    scores = np.full((axes.runs, len(rungs)), np.nan, jnp.result_type(float))
    calls, last = np.zeros(axes.runs, int), None
    for place, rung in enumerate(_climb(members, axes, rungs, factor, largest, memory, progress)):
        scores[rung.known, place], calls[rung.known] = rung.scores, rungs[place]
        last = rung if len(rung.known) else last
    finalists = () if last is None else tuple(_finalists(last, members, axes, largest))
    scores, calls = scores.reshape(*axes.shape, -1), calls.reshape(axes.shape)
    return Halving(axes.values, axes.structural, zipped, rungs, scores, calls, finalists)


def _climb(
    members: list[Member],
    axes: Grid,
    rungs: tuple[int, ...],
    factor: int,
    largest: bool,
    memory: float | None,
    progress: bool,
) -> Iterator[Rung]:
    """Yields every rung when its members have been advanced; an interrupted one is the last."""
    counts = [axes.runs]
    for _ in rungs[1:]:
        counts.append(-(-counts[-1] // factor))
    spans = list(map(range, (0, *rungs), rungs))
    total = sum(count * len(span) for count, span in zip(counts, spans, strict=True))
    compiled = functools.cache(
        lambda number: compile_runs(members[number].traced, axes.runs_each, memory, _MOST_ON_CPU)
    )
    left, states = np.arange(axes.runs), States()
    with progress_bar(total, "call", progress) as bar, note_interrupts("halve") as interrupted:
        for count, span in zip(counts, spans, strict=True):
            left = np.sort(left[:count])
            rung = Rung(axes, left, {n: states[n] for n in left.tolist() if n in states}, span)
            _advance(rung, members, compiled, interrupted, bar)
            yield rung
            if interrupted():
                return
            left, states = rung.rank(largest), rung.states


def _advance(
    rung: Rung,
    members: list[Member],
    compiled: Callable[[int], Any],
    interrupted: Callable[[], Any],
    bar: Any,
) -> None:
    """Runs the programs of a rung, or some of them if interrupted."""

    def make(number: int) -> Chunk:
        program, size = compiled(number)
        blank = members[number].blank_state()
        return Chunk(program, size, functools.partial(rung.arguments, blank=blank))

    before = bar.n

    def update(complete: int) -> None:
        bar.update(before + complete * len(rung.calls) - bar.n)

    with contextlib.closing(Programs(make)) as programs:
        run_chunks(programs, rung.groups, rung.results, rung, interrupted, update)


def _finalists(rung: Rung, members: list[Member], axes: Grid, largest: bool) -> Iterator[Finalist]:
    """Yields the members of the last rung, the best first."""
    scores = dict(zip(rung.known.tolist(), rung.scores.tolist(), strict=True))
    for number in rung.rank(largest).tolist():
        place = tuple(int(i) for i in np.unravel_index(number, axes.shape))
        state = from_plain(rung.states[number], members[number // axes.runs_each].state)
        yield Finalist(place, axes.at(place), scores[number], state)


def _check_rungs(rungs: Any) -> tuple[int, ...]:
    if isinstance(rungs, str) or not isinstance(rungs, (Sequence, np.ndarray)) or not len(rungs):
        raise checks.InvalidType(
            "expected rungs as numbers of calls, such as (1, 3, 9, 27). "
            f"Received: {checks.describe(rungs)}"
        )
    rungs = tuple(checks.integer("each of rungs", number, 1, 2**31 - 1) for number in rungs)
    if any(now >= following for now, following in itertools.pairwise(rungs)):
        raise checks.InvalidValue(f"expected increasing rungs. Received: {rungs}")
    return rungs
