"""The arrays that a run reads, padded so that runs on similar data run the same program."""

from typing import Any, NamedTuple

import jax
import numpy as np
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
        has_numbers = self.fingerprint is not None and self.fingerprint.ndim > 0
        axes: Any = RunData
        span: Any = self.span and Span._make([0 if self.span.start.ndim else None, None])
        return axes(
            _find_axes(self.data),
            _find_axes(self.validation),
            0,
            None,
            0 if has_numbers else None,
            span,
        )

    def member(self, index: int) -> "RunData":
        """The arrays of one member, without padding."""
        validation = None if self.validation is None else _take_weights(self.validation, index)
        span = self.span
        if span is not None and span.start.ndim:
            span = span._replace(start=span.start[index])
        data = _take_weights(self.data, index)
        return RunData(data, validation, self.key[index], span=span)

    def batches(self, batch_size: int | None) -> Batches:
        """The batches of the training data."""
        return Batches(self.data, self.key, batch_size, self.length, self.span)


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
    number = np.asarray(_fingerprint(on_host, batch_size, 0))
    if any(map(_has_weights, on_host)):
        number = np.array([_fingerprint(on_host, batch_size, i) for i in range(len(key))])
    number_of_data = place_like(data.inputs, number)
    return plain, padded._replace(validation=pad(scaled[1]), fingerprint=number_of_data)


def _fingerprint(parts: list[Data], batch_size: int | None, member: int) -> Any:
    data, validation = (_take_weights(part, member) for part in parts)
    return fingerprint(data, validation, batch_size)


def _has_weights(data: Data) -> bool:
    """Whether each member has weights of its own."""
    return data.weights is not None and data.weights.ndim > 1


def _find_axes(data: Data | None) -> Any:
    axes: Any = Data
    return None if data is None else axes(None, None, 0 if _has_weights(data) else None)


def _take_weights(data: Data, member: int) -> Data:
    """The data with the weights of a member."""
    if data.weights is None or data.weights.ndim == 1:
        return data
    return data._replace(weights=data.weights[member])
