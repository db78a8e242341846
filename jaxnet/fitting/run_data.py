"""The arrays that a run reads, padded so that runs on similar data run the same program."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Int, Key, UInt32

from jaxnet.training.batches import Batches, Span
from jaxnet.training.data import Data, can_be_padded, pad, place_like
from jaxnet.training.objective import scale_weights
from jaxnet.training.state import fingerprint


class RunData(NamedTuple):
    """The arrays that a run reads.

    Attributes:
        data, validation: with scaled weights; the members of a run may have weights of their own.
        key: the key of the run, or one for each member.
        length: the number of examples, if padding follows after them; None if not.
        fingerprint: of data and validation without padding, which may differ between members; None
            to compute it in the program.
        span: of the training, if the network depends on it.
    """

    data: Data
    validation: Data | None
    key: Key[Array, "..."]
    length: Int[Array, ""] | None = None
    fingerprint: UInt32[Array, "..."] | None = None
    span: Span | None = None

    @property
    def members(self) -> int | None:
        """The number of networks that are trained; None for one without an axis of members."""
        return len(self.key) if self.key.ndim else None

    def axes(self) -> Any:
        """The axis of the members in each array, as `jax.vmap` takes it."""
        data, validation = (
            part and Data._make([None, None, _find_axis(part.weights, 1)])
            for part in (self.data, self.validation)
        )
        span = self.span and Span._make([_find_axis(self.span.start, 0), None])
        return RunData._make([data, validation, 0, None, _find_axis(self.fingerprint, 0), span])

    def member(self, index: int) -> "RunData":
        """The arrays of one member."""

        def take(axis: int | None, part: Any) -> Any:
            return part if axis is None else part[index]

        member: RunData = jax.tree.map(take, self.axes(), self, is_leaf=lambda axis: axis is None)
        return member

    def batches(self, batch_size: int | None, sharding: NamedSharding | None = None) -> Batches:
        """The batches of the training data."""
        return Batches(self.data, self.key, batch_size, self.length, self.span, sharding)


def make_run_data(
    data: Data,
    validation: Data | None,
    batch_size: int | None,
    key: Key[Array, "..."],
    *,
    may_pad: bool,
) -> tuple[RunData, RunData]:
    """What a run reads, and the same with padding if it may be padded and is small."""
    given = [part for part in (data, validation) if part is not None]
    scaled = [scale_weights(part) for part in given]
    plain = RunData(scaled[0], None if validation is None else scaled[1], key)
    if not may_pad or not all(can_be_padded(*part) for part in given):
        return plain, plain
    length = place_like(data.inputs, np.array(len(data.inputs), np.int32))
    padded = RunData(pad(scaled[0]), None, key, length)
    if validation is None:
        return plain, padded
    on_host: list[Data] = jax.tree.map(np.asarray, given)
    several = any(_find_axis(part.weights, 1) is not None for part in on_host)
    numbers = [_fingerprint(on_host, batch_size, i) for i in range(len(key) if several else 1)]
    number = place_like(data.inputs, np.array(numbers if several else numbers[0]))
    return plain, padded._replace(validation=pad(scaled[1]), fingerprint=number)


def _find_axis(array: Any, dimensions: int) -> int | None:
    """0 if an array has an axis of members, in front of its own dimensions."""
    return None if array is None or array.ndim == dimensions else 0


def _fingerprint(parts: list[Data], batch_size: int | None, member: int) -> Any:
    """The fingerprint of data and validation with the weights of a member."""
    data, validation = (
        part._replace(weights=part.weights[member])
        if part.weights is not None and part.weights.ndim > 1
        else part
        for part in parts
    )
    return fingerprint(data, validation, batch_size)
