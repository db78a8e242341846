"""Advances a run on a stream by one block per call of one compiled program.

`StreamTrainer` stands in for a `Trainer`. The data do not fit into memory, so the host goes from
block to block: it counts them, and adds up the means of an epoch in float64.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnet.core import checks, compilation
from jaxnet.core.finite import is_finite
from jaxnet.core.sharding import fetch, put
from jaxnet.debug.replay import NonFiniteStep, find_step
from jaxnet.fitting import program, stream_program
from jaxnet.fitting.program import place_run
from jaxnet.fitting.stream_program import BlockArrays, Place, StreamRun, to_number
from jaxnet.fitting.trainer import (
    Advanced,
    Failing,
    History,
    Rows,
    Trainer,
)
from jaxnet.streaming.ahead import read_ahead
from jaxnet.streaming.blocks import iterate
from jaxnet.streaming.feeds import (
    BatchFeed,
    Feed,
    identify,
)
from jaxnet.streaming.reading import Block, Examples
from jaxnet.streaming.stream import Stream
from jaxnet.streaming.targets import TargetCheck
from jaxnet.training.data import SLICE, Data, block_data, place_block, slices, warn_of_scale
from jaxnet.training.evaluation import (
    mean_over_data,
    mean_over_stream,
)
from jaxnet.training.objective import check_examples
from jaxnet.training.state import TrainState


class StreamTrainer:
    """A plan and a stream: all that a run needs, and the thread that reads ahead.

    Attributes:
        plan, state, arrays: as in a `Trainer`, of a run on a few rows.
        shape: `()`, since a run on a stream has no members.
    """

    def __init__(
        self,
        inner: Trainer,
        feed: Feed,
        validation: Data | Stream | None,
        epochs: int,
    ) -> None:
        """Starts nothing yet.

        Args:
            inner: the trainer of a run on a few rows, which calls the user's functions in the same
                way.
            feed: the blocks.
            validation: held-out data, with scaled weights.
            epochs: at most; no block is read beyond.
        """
        self.plan, self.state, self.arrays, self.shape = inner.plan, inner.state, inner.arrays, ()
        self.inner, self._feed, self._validation, self._epochs = inner, feed, validation, epochs
        self._first = 0  # the number of epochs on the same data before this run
        self._reader: Generator[Block, None, None] | None = None
        self._block: Block | None = None
        self._arrays: BlockArrays | None = None
        self._position: Any = None  # of the iterator, after the last block
        self._check_targets = TargetCheck(self._check_examples, feed.describe)

    def __enter__(self) -> "StreamTrainer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()  # ends the thread
        if self._position is not None:
            self._feed.restore(self._position)

    def _check_examples(self, examples: Examples) -> None:
        objective, parameters = self.plan.objective, self.inner.types.state.parameters
        network, functions = objective.network, objective.functions()
        check_examples(network, functions, parameters, examples, "data")

    # Training.

    def start(self) -> tuple[StreamRun, Any]:
        """The run before its first epoch, and what advances it.

        `advance(run, epochs)` trains on one block, or on none if `epochs` is 0.
        """
        arguments = self.state, self.arrays
        identity = self.inner.functions
        begin = compilation.compile_once(program.begin, (self.plan,), arguments, identity=identity)
        state = place_run(begin(*arguments), self.arrays.data.inputs, self.state).state
        made = int(state.step) - (0 if state.task is None else int(state.task.start))
        self._first = made // self._feed.steps
        position = self._feed.start if isinstance(self._feed, BatchFeed) else None
        place = Place(0, 0, self._no_sums(), position)
        return StreamRun(state, place, self._is_exhausted(state, self._first)), self._advance

    def _advance(self, run: StreamRun, epochs: int) -> Advanced:
        no_rows = np.empty((0, len(self.plan.names())), np.float32)
        if epochs == 0:
            return Advanced(run, no_rows, True, 0)
        self._block = self._arrays = None  # frees them, before the next block is read
        self._block = block = self._read_block(run.place)
        arrays = self._arrays = self._make_arrays(run.place, block)
        train = compilation.compile_once(
            stream_program.train_block,
            (self.plan,),
            (run.state, arrays),
            identity=self.inner.functions,
        )
        state, means, weight = train(run.state, arrays)
        means, weight = np.asarray(means, np.float64), float(weight)
        sums = run.place.sums
        if weight > 0:
            sums = sums + weight * np.array([1, *means])
        place = Place(run.place.epochs, run.place.blocks + 1, sums, block.position)
        run = StreamRun(state, place, False)
        finite = bool(np.isfinite(means[0])) and is_finite(state.parameters)
        self._position = block.position if finite else self._position
        if not finite or place.blocks < self._feed.blocks:
            self._failed = dict.fromkeys(self.plan.costs(), 0.0) | self._means(sums)
            return Advanced(run, no_rows, finite, block.rows)
        run, row = self._finish_epoch(run)
        finite = bool(np.isfinite(row[self.plan.cost_columns()]).all())
        self._failed = self.metrics(row[None])
        return Advanced(run, row[None], finite, block.rows)

    def _read_block(self, place: Place) -> Block:
        """The next block, which has usually been read already."""
        first = self._first
        if self._reader is None:
            places = self._feed.places(
                first + place.epochs, place.blocks, first + self._epochs, place.position
            )
            self._reader = read_ahead(self._feed.load, places)
        block = next(self._reader)
        if place.epochs == place.blocks == 0:
            inputs = block.examples.inputs[: block.rows]
            warn_of_scale(Data(inputs, inputs), inputs)  # type: ignore[arg-type]
        self._check_targets(block)
        return block

    def _make_arrays(self, place: Place, block: Block) -> BlockArrays:
        """Copies a block to the device, which a CPU does not have to."""
        numbers = block.rows, self._first + place.epochs, place.blocks, self._feed.steps
        rows, epoch, number, steps = (to_number(value, np.int32) for value in numbers)
        data = place_block(Data._make(block.examples), self.plan.batch_sharding)
        is_shuffled = to_number(self._feed.is_shuffled, np.bool_)
        key, span = self.arrays.key, self.arrays.span
        return BlockArrays(data, rows, epoch, number, steps, is_shuffled, key, span)

    def _finish_epoch(self, run: StreamRun) -> tuple[StreamRun, Float[np.ndarray, " metrics"]]:
        """Evaluates the validation data, and returns the run and the row of the history."""
        state, place = run.state, run.place
        if place.sums[0] == 0:
            raise checks.InvalidValue("expected weights of data that are not all 0. Received: 0")
        means = self._means(place.sums)
        held_out = self._evaluate(state)
        number, stopping = self._first + place.epochs + 1, self.plan.stopping
        if held_out is not None:
            value = np.asarray(held_out[stopping.monitor])
            arguments = state, value, to_number(number, np.int32)
            keep = compilation.compile_once(stream_program.keep_better, (stopping,), arguments)
            state = keep(*arguments)
            means |= {f"validation_{name}": float(value) for name, value in held_out.items()}
        row = np.array([means[name] for name in self.plan.names()], np.float32)
        place = Place(place.epochs + 1, 0, self._no_sums(), place.position)
        return StreamRun(state, place, self._is_exhausted(state, number)), row

    def _evaluate(self, state: TrainState) -> dict[str, Array] | None:
        """The means over the validation data."""
        network, functions = self.plan.objective.network, self.plan.objective.functions()
        if isinstance(self._validation, Stream):
            name, size, sharding = "validation", SLICE, self.plan.batch_sharding
            return mean_over_stream(
                network, functions, state.parameters, self._validation, name, size, sharding
            )
        if self._validation is None:
            return None
        return mean_over_data(
            network,
            functions,
            state.parameters,
            self._validation,
            sharding=self.plan.batch_sharding,
        )

    def _is_exhausted(self, state: TrainState, epochs: int) -> bool:
        """Whether patience is exhausted after a number of epochs on these data."""
        patience = self.plan.stopping.patience
        if patience is None or state.best is None:
            return False
        return epochs - int(state.best.epoch) >= patience

    def _no_sums(self) -> Float[np.ndarray, " sums"]:
        return np.zeros(1 + len(self.plan.objective.functions()))

    def _means(self, sums: Float[np.ndarray, " sums"]) -> dict[str, float]:
        """The means of an epoch so far; none before its first example."""
        if sums[0] == 0:
            return {}
        return dict(
            zip(self.plan.objective.functions(), (sums[1:] / sums[0]).tolist(), strict=True)
        )

    # What is reported and saved.

    def metrics(self, rows: Rows) -> dict[str, Any]:
        """The last row by name."""
        return self.inner.metrics(rows)

    def shown(self, run: StreamRun, rows: Rows) -> dict[str, Any]:
        """What the progress bar shows: the last row, or the means of the epoch so far."""
        return self.metrics(rows) if len(rows) else self._means(run.place.sums)

    def history(self, rows: Sequence[Rows]) -> History:
        """The columns of several rows by name."""
        return self.inner.history(rows)

    def place(self, run: StreamRun) -> dict[str, Any]:
        """How far a run is within an epoch, for the metadata of a checkpoint."""
        return run.place.to_json()

    def resume(self, start: StreamRun, state: TrainState, epoch: int, place: Any) -> StreamRun:
        """The run of a checkpoint, placed like the start of the run."""
        sums = np.array([float.fromhex(value) for value in place["sums"]])
        state = jax.tree.map(lambda leaf, array: put(leaf, array.sharding), state, start.state)
        ended = place["blocks"] == 0 and self._is_exhausted(state, self._first + epoch)
        return StreamRun(state, Place(epoch, place["blocks"], sums, place["position"]), ended)

    # Failures.

    def find_failing(self, advance: Any, before: StreamRun, rows: Rows) -> Failing:
        """The run before the block that failed, and the cost of its epoch."""
        return Failing(before, rows[:0], self._failed, None)

    def find_failure(self, state: TrainState, _: int | None) -> NonFiniteStep | None:
        """Replays the steps of the last block, and the validation data, from a state."""
        assert self._block is not None and self._arrays is not None
        state, arrays = jax.tree.map(jnp.asarray, fetch((state, self._arrays)))
        plan = self.plan._replace(batch_sharding=None)
        batches, parts = arrays.batches(plan), self._validation_parts()
        failure = find_step(plan.objective, plan.optimizer, state, batches, parts)
        if failure is None or failure.part != "data":
            return failure
        numbers = self._block.numbers()
        return failure._replace(batch=numbers[failure.batch], rows=numbers[failure.rows])

    def _validation_parts(self) -> Iterator[tuple[Int[np.ndarray, " rows"], Data]]:
        """The rows and examples of validation, some at a time."""
        if isinstance(self._validation, Data):
            yield from slices(self._validation)
        elif self._validation is not None:
            for block in iterate(self._validation, "validation", lambda _: None):
                data = block_data(block, None)
                whole = jax.tree.map(lambda array, n=block.rows: array[:n], data)
                for rows, part in slices(whole):
                    yield block.numbers()[rows], part

    # Identity.

    def values(self) -> dict[str, Any]:
        """What decides the numbers of a run, besides its programs."""
        inner = self.inner.values()
        return inner | describe_data(self._feed, self._validation)


def describe_data(feed: Feed, validation: Data | Stream | None) -> dict[str, Any]:
    """What tells whether the data of two runs are the same."""
    held_out = identify(validation) if isinstance(validation, Stream) else validation
    return {"data": feed.identity(), "validation": held_out}
