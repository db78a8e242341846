"""The arrays that a run reads, padded so that runs on similar data run the same program."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from jaxnet.core.settled import settled_key
from jaxnet.training.batches import Batches
from jaxnet.training.data import Data, can_be_padded, pad, place_like
from jaxnet.training.objective import Objective, scale_weights
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


def pad_run(objective: Objective, batch_size: int | None, arrays: RunData) -> RunData:
    """Scales the weights, and pads small data if the functions are jaxnet's.

    Those compute each example by itself. A loss of the user's may compare the examples of a batch
    with each other.

    Args:
        objective, batch_size: those of the run.
        arrays: what the run reads, as the user passed it.
    """
    data, validation = arrays.data, arrays.validation
    parts = [part for part in (data, validation) if part is not None]
    if settled_key(objective) is None or not all(map(can_be_padded, parts)):
        return arrays._replace(
            data=scale_weights(data),
            validation=None if validation is None else scale_weights(validation),
        )
    length = place_like(data.inputs, np.array(len(data.inputs), np.int32))
    if validation is None:
        return RunData(pad(scale_weights(data)), None, arrays.key, length)
    on_host: tuple[Data, Data] = jax.tree.map(np.asarray, (data, validation))
    number = np.asarray(fingerprint(on_host[0], on_host[1], batch_size))
    hashed = place_like(data.inputs, number)
    data, validation = pad(scale_weights(data)), pad(scale_weights(validation))
    return RunData(data, validation, arrays.key, length, hashed)
