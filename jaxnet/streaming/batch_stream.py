"""`BatchStream`: batches from an iterator whose position can be saved and restored."""

import dataclasses
import json
from typing import Any, Protocol, runtime_checkable

from jaxnet.core import checks
from jaxnet.streaming.stream import BLOCK_BYTES


@runtime_checkable
class RestorableIterator(Protocol):
    """An iterator over batches that can say and set its position, such as one of grain's."""

    def __next__(self) -> tuple[Any, ...]:
        """Returns the next batch, `(inputs, targets)` or `(inputs, targets, weights)`."""
        ...

    def get_state(self) -> Any:
        """Returns the position, as something that JSON can represent."""
        ...

    def set_state(self, state: Any, /) -> Any:
        """Goes to a position that `get_state` returned."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class BatchStream:
    """Batches from an iterator that shuffles, decodes or augments data, for `fit`.

    The iterator decides what is in a batch, and its order. `fit` calls it in a thread, some
    batches ahead, and saves its position in every checkpoint, so that a run is resumed with the
    next batch. When `fit` returns, the iterator is where training stopped.

    The iterators of grain can do this: `iter(dataset.shuffle(0).repeat().batch(128))`. jaxnet does
    not need grain.

    Attributes:
        iterator: `next(iterator)` returns `(inputs, targets)` or `(inputs, targets, weights)` as
            NumPy arrays, of as many rows as the `batch_size` of `fit`, or fewer at the end of an
            epoch. `get_state()` returns the position, as something that JSON can represent, and
            `set_state(position)` goes there.
        batches: the number of batches in an epoch. The iterator must not end before all epochs
            have been made.
        block_bytes: the memory of the batches that are copied to the device together.

    Raises:
        TypeError, ValueError: an invalid argument.
    """

    iterator: RestorableIterator
    batches: int
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        checks.enter("BatchStream", self._check)

    def _check(self) -> None:
        if not isinstance(self.iterator, RestorableIterator):
            raise checks.InvalidType(
                "expected an iterator with __next__, get_state and set_state. Received: "
                f"{checks.describe(self.iterator)}"
            )
        object.__setattr__(self, "batches", checks.integer("batches", self.batches, 1))
        object.__setattr__(self, "block_bytes", checks.integer("block_bytes", self.block_bytes, 1))

    def position(self) -> Any:
        """The position of the iterator.

        Raises:
            InvalidType: JSON cannot represent it.
        """
        position = self.iterator.get_state()
        try:
            return json.loads(json.dumps(position))
        except (TypeError, ValueError):
            raise checks.InvalidType(
                "expected the position of the iterator as something that JSON can represent. "
                f"Received: {checks.describe(position)}"
            ) from None
