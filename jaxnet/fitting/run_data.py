"""The arrays that a run reads, padded so that runs on similar data run the same program."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from jaxnet.training.batches import Batches
from jaxnet.training.data import Data, can_be_padded, pad, place_like
from jaxnet.training.objective import scale_weights
from jaxnet.training.state import fingerprint


class RunData(NamedTuple):
    """The arrays that a run reads.

    Attributes:
        data, validation: with scaled weights.
        key: the key of the run.
        length: the number of examples, if padding follows after them; None if not.
        fingerprint: of data and validation without padding; None to compute it in the program.
    """

    data: Data
    validation: Data | None
    key: Key[Array, ""]
    length: Int[Array, ""] | None = None
    fingerprint: UInt32[Array, ""] | None = None

    def batches(self, batch_size: int | None) -> Batches:
        """The batches of the training data."""
        return Batches(self.data, self.key, batch_size, self.length)


def make_run_data(
    data: Data,
    validation: Data | None,
    batch_size: int | None,
    key: Key[Array, ""],
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
    number = np.asarray(fingerprint(on_host[0], on_host[1], batch_size))
    number_of_data = place_like(data.inputs, number)
    return plain, padded._replace(validation=pad(scaled[1]), fingerprint=number_of_data)
