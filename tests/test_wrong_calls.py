"""Wrong calls: each is refused by us, before anything is compiled, in words that say what to do.

The tables below are calls as someone may write them, and what they get: the type of the error, the
function, the argument, what was expected and what was received. In them `...` stands for anything.
What JAX or NumPy would say first is no help, so the error must be raised in a file of jaxnet's; nor
is an answer after a minute of compiling.
"""

import functools
import inspect
import re
import traceback
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pandas
import pytest
import scipy.sparse

import jaxnet.plots
from jaxnet import adam, adamw, dense, gradient_descent, layer_norm, mlp, sgd
from jaxnet.testing import adapters, problems

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
KEY, RAW_KEY = jax.random.key(0), jnp.zeros(2, jnp.uint32)
KEYS = jax.random.split(jax.random.key(1), 3)
NO_KEYS, TABLE_OF_KEYS = KEYS[:0], jnp.stack([KEYS, KEYS])
NEGATIVE, NOT_FINITE = jnp.array(-1.0), jnp.array([1.0, INF])
INTEGERS, COMPLEX = jnp.arange(2, dtype=jnp.int32), jnp.ones(2, jnp.complex64)
RAGGED = [[1.0], [1.0, 2.0]]

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 1, 2], np.int32)
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
OUTPUTS = jnp.asarray(RANDOM.uniform(0.1, 0.9, (6, 4)), jnp.float32)
COLUMN, ONE_COLUMN = OUTPUTS[:, 0], OUTPUTS[:, :1]
HALF_COLUMN = COLUMN.astype(jnp.bfloat16)
YES_OR_NO = np.array([0, 1, 1, 0, 1, 0])
NEGATIVE_LABEL = jnp.asarray(LABELS).at[1].set(-1)
ARRAY = jnp.ones((7, 3))
COMPLEX_INPUTS, WHOLE_INPUTS = jnp.ones((6, 3), jnp.complex64), jnp.ones((6, 3), jnp.int32)
INFINITE_INPUTS = jnp.asarray(INPUTS).at[1].set(-INF)
ONE_NEGATIVE = jnp.ones(6).at[1].set(-1)


MASKED = np.ma.array(INPUTS, mask=INPUTS > 1)
SPARSE = scipy.sparse.csr_matrix(INPUTS.astype(np.float64))
SHAPE, DELETED = jax.ShapeDtypeStruct((6, 3), jnp.float32), jnp.ones((7, 3)) * 1
DELETED.delete()
UNKNOWN_OUTPUTS, HALF_LABELS = OUTPUTS.at[2, 1].set(NAN), jnp.asarray(LABELS, jnp.bfloat16)
A_FLOAT = jnp.array(3.0)
COLUMN_DATA = INPUTS, np.linspace(0, 1, 6)
UNKNOWN = pandas.DataFrame(
    {"weight": [150.0, 120.0], "smooth": pandas.array([True, None], "boolean"), "size": [1, 2]}
)


class Units(np.ndarray):
    """An array that means more than its numbers."""


class Tensor:
    """As a tensor of PyTorch's looks that requires a gradient, or is of bfloat16."""

    dtype, shape = "torch.float32", (6, 3)

    def detach(self):
        raise NotImplementedError

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def with_one(array, value):
    """The array with a value in its second row."""
    changed = np.array(array)
    changed[1] = value
    return changed


class Iterator:
    """Batches, at a position that can be saved."""

    def __next__(self):
        return INPUTS[:2], LABELS[:2]

    def get_state(self):
        return 0

    def set_state(self, state):
        pass


def read(start, stop):
    return INPUTS[start:stop], LABELS[start:stop]


STREAM, BATCHES = jaxnet.Stream(6, read), Iterator()
NETWORK, OTHER_NETWORK, ADAM = mlp([3, 8, 4]), mlp([3, 5, 4]), adam(0.01)
PARAMETERS, OTHERS = helpers.drawn(NETWORK), helpers.drawn(OTHER_NETWORK)
LAYER, NORM = dense(3, 2), layer_norm(3)
LAYER_PARAMETERS = helpers.drawn(LAYER)
WEIGHTS, BIASES = LAYER_PARAMETERS
NORM_PARAMETERS = helpers.drawn(NORM)
ENCODING, WAVES = jaxnet.piecewise_linear([[0, 1, 2], [0, 1]]), jaxnet.periodic(3)
WAVE_PARAMETERS = helpers.drawn(WAVES)
ENSEMBLE = jaxnet.batch_ensemble(mlp([3, 8, 4]), 2)
SHARED, SEPARATE = ENSEMBLE.layers
SHARED_PARAMETERS, SEPARATE_PARAMETERS = helpers.drawn(ENSEMBLE)
TURNED_WEIGHTS = WEIGHTS.T
BIG_ENDIAN, LONG = (
    jax.tree.map(lambda leaf, dtype=dtype: np.asarray(leaf).astype(dtype), PARAMETERS)
    for dtype in (">f4", np.longdouble)
)
STATE = jaxnet.initial_state(NETWORK, ADAM, key=jax.random.key(0))
LOOKAHEAD = optax.lookahead(optax.adam(0.1), 2, 0.5)
LOOKAHEAD_STATE = jaxnet.initial_state(NETWORK, LOOKAHEAD, key=jax.random.key(0))
RUN = jaxnet.FitResult(PARAMETERS, {"cost": np.ones(1)}, STATE, "finished")

TREE = {"b": jnp.ones(3), "w": jnp.ones((2, 3))}
FEWER, MORE = {"w": TREE["w"]}, TREE | {"z": jnp.ones(1)}
TURNED = TREE | {"w": TREE["w"].T}
IMAGINARY = jax.tree.map(lambda leaf: leaf.astype(jnp.complex64), TREE)
WORDS, WHOLE = TREE | {"w": "w"}, TREE | {"b": INTEGERS}
OF_ADAM, OF_ADAMW = ADAM.init(TREE), adamw(0.1).init(TREE)
OF_SGD, OF_DESCENT = sgd(0.1).init(TREE), gradient_descent(0.1).init(TREE)
OF_LION = jaxnet.lion(0.1).init(TREE)

BOWL = problems.Problem("bowl", np.ones(2, np.float32), lambda parameters, step: parameters)
SHRINKING = adapters.from_step(lambda parameters, gradients: gradients[:1])
MESH = jax.sharding.Mesh(jax.devices()[:1], ("rows",))
EVERYWHERE = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec())
FEATURES = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec(None, "rows"))
ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
FOUND = jaxnet.Sweep(
    {"a": jnp.ones(2), "b": jnp.ones(3)},
    {},
    False,
    None,
    np.ones((2, 3), bool),
    np.zeros((2, 3), bool),
    max,
)


class Torch:
    """As an optimizer of PyTorch's looks."""

    def step(self):
        raise NotImplementedError

    def __repr__(self):
        return "Adam(\n    lr: 0.001\n)"


MATRICES = jax.tree.map(lambda leaf: leaf.ndim > 1, PARAMETERS)


def power(a, b=1.0):
    return a**b


def data_changed(function, **changes):
    """A whole call of `fit` or `train`, with some arguments changed."""
    arguments = {"network": NETWORK, "loss": jaxnet.softmax_cross_entropy, "optimizer": ADAM}
    arguments |= {"data": (INPUTS, LABELS), "key": KEY, "epochs": 2, "batch_size": 3} | changes
    return function(**arguments)


fit = functools.partial(data_changed, jaxnet.fit)
train = functools.partial(data_changed, jaxnet.train)


def evaluate(
    network=NETWORK, parameters=PARAMETERS, data=(INPUTS, LABELS), metrics=None, **changes
):
    metrics = {"accuracy": jaxnet.accuracy} if metrics is None else metrics
    return jaxnet.evaluate(network, parameters, data, metrics, **changes)


def predict(network=NETWORK, parameters=PARAMETERS, inputs=INPUTS, **changes):
    return jaxnet.predict(network, parameters, inputs, **changes)


def any_loss(outputs, targets):
    return outputs[:, 0]


STEP = jaxnet.make_step(NETWORK, jaxnet.softmax_cross_entropy, ADAM)
BATCH = jnp.asarray(INPUTS), jnp.asarray(LABELS)

MEAN_OF_ALL = {"mean": lambda outputs, targets: jnp.mean(outputs)}
RIGHT_OR_NOT = {"right": lambda outputs, targets: jnp.argmax(outputs, -1) == targets}
NOT_NUMBERS = pandas.DataFrame({"weight": [150.0, 120.0], "colour": ["red", "green"]})
MISSING = pandas.DataFrame({"weight": [150.0, None], "smooth": [1.0, 0.0], "size": [1.0, 2.0]})

sweep = functools.partial(jaxnet.sweep, power)


def go_on(state, a):
    return state, a


def grow(state):
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), state)


def halve(start=power, run=go_on, grid=None, rungs=(1, 3), **changes):
    """A whole call, with some arguments changed."""
    return jaxnet.halve(start, run, {"a": [1.0]} if grid is None else grid, rungs=rungs, **changes)


compare = functools.partial(jaxnet.compare_optimizers, problems=[BOWL], steps=2)

ACTIVATIONS = r"""
>>> relu("0.5")
TypeError: relu: expected floating-point x. Received: str '0.5'
>>> sigmoid(None)
TypeError: sigmoid: expected floating-point x. Received: NoneType None
>>> tanh(RAGGED)
TypeError: tanh: expected floating-point x. Received: list [[1.0], [1.0, 2.0]]
>>> gelu(INTEGERS)
TypeError: gelu: expected floating-point x. Received: int32[2]
>>> silu(True)
TypeError: silu: expected floating-point x. Received: bool True
>>> softplus({"a": 1.0})
TypeError: softplus: expected floating-point x. Received: dict {'a': 1.0}
>>> elu(KEY)
TypeError: elu: expected floating-point x. Received: key<...
>>> selu(COMPLEX)
TypeError: selu: expected floating-point x. Received: complex64[2]
>>> identity(HUGE)
TypeError: identity: expected floating-point x. Received: int 1000...
>>> relu(MASKED)
TypeError: relu: expected floating-point x.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> gelu(DELETED)
TypeError: gelu: expected floating-point x.
Received: float32[7, 3], which was deleted, as donated arrays are
>>> softplus(SHAPE)
TypeError: softplus: expected floating-point x.
Received: ShapeDtypeStruct float32[6, 3], which has no values
>>> relu(SPARSE)
TypeError: relu: expected floating-point x.
Received: csr_matrix float64[6, 3], which is sparse; .toarray() gives a dense array
>>> elu(ARRAY, np.timedelta64(1, "s"))
TypeError: elu: expected a number for alpha. Received: timedelta64[s][]
>>> relu(relu)
TypeError: relu: expected floating-point x. Received: function <function relu...
>>> leaky_relu(ARRAY, "0.1")
TypeError: leaky_relu: expected a number for negative_slope. Received: str '0.1'
>>> leaky_relu(ARRAY, NAN)
ValueError: leaky_relu: expected a finite negative_slope. Received: nan
>>> leaky_relu(ARRAY, ARRAY)
TypeError: leaky_relu: expected a number for negative_slope. Received: float32[7, 3]
>>> elu(ARRAY, None)
TypeError: elu: expected a number for alpha. Received: NoneType None
>>> elu(ARRAY, INF)
ValueError: elu: expected a finite alpha. Received: inf
>>> gelu(ARRAY, approximate="none")
TypeError: gelu: expected True or False for approximate. Received: str 'none'
>>> straight_through("binary_step")
TypeError: straight_through: expected a function for activation. Received: str 'binary_step'
>>> straight_through(binary_step, 1.0)
TypeError: straight_through: expected a function for surrogate. Received: float 1.0
>>> straight_through(binary_step)(INTEGERS)
TypeError: binary_step: expected floating-point x. Received: int32[2]
"""

SOFTMAX = r"""
>>> softmax(LABELS)
TypeError: softmax: expected floating-point x. Received: int32[6]
>>> softmax(0.5)
ValueError: softmax: expected x with a class axis. Received: a scalar
>>> softmax(OUTPUTS, 2)
ValueError: softmax: expected axis of at least -2 and at most 1. Received: 2
>>> log_softmax(OUTPUTS, -3)
ValueError: log_softmax: expected axis of at least -2. Received: -3
>>> softmax(OUTPUTS, None)
TypeError: softmax: expected an integer for axis. Received: NoneType None
>>> softmax(OUTPUTS, True)
TypeError: softmax: expected an integer for axis. Received: bool True
>>> softmax(OUTPUTS, (0, 1))
TypeError: softmax: expected an integer for axis. Received: tuple (0, 1)
>>> softmax(OUTPUTS, where=[0.0, 0.0, 0.0, -INF])
TypeError: softmax: expected a boolean mask for where. Received: float64
>>> log_softmax(OUTPUTS, where="all")
TypeError: log_softmax: expected numbers for where. Received: str 'all'
>>> log_softmax(OUTPUTS, where=[True, True, False])
ValueError: log_softmax: expected where of the shape of x, [6, 4], or of a shape that
broadcasts to it.
Received: [3]
"""

LOSSES = r"""
>>> squared_error(None, ONE_HOT)
TypeError: squared_error: expected floating-point outputs. Received: NoneType None
>>> huber(RAGGED, ONE_HOT)
TypeError: huber: expected floating-point outputs. Received: list [[1.0], [1.0, 2.0]]
>>> squared_error(0.5, 0.5)
ValueError: squared_error: expected outputs with a batch axis. Received: a scalar
>>> squared_error(OUTPUTS, "labels")
TypeError: squared_error: expected numbers for targets. Received: str 'labels'
>>> mean_squared_error(OUTPUTS, LABELS)
ValueError: mean_squared_error: expected targets of the same shape as outputs, [6, 4].
Received: [6]; targets[:, None] are those of one output per example
>>> absolute_error(OUTPUTS, LABELS)
ValueError: absolute_error: expected targets of the same shape as outputs, [6, 4].
Received: [6]; targets[:, None] are those of one output per example
>>> mean_absolute_error(COLUMN, ONE_COLUMN)
ValueError: mean_absolute_error: expected targets of the same shape as outputs, [6].
Received: [6, 1]
>>> mean_absolute_error(OUTPUTS, RAGGED)
TypeError: mean_absolute_error: expected numbers for targets. Received: list [[1.0], [1.0, 2.0]]
>>> squared_error(NOT_FINITE, COMPLEX)
TypeError: squared_error: expected numbers for targets. Received: complex64[2]
>>> squared_error(COLUMN, HALF_COLUMN)
TypeError: squared_error: expected targets of the same dtype as outputs, float32. Received: bfloat16
>>> huber(OUTPUTS, ONE_HOT, delta=-1)
ValueError: huber: expected a finite delta of at least 0. Received: -1
>>> huber(OUTPUTS, ONE_HOT, delta="1")
TypeError: huber: expected a number for delta. Received: str '1'
>>> huber(OUTPUTS, ONE_HOT, delta=NAN)
ValueError: huber: expected a finite delta of at least 0. Received: nan
>>> softmax_cross_entropy(INTEGERS, LABELS)
TypeError: softmax_cross_entropy: expected floating-point logits. Received: int32[2]
>>> softmax_cross_entropy(OUTPUTS, ONE_HOT.astype(int))
ValueError: softmax_cross_entropy: expected labels of shape [6] for outputs of shape [6, 4].
Received: [6, 4]
>>> softmax_cross_entropy(OUTPUTS, LABELS.astype(np.float32))
TypeError: softmax_cross_entropy: expected integer labels. Received: float32[6]
>>> cross_entropy(OUTPUTS, LABELS.astype(object))
TypeError: cross_entropy: expected integer labels. Received: object[6]
>>> softmax_cross_entropy(OUTPUTS, [0.0, 1.0, 2.0, 3.0, 0.0, 1.0])
TypeError: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> softmax_cross_entropy(OUTPUTS, pandas.Series(LABELS * 1.0))
TypeError: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> softmax_cross_entropy(OUTPUTS, LABELS.astype("m8[s]"))
TypeError: softmax_cross_entropy: expected integer labels. Received: timedelta64[s][6]
>>> softmax_cross_entropy(OUTPUTS, MASKED[:, 0])
TypeError: softmax_cross_entropy: expected targets as an array.
Received: MaskedArray float32[6], which has a mask; array.filled(number) has none
>>> softmax_cross_entropy(MASKED, LABELS)
TypeError: softmax_cross_entropy: expected floating-point logits.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> softmax_cross_entropy(SHAPE, LABELS)
TypeError: softmax_cross_entropy: expected floating-point logits.
Received: ShapeDtypeStruct float32[6, 3], which has no values
>>> squared_error(DELETED, ARRAY)
TypeError: squared_error: expected floating-point outputs.
Received: float32[7, 3], which was deleted, as donated arrays are
>>> softmax_cross_entropy(OUTPUTS, LABELS, label_smoothing=np.timedelta64(0))
ValueError: softmax_cross_entropy: expected label_smoothing from 0 to 1.
Received: np.timedelta64(0)
>>> softmax_cross_entropy(OUTPUTS, LABELS[:, None])
ValueError: softmax_cross_entropy: expected labels of shape [6] for outputs of shape [6, 4].
Received: [6, 1]
>>> softmax_cross_entropy(OUTPUTS, ["apple"] * 6)
TypeError: softmax_cross_entropy: expected integer labels.
Received: list ['apple', 'apple', 'apple', 'apple', 'apple', 'apple']
>>> softmax_cross_entropy(OUTPUTS, [[0], [1, 2]])
ValueError: softmax_cross_entropy: expected targets as rows of equal length.
Received: list [[0], [1, 2]]
>>> softmax_cross_entropy(OUTPUTS, with_one(LABELS, 4))
ValueError: softmax_cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: 4 at index (1,)
>>> softmax_cross_entropy(OUTPUTS, NEGATIVE_LABEL)
ValueError: softmax_cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: -1 at index (1,)
>>> cross_entropy(OUTPUTS, with_one(LABELS.astype(np.int64), 2**40))
ValueError: cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: 1099511627776 at index (1,)
>>> cross_entropy(OUTPUTS, LABELS, label_smoothing=True)
ValueError: cross_entropy: expected label_smoothing from 0 to 1. Received: True
>>> cross_entropy(OUTPUTS, LABELS, label_smoothing=10)
ValueError: cross_entropy: expected label_smoothing from 0 to 1. Received: 10
>>> cross_entropy(OUTPUTS, LABELS, class_weights={0: 1.0})
TypeError: cross_entropy: expected numbers for class_weights. Received: dict {0: 1.0}
>>> cross_entropy(OUTPUTS, LABELS, class_weights=[1.0, 2.0])
ValueError: cross_entropy: expected class_weights of shape [4]. Received: [2]
>>> cross_entropy(OUTPUTS, LABELS, class_weights=[1.0, -2.0, 1.0, 1.0])
ValueError: cross_entropy: expected finite class_weights of at least 0. Received: -2.0 at index (1,)
>>> softmax_cross_entropy(OUTPUTS, LABELS, class_weights=[1.0, NAN, 1.0, 1.0])
ValueError: softmax_cross_entropy: expected finite class_weights of at least 0.
Received: nan at index (1,)
>>> sigmoid_binary_cross_entropy(COLUMN, LABELS)
ValueError: sigmoid_binary_cross_entropy: expected finite targets of at least 0 and at most 1.
Received: 2 at index (2,)
>>> binary_cross_entropy(COLUMN, 2 * YES_OR_NO - 1)
ValueError: binary_cross_entropy: expected finite targets of at least 0 and at most 1.
Received: -1 at index (0,)
>>> binary_cross_entropy(COLUMN, ["yes"] * 6)
TypeError: binary_cross_entropy: expected numbers for targets.
Received: list ['yes', 'yes', 'yes', 'yes', 'yes', 'yes']
"""

WEIGHTED_MEAN = r"""
>>> weighted_mean(LABELS)
TypeError: weighted_mean: expected floating-point values. Received: int32[6]
>>> weighted_mean(None)
TypeError: weighted_mean: expected floating-point values. Received: NoneType None
>>> weighted_mean(COLUMN, [1.0, 1.0])
ValueError: weighted_mean: expected weights of the same shape as values, [6]. Received: [2]
>>> weighted_mean(COLUMN, 2.0)
ValueError: weighted_mean: expected weights of the same shape as values, [6]. Received: []
>>> weighted_mean(COLUMN, with_one(COLUMN, -1))
ValueError: weighted_mean: expected finite weights of at least 0. Received: -1.0 at index (1,)
>>> weighted_mean(COLUMN, with_one(COLUMN, NAN))
ValueError: weighted_mean: expected finite weights of at least 0. Received: nan at index (1,)
>>> weighted_mean(COLUMN, "equal")
TypeError: weighted_mean: expected numbers for weights. Received: str 'equal'
>>> weighted_mean(NOT_FINITE, COMPLEX)
TypeError: weighted_mean: expected numbers for weights. Received: complex64[2]
"""

METRICS = r"""
>>> accuracy(LABELS, LABELS)
TypeError: accuracy: expected floating-point outputs. Received: int32[6]
>>> accuracy(0.5, 1)
ValueError: accuracy: expected outputs with a class axis. Received: a scalar
>>> accuracy(OUTPUTS, None)
TypeError: accuracy: expected integer labels. Received: NoneType None
>>> confusion_matrix(UNKNOWN_OUTPUTS, LABELS)
ValueError: confusion_matrix: expected outputs without NaN, in which none is the largest.
Received: nan in row 2
>>> accuracy(OUTPUTS, ["a"] * 6)
TypeError: accuracy: expected integer labels. Received: list ['a', 'a', 'a', 'a', 'a', 'a']
>>> accuracy(OUTPUTS, LABELS.astype(np.float32))
TypeError: accuracy: expected integer labels. Received: float32[6]
>>> top_k_accuracy(OUTPUTS, LABELS.astype(object), k=2)
TypeError: top_k_accuracy: expected integer labels. Received: object[6]
>>> top_k_accuracy(OUTPUTS, LABELS, k=np.timedelta64(2))
TypeError: top_k_accuracy: expected an integer for k. Received: timedelta64[]
>>> confusion_matrix(OUTPUTS, LABELS / 2)
TypeError: confusion_matrix: expected integer labels. Received: float64[6]
>>> accuracy(OUTPUTS, LABELS + 1)
ValueError: accuracy: expected labels from 0 to 3, as there are 4 outputs. Received: 4 at index (3,)
>>> accuracy(OUTPUTS, LABELS[:5])
ValueError: accuracy: expected labels of shape [6] for outputs of shape [6, 4]. Received: [5]
>>> accuracy(OUTPUTS, RAGGED)
ValueError: accuracy: expected targets as rows of equal length. Received: list [[1.0], [1.0, 2.0]]
>>> top_k_accuracy(OUTPUTS, LABELS, k=5)
ValueError: top_k_accuracy: expected k of at least 1 and at most 4. Received: 5
>>> top_k_accuracy(OUTPUTS, LABELS, k=0)
ValueError: top_k_accuracy: expected k of at least 1. Received: 0
>>> top_k_accuracy(OUTPUTS, LABELS, k=True)
TypeError: top_k_accuracy: expected an integer for k. Received: bool True
>>> top_k_accuracy(OUTPUTS, ONE_HOT.astype(int), k=2)
ValueError: top_k_accuracy: expected labels of shape [6] for outputs of shape [6, 4].
Received: [6, 4]
>>> binary_accuracy(COLUMN, YES_OR_NO, threshold="0.5")
TypeError: binary_accuracy: expected a number for threshold. Received: str '0.5'
>>> binary_accuracy(COLUMN, YES_OR_NO, threshold=NAN)
ValueError: binary_accuracy: expected a finite threshold. Received: nan
>>> confusion_matrix(OUTPUTS, with_one(LABELS, 7))
ValueError: confusion_matrix: expected labels from 0 to 3, as there are 4 outputs.
Received: 7 at index (1,)
>>> class_scores(np.ones((3, 4), np.int32))
ValueError: class_scores: expected a square confusion matrix. Received: int32[3, 4]
>>> class_scores(np.eye(3))
TypeError: class_scores: expected a confusion matrix of integers, the numbers of examples.
Received: float64[3, 3]
>>> class_scores([[1, -1], [0, 2]])
ValueError: class_scores: expected finite confusion of at least 0. Received: -1 at index (0, 1)
>>> class_scores("matrix")
TypeError: class_scores: expected numbers for confusion. Received: str 'matrix'
>>> r_squared(COLUMN, ONE_COLUMN)
ValueError: r_squared: expected targets of the same shape as outputs, [6]. Received: [6, 1]
>>> r_squared(COLUMN, None)
TypeError: r_squared: expected numbers for targets. Received: NoneType None
"""

OPTIMIZERS = r"""
>>> gradient_descent(-0.1)
ValueError: gradient_descent: expected a finite learning_rate of at least 0. Received: -0.1
>>> sgd(NAN)
ValueError: sgd: expected a finite learning_rate of at least 0. Received: nan
>>> adam(INF)
ValueError: adam: expected a finite learning_rate of at least 0. Received: inf
>>> adam(HUGE)
ValueError: adam: expected a finite learning_rate of at least 0. Received: 1000...
>>> adam(NEGATIVE)
ValueError: adam: expected a finite learning_rate of at least 0. Received: -1.0
>>> adam(True)
TypeError: adam: expected a number for learning_rate. Received: bool True
>>> adam("0.1")
TypeError: adam: expected a number for learning_rate. Received: str '0.1'
>>> adam(np.str_("0.1"))
TypeError: adam: expected a number for learning_rate. Received: <U3[]
>>> sgd(np.timedelta64(1, "s"))
TypeError: sgd: expected a number for learning_rate. Received: timedelta64[s][]
>>> adam(0.1).init({"w": MASKED})
TypeError: adam: expected floating-point or complex parameters.
Received: MaskedArray float32[6, 3] at 'w', which has a mask; array.filled(number) has none
>>> adam(None)
TypeError: adam: expected a number for learning_rate. Received: NoneType None
>>> adam([0.1])
TypeError: adam: expected a number for learning_rate. Received: list [0.1]
>>> adam(COLUMN)
TypeError: adam: expected a number for learning_rate. Received: float32[6]
>>> adamw(1j)
TypeError: adamw: expected a number for learning_rate. Received: complex 1j
>>> sgd(0.1, momentum=None)
TypeError: sgd: expected a number for momentum. Received: NoneType None
>>> sgd(0.1, momentum=1)
ValueError: sgd: expected a finite momentum of at least 0 and below 1. Received: 1
>>> sgd(0.1, nesterov="no")
TypeError: sgd: expected True or False for nesterov. Received: str 'no'
>>> adam(0.1, b1=1.0)
ValueError: adam: expected a finite b1 of at least 0 and below 1. Received: 1.0
>>> adam(0.1, b2=-0.1)
ValueError: adam: expected a finite b2 of at least 0 and below 1. Received: -0.1
>>> adam(0.1, b1=(0.9, 0.999))
TypeError: adam: expected a number for b1. Received: tuple (0.9, 0.999)
>>> adam(0.1, eps=-1e-8)
ValueError: adam: expected a finite eps of at least 0. Received: -1e-08
>>> adam(0.1, eps_root=NAN)
ValueError: adam: expected a finite eps_root of at least 0. Received: nan
>>> adamw(0.1, weight_decay=-1)
ValueError: adamw: expected a finite weight_decay of at least 0. Received: -1
>>> adam(0.1).init(WORDS)
TypeError: adam: expected floating-point or complex parameters. Received: str 'w' at 'w'
>>> sgd(0.1).init(WHOLE)
TypeError: sgd: expected floating-point or complex parameters. Received: int32[2] at 'b'
>>> gradient_descent(0.1).init(3)
TypeError: gradient_descent: expected floating-point or complex parameters. Received: int 3
>>> ADAM.update(FEWER, OF_ADAM)
ValueError: adam: expected gradients that match the parameters, but 'b' is missing. Expected: {'b':
float32[3], 'w': float32[2, 3]}
Received: {'w': float32[2, 3]}
>>> sgd(0.1).update(MORE, OF_SGD)
ValueError: sgd: expected gradients that match the parameters, but 'z' is not expected. Expected:
{'b': float32[3], 'w': float32[2, 3]}
Received: {'b': float32[3], 'w': float32[2, 3], 'z': float32[1]}
>>> adamw(0.1).update(TURNED, OF_ADAMW, TREE)
ValueError: adamw: expected gradients that match the parameters, but 'w' is float32[3, 2] instead
of float32[2, 3]. Expected: {'b': float32[3], 'w': float32[2, 3]}
Received: {'b': float32[3], 'w': float32[3, 2]}
>>> gradient_descent(0.1).update(IMAGINARY, OF_DESCENT, TREE)
ValueError: gradient_descent: expected gradients that match the parameters, but 'b' is complex64[3]
instead of float32[3]. Expected: {'b': float32[3], 'w': float32[2, 3]}
Received: {'b': complex64[3], 'w': complex64[2, 3]}
>>> ADAM.update(list(TREE.values()), OF_ADAM)
ValueError: adam: expected gradients that match the parameters, but 'b' is missing. Expected: {'b':
float32[3], 'w': float32[2, 3]}
Received: [float32[3], float32[2, 3]]
>>> ADAM.update(None, OF_ADAM)
ValueError: adam: expected gradients that match the parameters, but 'b' is missing. Expected: {'b':
float32[3], 'w': float32[2, 3]}
Received: None
>>> ADAM.update(WORDS, OF_ADAM)
TypeError: adam: expected floating-point or complex gradients. Received: str 'w' at 'w'
>>> gradient_descent(0.1).update(WHOLE, OF_DESCENT)
TypeError: gradient_descent: expected floating-point or complex gradients. Received: int32[2] at 'b'
>>> ADAM.update(TREE, OF_SGD)
TypeError: adam: expected state of type AdamState. Received: SgdState SgdState(count=...
>>> sgd(0.1).update(TREE, TREE)
TypeError: sgd: expected state of type SgdState. Received: dict {'b': Array(...
>>> gradient_descent(0.1).update(TREE, ())
TypeError: gradient_descent: expected state of type GradientDescentState. Received: tuple ()
>>> adamw(0.1).update(TREE, OF_ADAMW)
ValueError: adamw: expected update(gradients, state, parameters). Received: None
>>> adamw(0.1, mask="w").update(TREE, OF_ADAMW, TREE)
TypeError: adamw: expected True or False for each leaf of mask. Received: str 'w'
>>> adamw(0.1, mask={"b": False}).update(TREE, OF_ADAMW, TREE)
ValueError: adamw: expected a mask like the parameters, or a prefix of them. Expected: {'b':
float32[3], 'w': float32[2, 3]}
Received: {'b': False}
>>> adam(lambda step: "0.1").update(TREE, OF_ADAM)
TypeError: adam: expected a number for the learning_rate of a step. Received: str '0.1'
>>> sgd(lambda step: COLUMN).update(TREE, OF_SGD)
TypeError: sgd: expected a number for the learning_rate of a step. Received: float32[6]
>>> sgd(0.1, accumulator_dtype="float33")
TypeError: sgd: expected a floating-point dtype for accumulator_dtype. Received: str 'float33'
>>> adam(0.1, mu_dtype=int)
TypeError: adam: expected a floating-point dtype for mu_dtype. Received: type <class 'int'>
>>> adamw(0.1, weight_decay=lambda step: "0.1").update(TREE, OF_ADAMW, TREE)
TypeError: adamw: expected a number for the weight_decay of a step. Received: str '0.1'
>>> nadam(0.1, b1=1.5)
ValueError: nadam: expected a finite b1 of at least 0 and below 1. Received: 1.5
>>> nadam(0.1).update(FEWER, OF_ADAM)
ValueError: nadam: expected gradients that match the parameters, but 'b' is missing. Expected: {'b':
float32[3], 'w': float32[2, 3]}
Received: {'w': float32[2, 3]}
>>> amsgrad(NAN)
ValueError: amsgrad: expected a finite learning_rate of at least 0. Received: nan
>>> amsgrad(0.1).update(TREE, OF_ADAM)
TypeError: amsgrad: expected state of type AmsgradState. Received: AdamState AdamState(count...
>>> rmsprop(0.1, decay=1)
ValueError: rmsprop: expected a finite decay of at least 0 and below 1. Received: 1
>>> rmsprop(0.1, momentum=1)
ValueError: rmsprop: expected a finite momentum of at least 0 and below 1. Received: 1
>>> rmsprop(0.1, initial_scale=-1)
ValueError: rmsprop: expected a finite initial_scale of at least 0. Received: -1
>>> rmsprop(0.1, centered=1)
TypeError: rmsprop: expected True or False for centered. Received: int 1
>>> rmsprop(0.1).update(TREE, OF_ADAM)
TypeError: rmsprop: expected state of type RmspropState. Received: AdamState AdamState(count...
>>> adagrad(0.1, initial_accumulator_value=-0.1)
ValueError: adagrad: expected a finite initial_accumulator_value of at least 0. Received: -0.1
>>> adagrad(0.1, eps=-1)
ValueError: adagrad: expected a finite eps of at least 0. Received: -1
>>> adagrad(0.1).update(TREE, OF_ADAM)
TypeError: adagrad: expected state of type AdagradState. Received: AdamState AdamState(count...
>>> lion(0.1, b2=1)
ValueError: lion: expected a finite b2 of at least 0 and below 1. Received: 1
>>> lion(0.1).update(TREE, OF_LION)
ValueError: lion: expected update(gradients, state, parameters). Received: None
>>> lion(0.1).update(TREE, OF_ADAM, TREE)
TypeError: lion: expected state of type LionState. Received: AdamState AdamState(count...
"""

NETWORKS = r"""
>>> dense(0, 3)
ValueError: dense: expected in_features of at least 1. Received: 0
>>> dense(3, -2)
ValueError: dense: expected out_features of at least 1. Received: -2
>>> dense(3.0, 2)
TypeError: dense: expected an integer for in_features. Received: float 3.0
>>> dense(True, 3)
TypeError: dense: expected an integer for in_features. Received: bool True
>>> dense(np.float32, 3)
TypeError: dense: expected an integer for in_features. Received: type <class 'numpy.float32'>
>>> dense(np.timedelta64(2, "s"), 1)
TypeError: dense: expected an integer for in_features. Received: timedelta64[s][]
>>> LAYER.apply(LAYER_PARAMETERS, MASKED)
TypeError: dense(3, 2, identity): expected inputs as an array.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> LAYER.apply((np.ma.ones((3, 2)), BIASES), ARRAY)
TypeError: dense(3, 2, identity): expected arrays in parameters.
Received: MaskedArray float64[3, 2] at '0', which has a mask; array.filled(number) has none
>>> dense(3, (2, 2))
TypeError: dense: expected an integer for out_features. Received: tuple (2, 2)
>>> dense(10**30, 2)
ValueError: dense: expected in_features of at least 1 and at most 2147483647.
Received: 1000000000000000000000000000000
>>> dense(3, 2, "relu")
TypeError: dense: expected a function for activation. Received: str 'relu'
>>> dense(3, 2, None)
TypeError: dense: expected a function for activation. Received: NoneType None
>>> dense(3, 2, initializer="he")
TypeError: dense: expected a function for initializer. Received: str 'he'
>>> dense(3, 2, initializer=jax.nn.initializers.he_normal).init(KEY)
ValueError: dense(3, 2, identity): expected an initializer that gives weights [3, 2].
Received: function <function...
>>> LAYER.init(0)
TypeError: dense(3, 2, identity): expected one key made by jax.random.key(seed). Received: int 0
>>> LAYER.init(RAW_KEY)
TypeError: dense(3, 2, identity): expected one key made by jax.random.key(seed). Received: uint32[2]
>>> LAYER.init(KEYS)
TypeError: dense(3, 2, identity): expected one key made by jax.random.key(seed). Received: key<...
>>> LAYER.apply(LAYER_PARAMETERS, jnp.asarray(OUTPUTS))
ValueError: dense(3, 2, identity): expected inputs with 3 features. Received: [6, 4]
>>> LAYER.apply(LAYER_PARAMETERS, [1.0, 2.0, 3.0])
TypeError: dense(3, 2, identity): expected inputs as an array. Received: list [1.0, 2.0, 3.0]
>>> LAYER.apply(LAYER_PARAMETERS, INPUTS.astype(np.float64))
TypeError: dense(3, 2, identity): expected inputs of the parameters' dtype, float32.
Received: float64
>>> LAYER.apply((TURNED_WEIGHTS, BIASES), ARRAY)
ValueError: dense(3, 2, identity): expected parameters weights [3, 2] and biases [2].
Received: (float32[2, 3], float32[2])
>>> LAYER.apply((WEIGHTS, WEIGHTS), ARRAY)
ValueError: dense(3, 2, identity): expected parameters weights [3, 2] and biases [2].
Received: (float32[3, 2], float32[3, 2])
>>> LAYER.apply(WEIGHTS, ARRAY)
ValueError: dense(3, 2, identity): expected parameters weights [3, 2] and biases [2].
Received: float32[3, 2]
>>> LAYER.apply(None, ARRAY)
ValueError: dense(3, 2, identity): expected parameters weights [3, 2] and biases [2]. Received: None
>>> LAYER.apply(("weights", "biases"), ARRAY)
TypeError: dense(3, 2, identity): expected arrays in parameters. Received: str 'weights' at '0'
>>> dropout(1.0)
ValueError: dropout: expected a finite rate of at least 0 and below 1. Received: 1.0
>>> dropout(-0.1)
ValueError: dropout: expected a finite rate of at least 0 and below 1. Received: -0.1
>>> dropout(50)
ValueError: dropout: expected a finite rate of at least 0 and below 1. Received: 50
>>> dropout("half")
TypeError: dropout: expected a number for rate. Received: str 'half'
>>> dropout(True)
TypeError: dropout: expected a number for rate. Received: bool True
>>> dropout(0.5).apply((), ARRAY, key=0)
TypeError: dropout(0.5): expected one key made by jax.random.key(seed). Received: int 0
>>> dropout(0.5).apply((), INTEGERS, key=KEY)
TypeError: dropout(0.5): expected floating-point inputs. Received: int32[2]
>>> layer_norm(0)
ValueError: layer_norm: expected features of at least 1. Received: 0
>>> layer_norm((3,))
TypeError: layer_norm: expected an integer for features. Received: tuple (3,)
>>> layer_norm(3, epsilon=-1e-5)
ValueError: layer_norm: expected a finite epsilon of at least 0. Received: -1e-05
>>> NORM.apply(LAYER_PARAMETERS, ARRAY)
ValueError: layer_norm(3): expected parameters scale [3] and offset [3].
Received: DenseParameters(weights=float32[3, 2], biases=float32[2])
>>> NORM.apply(NORM_PARAMETERS, OUTPUTS)
ValueError: layer_norm(3): expected inputs with 3 features. Received: [6, 4]
>>> residual(relu)
TypeError: residual: expected network of type Network. Received: function <function...
>>> residual(dense(4, 5))
ValueError: residual: expected a network with as many outputs as inputs.
Received: dense(4, 5, identity), with 4 inputs and 5 outputs
>>> residual(serial(lambda x: BIASES)).apply(((),), ARRAY)
ValueError: residual(serial(<lambda>)): expected outputs of the shape of the inputs, [7, 3].
Received: [2]
>>> serial()
ValueError: serial: expected at least one layer. Received: none
>>> serial([LAYER, relu])
TypeError: serial: expected networks and functions as layers. Received: list [Network(...
>>> serial(LAYER, "relu")
TypeError: serial: expected networks and functions as layers. Received: str 'relu'
>>> serial(dense(10, 16), relu, dense(32, 3))
ValueError: serial: expected layers of matching sizes.
Received: layer 0, dense(10, 16, identity), outputs 16 features, but layer 2, dense(32, 3,
identity), expects 32
>>> serial(LAYER, compute_dtype="float33")
TypeError: serial: expected a floating-point compute_dtype, such as jnp.bfloat16.
Received: str 'float33'
>>> serial(LAYER, compute_dtype=jnp.int8)
TypeError: serial: expected a floating-point compute_dtype, such as jnp.bfloat16.
Received: _ScalarMeta <class 'jax.numpy.int8'>
>>> NETWORK.init(42)
TypeError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected one key made by
jax.random.key(seed).
Received: int 42
>>> NETWORK.apply(PARAMETERS, ARRAY, key=RAW_KEY)
TypeError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected one key made by
jax.random.key(seed).
Received: uint32[2]
>>> NETWORK.apply(PARAMETERS[:1], ARRAY)
ValueError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected the parameters of 2 layers.
Received: 1
>>> NETWORK.apply(None, ARRAY)
ValueError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected the parameters of 2 layers.
Received: NoneType None
>>> NETWORK.apply(OTHERS, ARRAY)
ValueError: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8].
Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> mlp([3])
ValueError: mlp: expected a list of at least two sizes. Received: list [3]
>>> mlp(3)
ValueError: mlp: expected a list of at least two sizes. Received: int 3
>>> mlp(np.array([3, 4]))
ValueError: mlp: expected a list of at least two sizes. Received: int64[2]
>>> mlp([3, 0, 2])
ValueError: dense: expected out_features of at least 1. Received: 0
>>> mlp([3, [4, 4], 2])
TypeError: dense: expected an integer for out_features. Received: list [4, 4]
>>> mlp("3,4")
TypeError: dense: expected an integer for in_features. Received: str '3'
>>> mlp([3, 2], activation="relu")
TypeError: mlp: expected a function for activation. Received: str 'relu'
>>> mlp([3, 2], output_activation="softmax")
TypeError: mlp: expected a function for output_activation. Received: str 'softmax'
>>> mlp([3, 2], compute_dtype=3)
TypeError: serial: expected a floating-point compute_dtype, such as jnp.bfloat16. Received: int 3
"""

TABLE_NETWORKS = r"""
>>> piecewise_linear(3.0)
TypeError: piecewise_linear: expected a list of the edges of each feature. Received: float 3.0
>>> piecewise_linear("edges")
TypeError: piecewise_linear: expected a list of the edges of each feature. Received: str 'edges'
>>> piecewise_linear([])
TypeError: piecewise_linear: expected a list of the edges of each feature. Received: list []
>>> piecewise_linear([0.0, 1.0])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: 0.0
>>> piecewise_linear([[0.0, 1.0], [2.0]])
ValueError: piecewise_linear: expected at least two edges of feature 1, finite and increasing in
float32.
Received: [2.0]
>>> piecewise_linear([[0.0, 0.0, 1.0]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [0.0, 0.0, 1.0]
>>> piecewise_linear([[1700000000.0, 1700000001.0]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [1700000000.0, 1700000001.0]
>>> piecewise_linear([[0.0, 1e-40]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [0.0, 1e-40]
>>> piecewise_linear([[0.0, INF]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [0.0, inf]
>>> piecewise_linear([[-3e38, 3e38]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [-3e+38, 3e+38]
>>> piecewise_linear([[0.0, NAN, 1.0]])
ValueError: piecewise_linear: expected at least two edges of feature 0, finite and increasing in
float32.
Received: [0.0, nan, 1.0]
>>> piecewise_linear([["low", "high"]])
TypeError: piecewise_linear: expected numbers for edges of feature 0. Received: list ['low', 'high']
>>> piecewise_linear([MASKED[:, 0]])
TypeError: piecewise_linear: expected numbers for edges of feature 0.
Received: MaskedArray float32[6], which has a mask; array.filled(number) has none
>>> jax.eval_shape(lambda edges: piecewise_linear([edges]).apply((), ARRAY), COLUMN)
TypeError: piecewise_linear: expected edges of feature 0 with values. Received: a traced array
>>> ENCODING.apply((), ARRAY)
ValueError: piecewise_linear(2 features, 3 bins): expected inputs with 2 features. Received: [7, 3]
>>> ENCODING.apply((), INTEGERS)
TypeError: piecewise_linear(2 features, 3 bins): expected floating-point inputs. Received: int32[2]
>>> periodic(0)
ValueError: periodic: expected features of at least 1. Received: 0
>>> periodic([1.0, 2.0])
TypeError: periodic: expected an integer for features. Received: list [1.0, 2.0]
>>> periodic(3, 1)
ValueError: periodic: expected size of at least 2. Received: 1
>>> periodic(3, waves=0)
ValueError: periodic: expected waves of at least 1. Received: 0
>>> periodic(3, frequency_scale=-1.0)
ValueError: periodic: expected a finite frequency_scale of at least 0. Received: -1.0
>>> periodic(3, frequency_scale="0.1")
TypeError: periodic: expected a number for frequency_scale. Received: str '0.1'
>>> WAVES.init(0)
TypeError: periodic(3, 4): expected one key made by jax.random.key(seed). Received: int 0
>>> WAVES.apply((), ARRAY)
ValueError: periodic(3, 4): expected parameters frequencies [3, 16] and phases [3, 16] and weights
[3, 16, 3] and biases [3, 3].
Received: ()
>>> WAVES.apply(WAVE_PARAMETERS, OUTPUTS)
ValueError: periodic(3, 4): expected inputs with 3 features. Received: [6, 4]
>>> WAVES.apply(WAVE_PARAMETERS, INPUTS.astype(np.float64))
TypeError: periodic(3, 4): expected inputs of the parameters' dtype, float32. Received: float64
>>> batch_ensemble([3, 8, 4], 2)
TypeError: batch_ensemble: expected network of type Network. Received: list [3, 8, 4]
>>> batch_ensemble(NETWORK, 0)
ValueError: batch_ensemble: expected members of at least 1. Received: 0
>>> batch_ensemble(NETWORK, 8.0)
TypeError: batch_ensemble: expected an integer for members. Received: float 8.0
>>> batch_ensemble(serial(relu, NORM), 2)
ValueError: batch_ensemble: expected a network with dense layers.
Received: serial(relu, layer_norm(3))
>>> batch_ensemble(serial(residual(serial(dense(3, 3))), dense(3, 2)), 2)
ValueError: batch_ensemble: expected a network whose first dense layer is not in a residual block.
Received: serial(residual(serial(dense(3, 3, identity))), dense(3, 2, identity))
>>> batch_ensemble(ENSEMBLE, 2)
ValueError: batch_ensemble: expected a network without members.
Received: batch_ensemble(dense(3, 8, relu), 2)
>>> ENSEMBLE.apply(SHARED_PARAMETERS, ARRAY)
ValueError: serial(batch_ensemble(dense(3, 8, relu), 2), ensemble(dense(8, 4, identity), 2)):
expected the parameters of 2 layers.
Received: 4
>>> SHARED.init(0)
TypeError: batch_ensemble(dense(3, 8, relu), 2): expected one key made by jax.random.key(seed).
Received: int 0
>>> SHARED.apply(PARAMETERS[0], ARRAY)
ValueError: batch_ensemble(dense(3, 8, relu), 2): expected parameters weights [3, 8] and
input_scales [2, 3] and output_scales [2, 8] and biases [2, 8].
Received: DenseParameters(weights=float32[3, 8], biases=float32[8])
>>> SHARED.apply(SHARED_PARAMETERS, OUTPUTS)
ValueError: batch_ensemble(dense(3, 8, relu), 2): expected inputs with 3 features. Received: [6, 4]
>>> SEPARATE.apply(SEPARATE_PARAMETERS, np.ones((5, 8), np.float32))
ValueError: ensemble(dense(8, 4, identity), 2): expected inputs with 2 members, [..., 2, 8].
Received: [5, 8]
>>> SEPARATE.apply(SEPARATE_PARAMETERS, np.ones(8, np.float32))
ValueError: ensemble(dense(8, 4, identity), 2): expected inputs with 2 members, [..., 2, 8].
Received: [8]
>>> member_mean("squared_error")
TypeError: member_mean: expected a function for loss. Received: str 'squared_error'
>>> member_mean(squared_error)(COLUMN, COLUMN)
ValueError: member_mean: expected outputs [batch, members, ...]. Received: [6]
>>> member_mean(squared_error)(LABELS, COLUMN)
TypeError: member_mean: expected floating-point outputs. Received: int32[6]
>>> member_mean(softmax_cross_entropy)(OUTPUTS, LABELS)
ValueError: softmax_cross_entropy: expected labels of shape [] for outputs of shape [6].
Received: [6]
"""

EVALUATION = r"""
>>> predict(mlp)
TypeError: predict: expected network of type Network. Received: function <function mlp...
>>> predict(None)
TypeError: predict: expected network of type Network. Received: NoneType None
>>> predict(jaxnet.Network(None, None))
TypeError: predict: expected a function for network.init. Received: NoneType None
>>> predict(parameters=RUN)
TypeError: predict: expected arrays in parameters. Received: str 'finished' at 'stopped'
>>> predict(parameters=STATE)
ValueError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected the parameters of 2 layers.
Received: 5
>>> predict(parameters=OTHERS)
ValueError: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8].
Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> predict(parameters=BIG_ENDIAN)
TypeError: predict: expected arrays in parameters.
Received: >f4[3, 8] at '0/weights', which JAX cannot hold; convert it with .astype, to np.float32
for instance
>>> predict(parameters=LONG)
TypeError: predict: expected arrays in parameters.
Received: float128[3, 8] at '0/weights', which JAX cannot hold; convert it with .astype, to
np.float32 for instance
>>> predict(parameters=jax.eval_shape(NETWORK.init, KEY))
TypeError: predict: expected arrays in parameters.
Received: ShapeDtypeStruct float32[3, 8] at '0/weights', which has no values
>>> predict(parameters={"w": DELETED})
TypeError: predict: expected arrays in parameters.
Received: float32[7, 3] at 'w', which was deleted, as donated arrays are
>>> predict(parameters={"w": MASKED})
TypeError: predict: expected arrays in parameters.
Received: MaskedArray float32[6, 3] at 'w', which has a mask; array.filled(number) has none
>>> predict(parameters={"w": SPARSE})
TypeError: predict: expected arrays in parameters.
Received: csr_matrix float64[6, 3] at 'w', which is sparse; .toarray() gives a dense array
>>> predict(inputs=MASKED)
TypeError: predict: expected inputs as an array.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> predict(inputs=SPARSE)
TypeError: predict: expected inputs as an array.
Received: csr_matrix float64[6, 3], which is sparse; .toarray() gives a dense array
>>> predict(inputs=Tensor())
TypeError: predict: expected inputs as an array.
Received: Tensor torch.float32[6, 3]; a tensor of PyTorch's can be given as
tensor.detach().float().cpu().numpy()
>>> predict(inputs=NOT_NUMBERS)
TypeError: predict: expected numbers for inputs.
Received: dtype object, such as 'red' in column 'colour'; jaxnet.estimators takes text and
missing values as they are, and scikit-learn's OneHotEncoder and SimpleImputer make numbers of them
>>> predict(inputs=[1.0, 2.0, 3.0])
ValueError: predict: expected inputs of shape [examples, features]. Received: [3]
>>> predict(inputs=1.0)
ValueError: predict: expected inputs of shape [examples, features]. Received: []
>>> predict(inputs=OUTPUTS)
ValueError: dense(3, 8, relu): expected inputs with 3 features. Received: [6, 4]
>>> predict(inputs=RAGGED)
ValueError: predict: expected inputs as rows of equal length. Received: list [[1.0], [1.0, 2.0]]
>>> predict(inputs=None)
TypeError: predict: expected numbers for inputs. Received: dtype object, such as None
>>> predict(inputs=KEYS)
TypeError: predict: expected numbers for inputs. Received: key<...
>>> predict(batch_size=0)
ValueError: predict: expected batch_size of at least 1. Received: 0
>>> predict(batch_size=2.0)
TypeError: predict: expected an integer for batch_size. Received: float 2.0
>>> predict(batch_size=None)
TypeError: predict: expected an integer for batch_size. Received: NoneType None
>>> evaluate(3)
TypeError: evaluate: expected network of type Network. Received: int 3
>>> evaluate(parameters=RUN)
TypeError: evaluate: expected arrays in parameters. Received: str 'finished' at 'stopped'
>>> evaluate(parameters=OTHERS)
ValueError: evaluate: data: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8].
Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> evaluate(data=INPUTS)
TypeError: evaluate: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: float32[6, 3]
>>> evaluate(data=(INPUTS, LABELS + 1))
ValueError: evaluate: data: accuracy: expected labels from 0 to 3, as there are 4 outputs.
Received: 4 at index (3,)
>>> evaluate(data=(INPUTS, LABELS.astype(float)))
TypeError: evaluate: data: accuracy: expected integer labels. Received: float64[6]
>>> evaluate(data=(INPUTS, pandas.Series(LABELS).astype(object)))
TypeError: evaluate: data: accuracy: expected integer labels. Received: object[6]
>>> evaluate(data=(SPARSE, LABELS))
TypeError: evaluate: expected inputs of data as an array.
Received: csr_matrix float64[6, 3], which is sparse; .toarray() gives a dense array
>>> evaluate(parameters=BIG_ENDIAN)
TypeError: evaluate: expected arrays in parameters.
Received: >f4[3, 8] at '0/weights', which JAX cannot hold; convert it with .astype, to np.float32
for instance
>>> evaluate(metrics=accuracy)
TypeError: evaluate: expected metrics as names and functions, such as {'accuracy':
jaxnet.accuracy}.
Received: function <function accuracy...
>>> evaluate(metrics=[accuracy])
TypeError: evaluate: expected metrics as names and functions, such as {'accuracy':
jaxnet.accuracy}.
Received: list [<function accuracy...
>>> evaluate(metrics={"accuracy": "accuracy"})
TypeError: evaluate: expected metrics as names and functions, such as {'accuracy':
jaxnet.accuracy}.
Received: dict {'accuracy': 'accuracy'}
>>> evaluate(batch_size=-1)
ValueError: evaluate: expected batch_size of at least 1. Received: -1
>>> evaluate(batch_size=True)
TypeError: evaluate: expected an integer for batch_size. Received: bool True
>>> evaluate(batch_sharding="rows")
TypeError: evaluate: expected batch_sharding as a jax.sharding.NamedSharding. Received: str 'rows'
>>> predict(batch_sharding=MESH)
TypeError: predict: expected batch_sharding as a jax.sharding.NamedSharding. Received: Mesh Mesh(...
>>> train(batch_sharding=ONE_DEVICE)
TypeError: train: expected batch_sharding as a jax.sharding.NamedSharding.
Received: SingleDeviceSharding SingleDeviceSharding(...
>>> fit(batch_sharding=EVERYWHERE)
ValueError: fit: expected batch_sharding that divides the first axis alone, such as
PartitionSpec('rows'). Received: P()
>>> fit(batch_sharding=FEATURES)
ValueError: fit: expected batch_sharding that divides the first axis alone, such as
PartitionSpec('rows'). Received: P(None, 'rows')
"""

STEPS = r"""
>>> make_step("network", softmax_cross_entropy, ADAM)
TypeError: make_step: expected network of type Network. Received: str 'network'
>>> make_step(NETWORK, ADAM, softmax_cross_entropy)
TypeError: make_step: expected the optimizer as a pair of pure functions (init, update), such as an
optax GradientTransformation.
Received: function <function softmax_cross_entropy...
>>> make_step(NETWORK, "mse", ADAM)
TypeError: make_step: expected a function for loss. Received: str 'mse'
>>> make_step(NETWORK, softmax_cross_entropy, ADAM, {"cost": accuracy})
ValueError: make_step: expected metrics with names other than 'cost' and 'validation_...', which are
reserved.
Received: 'cost'
>>> make_step(NETWORK, softmax_cross_entropy, ADAM, [accuracy])
TypeError: make_step: expected metrics as names and functions, such as {'accuracy':
jaxnet.accuracy}.
Received: list [<function accuracy...
>>> STEP(PARAMETERS, BATCH)
TypeError: step: expected state of type TrainState. Received: tuple...
>>> STEP(RUN, BATCH)
TypeError: step: expected state of type TrainState. Received: FitResult FitResult(...
>>> STEP(STATE, INPUTS)
TypeError: step: expected batch as a tuple (inputs, targets) or (inputs, targets, weights).
Received: float32[6, 3]
>>> STEP(STATE, (INPUTS, LABELS[:2]))
ValueError: step: expected targets of batch for 6 examples, as many as there are inputs.
Received: [2]
>>> STEP(STATE, (INPUTS[0], LABELS))
ValueError: step: expected inputs of batch of shape [examples, features], with at least one example.
Received: [3]
>>> STEP(STATE._replace(step=3.7), BATCH)
TypeError: step: expected an integer for state.step. Received: float 3.7
>>> STEP(STATE, (MASKED, LABELS))
TypeError: step: expected inputs of batch as an array.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> STEP(STATE, BATCH, 0)
TypeError: step: expected one key made by jax.random.key(seed). Received: int 0
>>> STEP(STATE, BATCH, RAW_KEY)
TypeError: step: expected one key made by jax.random.key(seed). Received: uint32[2]
>>> jax.eval_shape(make_step(NETWORK, softmax_cross_entropy, LOOKAHEAD), LOOKAHEAD_STATE, BATCH)
TypeError: step: expected an optimizer of one tree of parameters.
Received: optax.lookahead, which moves two...
>>> initial_state(NETWORK, "adam", key=KEY)
TypeError: initial_state: expected the optimizer as a pair of pure functions (init, update), such as
an optax GradientTransformation.
Received: str 'adam'
>>> initial_state(NETWORK, ADAM, key=42)
TypeError: initial_state: expected one key made by jax.random.key(seed). Received: int 42
>>> initial_state(relu, ADAM, key=KEY)
TypeError: initial_state: expected network of type Network. Received: function <function relu...
"""

TRAIN = r"""
>>> train(network="mlp")
TypeError: train: expected network of type Network. Received: str 'mlp'
>>> train(optimizer=adam)
TypeError: train: expected the optimizer as a pair of pure functions (init, update), such as an
optax GradientTransformation.
Received: function <function adam...
>>> train(optimizer=LOOKAHEAD)
TypeError: train: expected an optimizer of one tree of parameters.
Received: optax.lookahead, which moves two...
>>> train(optimizer=optax.masked(optax.lbfgs(), MATRICES))
TypeError: train: expected an optimizer that evaluates the cost at all of the network's parameters,
not one that is masked, partitioned or flattened.
Received: pytree structure error...
>>> train(optimizer=optax.contrib.split_real_and_imaginary(optax.polyak_sgd()))
TypeError: train: expected an optimizer that needs no extra arguments except value, grad, value_fn,
obj_fn, grad_fn, and passes them on.
Received: scale_by_polyak...missing 1 required keyword-only argument: 'value'
>>> train(optimizer=optax.stateless(lambda gradients, _: jax.tree.map(jnp.sum, gradients)))
ValueError: train: expected updates of the parameters' structure and shapes, (DenseParameters(...
Received: (DenseParameters(weights=float32[], biases=float32[]), ...
>>> train(optimizer=optax.chain(ADAM, optax.monitor({"norm": optax.tree.norm})))
ValueError: train: expected leaves of the optimizer's state after a step that match those before it,
but '1/measurements/norm' is not expected. Expected: ... Received: ...
>>> train(loss=None)
TypeError: train: expected a function for loss. Received: NoneType None
>>> train(key=None)
TypeError: train: expected one key made by jax.random.key(seed). Received: NoneType None
>>> train(key=RAW_KEY)
TypeError: train: expected one key made by jax.random.key(seed). Received: uint32[2]
>>> train(key=KEYS)
TypeError: train: expected one key made by jax.random.key(seed). Received: key<...
>>> train(epochs=0)
ValueError: train: expected epochs of at least 1. Received: 0
>>> train(epochs=-3)
ValueError: train: expected epochs of at least 1. Received: -3
>>> train(epochs=True)
TypeError: train: expected an integer for epochs. Received: bool True
>>> train(epochs=1e3)
TypeError: train: expected an integer for epochs. Received: float 1000.0
>>> train(epochs=10**12)
ValueError: train: expected epochs of at least 1 and at most 1073741823. Received: 1000000000000
>>> train(batch_size=0)
ValueError: train: expected batch_size of at least 1. Received: 0
>>> train(batch_size=True)
TypeError: train: expected an integer for batch_size. Received: bool True
>>> train(batch_size="all")
TypeError: train: expected an integer for batch_size. Received: str 'all'
>>> train(data=[INPUTS, LABELS])
TypeError: train: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: list [array(...
>>> train(data=(COMPLEX_INPUTS, LABELS))
TypeError: train: expected numbers for inputs of data. Received: complex64[6, 3]
>>> train(data=(WHOLE_INPUTS, LABELS))
TypeError: train: data: dense(3, 8, relu): expected inputs of the parameters' dtype, float32.
Received: int32
>>> train(data=(INPUTS, LABELS, np.ones((6, 1))))
ValueError: train: expected weights of data of shape [6]. Received: [6, 1]
>>> train(data=(INPUTS, with_one(LABELS, 9)))
ValueError: train: data: softmax_cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: 9 at index (1,)
>>> train(validation=(INPUTS[:, :2], LABELS))
ValueError: train: validation: dense(3, 8, relu): expected inputs with 3 features. Received: [6, 2]
>>> train(loss=squared_error)
ValueError: train: data: squared_error: expected targets of the same shape as outputs, [6, 4].
Received: [6]; targets[:, None] are those of one output per example
>>> train(loss=MEAN_OF_ALL["mean"])
ValueError: train: data: cost: expected one value per example, [6]. Received: []
>>> train(loss=lambda outputs, targets: None)
TypeError: train: data: cost: expected floating-point values. Received: NoneType None
>>> train(metrics=accuracy)
TypeError: train: expected metrics as names and functions, such as {'accuracy': jaxnet.accuracy}.
Received: function <function accuracy...
>>> train(metrics={1: accuracy})
TypeError: train: expected metrics as names and functions, such as {'accuracy': jaxnet.accuracy}.
Received: dict {1: <function accuracy...
>>> train(metrics={"validation_cost": accuracy})
ValueError: train: expected metrics with names other than 'cost' and 'validation_...', which are
reserved.
Received: 'validation_cost'
>>> train(metrics=RIGHT_OR_NOT)
TypeError: train: data: right: expected floating-point values. Received: bool[6]
>>> train(data=(MASKED, LABELS))
TypeError: train: expected inputs of data as an array.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> train(data=(INPUTS, LABELS.astype(float)))
TypeError: train: data: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> train(validation=(INPUTS, LABELS.astype(object)))
TypeError: train: validation: softmax_cross_entropy: expected integer labels. Received: object[6]
>>> train(state=STATE._replace(step=3.7))
TypeError: train: expected an integer for state.step. Received: float 3.7
>>> train(state=RUN)
TypeError: train: expected state of type TrainState. Received: FitResult FitResult(...
>>> train(state=PARAMETERS)
TypeError: train: expected state of type TrainState. Received: tuple...
>>> train(state=STATE._replace(parameters=OTHERS))
ValueError: train: data: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8].
Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> train(state=STATE, optimizer=sgd(0.1))
ValueError: train: expected leaves of state.optimizer_state that match those of the optimizer, but
'trace/0/weights' is missing. Expected: SgdState(count=int32[],
trace=(DenseParameters(weights=float32[3, 8], biases=float32[8]),
DenseParameters(weights=float32[8, 4], biases=float32[4])))
Received: AdamState(count=int32[]...
>>> train(state=TrainState(PARAMETERS, "adam", 0))
TypeError: train: expected arrays in state. Received: str 'adam' at 'optimizer_state'
"""

FIT = r"""
>>> jaxnet.Stream(0, read)
ValueError: Stream: expected rows of at least 1. Received: 0
>>> jaxnet.Stream(6, INPUTS)
TypeError: Stream: expected a function for read. Received: float32[6, 3]
>>> jaxnet.Stream(6, read, "rows.npy")
TypeError: Stream: expected files as a list of paths. Received: str 'rows.npy'
>>> jaxnet.Stream(6, read, [3])
TypeError: Stream: expected files as a string or a pathlib.Path. Received: int 3
>>> jaxnet.Stream(6, read, piece=0)
ValueError: Stream: expected piece of at least 1. Received: 0
>>> jaxnet.Stream(6, read, block_bytes=1e6)
TypeError: Stream: expected an integer for block_bytes. Received: float 1000000.0
>>> jaxnet.BatchStream(iter([]), 3)
TypeError: BatchStream: expected an iterator with __next__, get_state and set_state.
Received: list_iterator...
>>> jaxnet.numpy_stream(3, LABELS)
TypeError: numpy_stream: expected inputs as a string or a pathlib.Path. Received: int 3
>>> jaxnet.numpy_stream(INPUTS, LABELS[:5])
ValueError: numpy_stream: expected targets with 6 rows, as many as there are inputs. Received: [5]
>>> jaxnet.numpy_stream(__file__, LABELS)
ValueError: numpy_stream: expected inputs as an .npy file of numbers. Received: ...
>>> jaxnet.parquet_stream(3, ["a"], "b")
TypeError: parquet_stream: expected files as a string or a pathlib.Path. Received: int 3
>>> jaxnet.parquet_stream("rows.parquet", [1, 2], "b")
TypeError: parquet_stream: expected inputs as names of columns. Received: list [1, 2]
>>> fit(data=STREAM, batch_size=None)
ValueError: fit: expected a batch_size to train on a stream, which does not fit into a batch.
Received: None
>>> fit(data=STREAM, key=KEYS)
ValueError: fit: expected one key to train on a stream. Received: [3]
>>> fit(data=STREAM, batch_size=0)
ValueError: fit: expected batch_size of at least 1. Received: 0
>>> fit(validation=STREAM)
TypeError: fit: expected validation data in memory, as the data are. Received: a Stream
>>> train(data=STREAM)
TypeError: train: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: Stream Stream...
>>> jaxnet.evaluate(NETWORK, PARAMETERS, jaxnet.BatchStream(BATCHES, 2), {})
TypeError: evaluate: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: BatchStream BatchStream...
>>> fit(network=[3, 8, 4])
TypeError: fit: expected network of type Network. Received: list [3, 8, 4]
>>> fit(network=LAYER_PARAMETERS)
TypeError: fit: expected network of type Network. Received: Dense...
>>> fit(optimizer=adam)
TypeError: fit: expected the optimizer as a pair of pure functions (init, update), such as an optax
GradientTransformation.
Received: function <function adam...
>>> fit(optimizer="adam")
TypeError: fit: expected the optimizer as a pair of pure functions (init, update), such as an optax
GradientTransformation.
Received: str 'adam'
>>> fit(optimizer=0.01)
TypeError: fit: expected the optimizer as a pair of pure functions (init, update), such as an optax
GradientTransformation.
Received: float 0.01
>>> fit(optimizer=Torch())
TypeError: fit: expected the optimizer as a pair of pure functions (init, update), such as an optax
GradientTransformation.
Received: Torch Adam( lr: 0.001 ), a stateful optimizer
>>> fit(optimizer=LOOKAHEAD)
TypeError: fit: expected an optimizer of one tree of parameters.
Received: optax.lookahead, which moves two...
>>> fit(loss="mse")
TypeError: fit: expected a function for loss. Received: str 'mse'
>>> fit(loss=ADAM, optimizer=softmax_cross_entropy)
TypeError: fit: expected a function for loss. Received: GradientTransformation GradientTransf...
>>> fit(key=0)
TypeError: fit: expected one key made by jax.random.key(seed). Received: int 0
>>> fit(key=RAW_KEY)
TypeError: fit: expected one key made by jax.random.key(seed). Received: uint32[2]
>>> fit(key=TABLE_OF_KEYS)
ValueError: fit: expected one key, or keys [members]. Received: [2, 3]
>>> fit(key=NO_KEYS)
ValueError: fit: expected one key, or keys [members]. Received: [0]
>>> jax.vmap(lambda key: fit(key=key).history)(KEYS)
TypeError: fit: expected key and state with concrete values. Received: traced arrays; use train
>>> fit(epochs=0)
ValueError: fit: expected epochs of at least 1. Received: 0
>>> fit(epochs=-1)
ValueError: fit: expected epochs of at least 1. Received: -1
>>> fit(epochs=2.0)
TypeError: fit: expected an integer for epochs. Received: float 2.0
>>> fit(epochs=None)
TypeError: fit: expected an integer for epochs. Received: NoneType None
>>> fit(epochs=True)
TypeError: fit: expected an integer for epochs. Received: bool True
>>> fit(epochs=10**12)
ValueError: fit: expected epochs of at least 1 and at most 1073741823. Received: 1000000000000
>>> fit(batch_size=-1)
ValueError: fit: expected batch_size of at least 1. Received: -1
>>> fit(batch_size=1.5)
TypeError: fit: expected an integer for batch_size. Received: float 1.5
>>> fit(batch_size=False)
TypeError: fit: expected an integer for batch_size. Received: bool False
>>> fit(patience=EarlyStopping(0), validation=(INPUTS, LABELS))
ValueError: fit: expected patience.patience of at least 1. Received: 0
>>> fit(patience=EarlyStopping(3, "accuracy"), validation=(INPUTS, LABELS))
ValueError: fit: expected patience.monitor as 'cost'. Received: str 'accuracy'
>>> fit(patience=EarlyStopping(3, mode="maximum"), validation=(INPUTS, LABELS))
ValueError: fit: expected patience.mode as 'min' or 'max'. Received: str 'maximum'
>>> fit(patience=EarlyStopping(3, min_delta=-1), validation=(INPUTS, LABELS))
ValueError: fit: expected a finite patience.min_delta of at least 0. Received: -1
>>> fit(patience=EarlyStopping(3))
ValueError: fit: expected validation data with patience. Received: None
>>> fit(patience=3)
ValueError: fit: expected validation data with patience. Received: None
>>> fit(patience=0, validation=(INPUTS, LABELS))
ValueError: fit: expected patience of at least 1. Received: 0
>>> fit(patience=True, validation=(INPUTS, LABELS))
TypeError: fit: expected an integer for patience. Received: bool True
>>> fit(on_epoch=3)
TypeError: fit: expected a function for on_epoch. Received: int 3
>>> fit(on_epoch=[print])
TypeError: fit: expected a function for on_epoch. Received: list [<built-in function print>]
>>> fit(progress="no")
TypeError: fit: expected True or False for progress. Received: str 'no'
>>> fit(data=None)
TypeError: fit: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: NoneType None
>>> fit(data=INPUTS)
TypeError: fit: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: float32[6, 3]
>>> fit(data=(INPUTS,))
TypeError: fit: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: tuple (array(...
>>> fit(data=(INPUTS, None))
TypeError: fit: expected numbers for targets of data. Received: dtype object, such as None
>>> fit(data={"inputs": INPUTS, "targets": LABELS})
TypeError: fit: expected data as a tuple (inputs, targets) or (inputs, targets, weights).
Received: dict {'inputs': array(...
>>> fit(data=({"a": INPUTS, "b": INPUTS}, LABELS))
TypeError: fit: expected numbers for inputs of data. Received: dtype object, such as {'a': array(...
>>> fit(data=(NOT_NUMBERS, [0, 1]))
TypeError: fit: expected numbers for inputs of data.
Received: dtype object, such as 'red' in column 'colour'; jaxnet.estimators takes text and
missing values as they are, and scikit-learn's OneHotEncoder and SimpleImputer make numbers of them
>>> fit(data=(INPUTS, ["apple"] * 6))
TypeError: fit: expected numbers for targets of data. Received: dtype <U5, such as np.str_('apple')
>>> fit(data=(RAGGED, [0, 1]))
ValueError: fit: expected inputs of data as rows of equal length. Received: list [[1.0], [1.0, 2.0]]
>>> fit(data=(np.ones((0, 3)), []))
ValueError: fit: expected inputs of data of shape [examples, features], with at least one example.
Received: [0, 3]
>>> fit(data=(INPUTS[:, 0], LABELS))
ValueError: fit: expected inputs of data of shape [examples, features], with at least one example.
Received: [6]
>>> fit(data=(1.0, 2.0))
ValueError: fit: expected inputs of data of shape [examples, features], with at least one example.
Received: []
>>> fit(data=(INPUTS, LABELS[:5]))
ValueError: fit: expected targets of data for 6 examples, as many as there are inputs. Received: [5]
>>> fit(data=(INPUTS, 1))
ValueError: fit: expected targets of data for 6 examples, as many as there are inputs. Received: []
>>> fit(data=(INPUTS, LABELS, np.ones(5)))
ValueError: fit: expected weights of data of shape [6]. Received: [5]
>>> fit(data=(INPUTS, LABELS, ONE_NEGATIVE))
ValueError: fit: expected weights of data that are non-negative and not all 0.
Received: weights from -1.0 to 1.0
>>> fit(data=(INPUTS, LABELS, [0] * 6))
ValueError: fit: expected weights of data that are non-negative and not all 0.
Received: weights from 0.0 to 0.0
>>> fit(data=(INPUTS, LABELS, [NAN] * 6))
ValueError: fit: expected finite weights of data. Received: nan at index (0,)
>>> fit(data=(with_one(INPUTS, NAN), LABELS))
ValueError: fit: expected finite inputs of data. Received: nan at index (1, 0)
>>> fit(data=(INFINITE_INPUTS, LABELS))
ValueError: fit: expected finite inputs of data. Received: -inf at index (1, 0)
>>> fit(data=(MISSING, [0, 1]))
ValueError: fit: expected finite inputs of data.
Received: nan at index (1, 0) in column 'weight'; jaxnet.estimators takes
missing values as they are, and scikit-learn's SimpleImputer fills them in
>>> fit(data=(INPUTS, LABELS), validation=(MISSING, [0, 1]))
ValueError: fit: expected finite inputs of validation.
Received: nan at index (1, 0) in column 'weight'; jaxnet.estimators takes
missing values as they are, and scikit-learn's SimpleImputer fills them in
>>> fit(data=(UNKNOWN, [0, 1]))
TypeError: fit: expected numbers for inputs of data.
Received: dtype object, such as <NA> in column 'smooth'; jaxnet.estimators takes text and
missing values as they are, and scikit-learn's OneHotEncoder and SimpleImputer make numbers of them
>>> fit(data=(SPARSE, LABELS))
TypeError: fit: expected inputs of data as an array.
Received: csr_matrix float64[6, 3], which is sparse; .toarray() gives a dense array
>>> fit(data=(MASKED, LABELS))
TypeError: fit: expected inputs of data as an array.
Received: MaskedArray float32[6, 3], which has a mask; array.filled(number) has none
>>> fit(data=(list(MASKED), LABELS))
TypeError: fit: expected inputs of data as an array.
Received: list [masked_array(...; array.filled(number) has none
>>> fit(data=(INPUTS, MASKED[:, 0]))
TypeError: fit: expected targets of data as an array.
Received: MaskedArray float32[6], which has a mask; array.filled(number) has none
>>> fit(data=(INPUTS, LABELS, MASKED[:, 0]))
TypeError: fit: expected weights of data as an array.
Received: MaskedArray float32[6], which has a mask; array.filled(number) has none
>>> fit(data=(INPUTS, [0, 1, 2, 3, 0, np.ma.masked]))
TypeError: fit: expected targets of data as an array.
Received: list [0, 1, 2, 3, 0, masked], which has a mask; array.filled(number) has none
>>> fit(data=(INPUTS.view(Units), LABELS))
TypeError: fit: expected inputs of data as an array.
Received: Units float32[6, 3]; np.asarray(array) is a plain array, without what else this means
>>> fit(data=(DELETED, LABELS))
TypeError: fit: expected inputs of data as an array.
Received: float32[7, 3], which was deleted, as donated arrays are
>>> fit(data=(SHAPE, LABELS))
TypeError: fit: expected inputs of data as an array.
Received: ShapeDtypeStruct float32[6, 3], which has no values
>>> fit(data=(Tensor(), LABELS))
TypeError: fit: expected inputs of data as an array.
Received: Tensor torch.float32[6, 3]; a tensor of PyTorch's can be given as
tensor.detach().float().cpu().numpy()
>>> fit(data=(INPUTS.astype("M8[s]"), LABELS))
TypeError: fit: expected numbers for inputs of data.
Received: dtype datetime64[s], such as np.datetime64('1970-01-01T00:00:00')
>>> fit(data=(INPUTS.astype(np.float64) * 1e300, LABELS))
ValueError: fit: expected finite inputs of data. Received: inf at index (0, 0)
>>> fit(data=(INPUTS, with_one(ONE_HOT, NAN)), loss=squared_error)
ValueError: fit: expected finite targets of data. Received: nan at index (1, 0)
>>> fit(data=(INPUTS, LABELS.astype(np.int64) + 2**40))
ValueError: fit: expected targets of data within 32 bits. Received: 1099511627776 to 1099511627779
>>> fit(data=(INPUTS[:, :2], LABELS))
ValueError: fit: data: dense(3, 8, relu): expected inputs with 3 features. Received: [6, 2]
>>> fit(data=(INPUTS, LABELS + 1))
ValueError: fit: data: softmax_cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: 4 at index (3,)
>>> fit(data=(INPUTS, LABELS - 1))
ValueError: fit: data: softmax_cross_entropy: expected labels from 0 to 3, as there are 4 outputs.
Received: -1 at index (0,)
>>> fit(data=(INPUTS, ONE_HOT.astype(int)))
ValueError: fit: data: softmax_cross_entropy: expected labels of shape [6] for outputs of shape [6,
4].
Received: [6, 4]
>>> fit(data=(INPUTS, LABELS.astype(float)))
TypeError: fit: data: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> fit(data=(INPUTS, LABELS.astype(object)))
TypeError: fit: data: softmax_cross_entropy: expected integer labels. Received: object[6]
>>> fit(data=(INPUTS, (LABELS * 1.0).tolist()))
TypeError: fit: data: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> fit(data=(INPUTS, pandas.Series(LABELS).astype("float16")))
TypeError: fit: data: softmax_cross_entropy: expected integer labels. Received: float16[6]
>>> fit(data=(INPUTS, HALF_LABELS))
TypeError: fit: data: softmax_cross_entropy: expected integer labels. Received: bfloat16[6]
>>> fit(validation=(INPUTS, LABELS.astype(float)))
TypeError: fit: validation: softmax_cross_entropy: expected integer labels. Received: float64[6]
>>> fit(metrics={"accuracy": accuracy}, loss=any_loss, data=COLUMN_DATA)
TypeError: fit: data: accuracy: expected integer labels. Received: float64[6]
>>> fit(epochs=np.timedelta64(2, "s"))
TypeError: fit: expected an integer for epochs. Received: timedelta64[s][]
>>> fit(batch_size=np.datetime64(2, "s"))
TypeError: fit: expected an integer for batch_size. Received: datetime64[s][]
>>> fit(checkpoints=jaxnet.Checkpoints("unused", every=np.timedelta64(30, "s")))
TypeError: fit: expected checkpoints.every as a number of epochs or a datetime.timedelta.
Received: timedelta64[s][]
>>> fit(state=STATE._replace(step=3.7))
TypeError: fit: expected an integer for state.step. Received: float 3.7
>>> fit(state=STATE._replace(step=A_FLOAT))
TypeError: fit: expected an integer of 32 or 64 bits for state.step. Received: float32[]
>>> fit(state=STATE._replace(step=np.uint8(3)))
TypeError: fit: expected an integer of 32 or 64 bits for state.step. Received: uint8[]
>>> fit(state=STATE._replace(step={"a": 1}))
TypeError: fit: expected an integer for state.step. Received: dict {'a': 1}
>>> fit(state=STATE._replace(step=INTEGERS))
TypeError: fit: expected an integer of 32 or 64 bits for state.step. Received: int32[2]
>>> fit(state=STATE._replace(step=np.int64(-1)))
ValueError: fit: expected state.step of at least 0. Received: -1
>>> fit(state=STATE._replace(step=None))
TypeError: fit: expected an integer for state.step. Received: NoneType None
>>> fit(state=STATE._replace(best=PARAMETERS))
TypeError: fit: expected state.best of type BestSoFar. Received: tuple (Dense...
>>> fit(state=STATE._replace(best=BestSoFar(OTHERS, A_FLOAT, 1)))
ValueError: fit: expected state.best.parameters that match state.parameters, but ...
>>> fit(state=STATE._replace(best=BestSoFar(PARAMETERS, NOT_FINITE, 1)))
TypeError: fit: expected a number for state.best.value. Received: float32[2]
>>> fit(state=STATE._replace(best=BestSoFar(PARAMETERS, A_FLOAT, A_FLOAT)))
TypeError: fit: expected an integer of 32 or 64 bits for state.best.epoch. Received: float32[]
>>> fit(state=STATE._replace(task=PARAMETERS))
TypeError: fit: expected state.task of type Task. Received: tuple (Dense...
>>> fit(state=STATE._replace(parameters=jax.eval_shape(NETWORK.init, KEY)))
TypeError: fit: expected arrays in state.
Received: ShapeDtypeStruct float32[3, 8] at 'parameters/0/weights', which has no values
>>> fit(loss=squared_error)
ValueError: fit: data: squared_error: expected targets of the same shape as outputs, [6, 4].
Received: [6]; targets[:, None] are those of one output per example
>>> fit(network=mlp([3, 1]), loss=sigmoid_binary_cross_entropy)
ValueError: fit: data: sigmoid_binary_cross_entropy: expected finite targets of at least 0 and at
most 1.
Received: 2 at index (2,)
>>> fit(validation=(INPUTS, LABELS[:5]))
ValueError: fit: expected targets of validation for 6 examples, as many as there are inputs.
Received: [5]
>>> fit(validation=(with_one(INPUTS, INF), LABELS))
ValueError: fit: expected finite inputs of validation. Received: inf at index (1, 0)
>>> fit(validation=(INPUTS, with_one(LABELS, 9)))
ValueError: fit: validation: softmax_cross_entropy: expected labels from 0 to 3, as there are 4
outputs.
Received: 9 at index (1,)
>>> fit(validation=0.2)
TypeError: fit: expected validation as a tuple (inputs, targets) or (inputs, targets, weights).
Received: float 0.2
>>> fit(metrics=["accuracy"])
TypeError: fit: expected metrics as names and functions, such as {'accuracy': jaxnet.accuracy}.
Received: list ['accuracy']
>>> fit(metrics=MEAN_OF_ALL)
ValueError: fit: data: mean: expected one value per example, [6]. Received: []
>>> fit(metrics=RIGHT_OR_NOT)
TypeError: fit: data: right: expected floating-point values. Received: bool[6]
>>> fit(state=RUN)
TypeError: fit: expected state of type TrainState. Received: FitResult FitResult(...
>>> fit(state=STATE._replace(parameters=OTHERS))
ValueError: fit: data: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8].
Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> fit(state=STATE, optimizer=sgd(0.1))
ValueError: fit: expected leaves of state.optimizer_state that match those of the optimizer, but
'trace/0/weights' is missing. Expected: SgdState(count=int32[],
trace=(DenseParameters(weights=float32[3, 8], biases=float32[8]),
DenseParameters(weights=float32[8, 4], biases=float32[4])))
Received: AdamState(count=int32[]...
>>> fit(state=STATE._replace(parameters="run.npz"))
TypeError: fit: expected arrays in state. Received: str 'run.npz' at 'parameters'
"""

SWEEP = r"""
>>> jaxnet.sweep("run", {"a": [1.0]})
TypeError: sweep: expected a function for run. Received: str 'run'
>>> jaxnet.sweep({"a": [1.0]}, power)
TypeError: sweep: expected a function for run. Received: dict {'a': [1.0]}
>>> jaxnet.sweep(max, {"a": [1.0]})
ValueError: sweep: expected a run with an inspectable signature.
Received: builtin_function_or_method <built-in function max>
>>> sweep({})
TypeError: sweep: expected a grid of names and values, such as {'rate': [0.1, 0.01]}.
Received: dict {}
>>> sweep([0.1, 0.2])
TypeError: sweep: expected a grid of names and values, such as {'rate': [0.1, 0.01]}.
Received: list [0.1, 0.2]
>>> sweep({0: [1.0]})
TypeError: sweep: expected a grid of names and values, such as {'rate': [0.1, 0.01]}.
Received: dict {0: [1.0]}
>>> sweep({"rate": [1.0]})
ValueError: sweep: expected a grid of the arguments of run, a, b.
Received: 'rate', which it does not take
>>> sweep({"b": [1.0]})
ValueError: sweep: expected a grid of the arguments of run, a, b. Received: no 'a'
>>> sweep({"a": 1.0})
ValueError: sweep: expected at least one number or key for 'a'. Received: float 1.0
>>> sweep({"a": []})
ValueError: sweep: expected at least one number or key for 'a'. Received: list []
>>> sweep({"a": ["x"]})
ValueError: sweep: expected at least one number or key for 'a'; pass other values in structural.
Received: list ['x']
>>> sweep({"a": [None]})
ValueError: sweep: expected at least one number or key for 'a'; pass other values in structural.
Received: list [None]
>>> sweep({"a": RAGGED})
ValueError: sweep: expected at least one number or key for 'a'; pass other values in structural.
Received: list [[1.0], [1.0, 2.0]]
>>> sweep({"a": MASKED[:, 0]})
ValueError: sweep: expected at least one number or key for 'a'.
Received: MaskedArray float32[6], which has a mask; array.filled(number) has none
>>> sweep({"a": [1.0, np.ma.masked]})
ValueError: sweep: expected at least one number or key for 'a'.
Received: list [1.0, masked], which has a mask; array.filled(number) has none
>>> sweep({"a": LABELS.astype("m8[s]")})
ValueError: sweep: expected at least one number or key for 'a'. Received: timedelta64[s][6]
>>> sweep({"a": COMPLEX})
ValueError: sweep: expected at least one number or key for 'a'. Received: complex64[2]
>>> sweep({"a": KEY})
ValueError: sweep: expected at least one number or key for 'a'. Received: key<...
>>> sweep({"a": [1.0, NAN]})
ValueError: sweep: expected finite values for 'a'. Received: nan at index (1,)
>>> sweep({"a": NOT_FINITE})
ValueError: sweep: expected finite values for 'a'. Received: inf at index (1,)
>>> sweep({"a": [1e300]})
ValueError: sweep: expected finite values for 'a'. Received: inf at index (0,)
>>> sweep({"a": [2**40]})
ValueError: sweep: expected finite values for 'a' of at least -2.14748e+09 and at most 2.14748e+09.
Received: 1099511627776 at index (0,)
>>> sweep({"a": [HUGE]})
ValueError: sweep: expected at least one number or key for 'a'; pass other values in structural.
Received: list [10000000000000000000000000000000000000000000000000000000...
>>> sweep({"a": [1.0, 2.0], "b": [1.0]}, zipped=True)
ValueError: sweep: expected the same number of values for every hyperparameter of a zipped grid.
Received: a 2, b 1
>>> sweep({"a": [1.0]}, zipped="yes")
TypeError: sweep: expected True or False for zipped. Received: str 'yes'
>>> sweep({"a": np.ones(10**5), "b": np.ones(10**5)})
ValueError: sweep: expected a grid of fewer than 2**31 runs. Received: 10000000000, 100000 x 100000
>>> sweep({"a": [1.0]}, memory=0)
ValueError: sweep: expected a finite memory of at least 1. Received: 0
>>> sweep({"a": [1.0]}, memory="4 GB")
TypeError: sweep: expected a number for memory. Received: str '4 GB'
>>> sweep({"a": [1.0]}, progress=3)
TypeError: sweep: expected True or False for progress. Received: int 3
>>> jaxnet.sweep(lambda a: a if a > 1 else -a, {"a": [1.0]})
TypeError: sweep: expected a run that is one program for all hyperparameters: none may decide a
shape or a branch, or become a Python number, as 'a' would; pass it in structural.
Received: Attempted boolean conversion...
>>> jaxnet.sweep(lambda size: jnp.zeros(size), {"size": [1, 2]})
TypeError: sweep: expected a run that is one program for all hyperparameters: none may decide a
shape or a branch, or become a Python number, as 'size' would; pass it in structural.
Received: Shapes must be 1D sequences of concrete values...
>>> jaxnet.sweep(lambda batch_size: train(batch_size=batch_size), {"batch_size": [2, 3]})
TypeError: sweep: expected a run that is one program for all hyperparameters: none may decide a
shape or a branch, or become a Python number, as 'batch_size' would; pass it in structural.
Received: train: expected an integer for batch_size. Received: int32[]
>>> jaxnet.sweep(lambda size: mlp([3, size, 4]).init(KEY), {"size": [2, 3]})
TypeError: sweep: expected a run that is one program for all hyperparameters: none may decide a
shape or a branch, or become a Python number, as 'size' would; pass it in structural.
Received: dense: expected an integer for out_features. Received: int32[]
>>> jaxnet.sweep(lambda a: {"a": "done"}, {"a": [1.0]})
TypeError: sweep: expected arrays in the results of run. Received: str 'done' at 'a'
>>> jaxnet.sweep(lambda seed: train(key=seed), {"seed": [0, 1]})
TypeError: train: expected one key made by jax.random.key(seed). Received: int32[]
>>> FOUND.best(np.ones(3))
ValueError: Sweep.best: expected scores with the axes of the grid, [2, 3]. Received: [3]
>>> FOUND.best(["low"] * 2)
TypeError: Sweep.best: expected numbers for scores. Received: list ['low', 'low']
>>> FOUND.best(RAGGED)
ValueError: Sweep.best: expected scores as rows of equal length. Received: list [[1.0], [1.0, 2.0]]
>>> FOUND.best(None)
TypeError: Sweep.best: expected numbers for scores. Received: NoneType None
>>> FOUND.best(np.full((2, 3), NAN))
ValueError: Sweep.best: expected a complete run with finite results and score. Received: none
>>> FOUND.best(np.ones((2, 3)), largest="rate")
TypeError: Sweep.best: expected True or False for largest. Received: str 'rate'
>>> FOUND.at(1)
ValueError: Sweep.at: expected one index for each axis of the grid, [2, 3]. Received: tuple (1,)
>>> FOUND.at(0, 3)
ValueError: Sweep.at: expected place of at least -3 and at most 2. Received: 3
>>> FOUND.at(0, 1.0)
TypeError: Sweep.at: expected an integer for place. Received: float 1.0
>>> sweep({"a": [1.0]}, structural=["b"])
TypeError: sweep: expected structural as names and lists of values, such as {'width': [16, 64]}.
Received: list ['b']
>>> sweep({"a": [1.0]}, structural={"b": 2})
TypeError: sweep: expected a list of at least one value for 'b' in structural. Received: int 2
>>> sweep({"a": [1.0]}, structural={"b": []})
TypeError: sweep: expected a list of at least one value for 'b' in structural. Received: list []
>>> sweep({"a": [1.0]}, structural={"b": "text"})
TypeError: sweep: expected a list of at least one value for 'b' in structural.
Received: str 'text'
>>> sweep({"a": [1.0]}, structural={1: [2]})
TypeError: sweep: expected structural as names and lists of values, such as {'width': [16, 64]}.
Received: dict {1: [2]}
>>> sweep({"a": [1.0]}, structural={"a": [2]})
ValueError: sweep: expected every hyperparameter either in grid or in structural.
Received: 'a' in both
>>> sweep({"a": [1.0]}, structural={"c": [2]})
ValueError: sweep: expected a grid of the arguments of run, a, b.
Received: 'c', which it does not take
>>> sweep({"a": np.ones(2**16)}, structural={"b": range(2**16)})
ValueError: sweep: expected a grid of fewer than 2**31 runs. Received: 4294967296, 65536 x 65536
>>> sweep({"a": [1.0]}, folder=3)
TypeError: sweep: expected folder as a string or a pathlib.Path. Received: int 3
>>> sweep({"a": [1.0]}, part=(0, 2))
ValueError: sweep: expected a folder for the results of a part. Received: None
>>> sweep({"a": [1.0]}, folder="runs", part=1)
TypeError: sweep: expected part as its number and the number of parts, such as (0, 8).
Received: int 1
>>> sweep({"a": [1.0]}, folder="runs", part=(2, 2))
ValueError: sweep: expected the number of the part of at least 0 and at most 1. Received: 2
>>> sweep({"a": [1.0]}, folder="runs", part=(0, 0))
ValueError: sweep: expected the number of parts of at least 1. Received: 0
>>> sweep({"a": [1.0]}, folder="runs", part=(0.5, 2))
TypeError: sweep: expected an integer for the number of the part. Received: float 0.5
>>> jaxnet.sweep(lambda n: jnp.zeros(n), {}, structural={"n": [2, 3]})
ValueError: sweep: expected results of the same shapes and dtypes for all structural values.
Received: float32[2] with n=2 and float32[3] with n=3. Let run return scores only;
Sweep.rerun gives a run's parameters
>>> FOUND.rerun(0)
ValueError: Sweep.rerun: expected one index for each axis of the grid, [2, 3]. Received: tuple (0,)
>>> FOUND.rerun(0, 3)
ValueError: Sweep.rerun: expected place of at least -3 and at most 2. Received: 3
"""

HALVING = r"""
>>> jaxnet.halve("start", go_on, {"a": [1.0]}, rungs=(1,))
TypeError: halve: expected a function for start. Received: str 'start'
>>> halve(run={"a": [1.0]})
TypeError: halve: expected a function for run. Received: dict {'a': [1.0]}
>>> halve(start=max)
ValueError: halve: expected a start with an inspectable signature.
Received: builtin_function_or_method <built-in function max>
>>> halve(grid=[1.0])
TypeError: halve: expected a grid of names and values, such as {'rate': [0.1, 0.01]}.
Received: list [1.0]
>>> halve(grid={"rate": [1.0]})
ValueError: halve: expected a grid of the arguments of start, a, b.
Received: 'rate', which it does not take
>>> halve(grid={"a": [1.0], "b": [2.0]})
ValueError: halve: expected a grid of the arguments of run, a.
Received: 'b', which it does not take
>>> halve(run=lambda a: (a, a))
ValueError: halve: expected a run whose first argument is the state, such as run(state, rate).
Received: run(a)
>>> halve(run=lambda: 1.0)
ValueError: halve: expected a run whose first argument is the state, such as run(state, rate).
Received: run()
>>> halve(structural={"a": [1.0]})
ValueError: halve: expected every hyperparameter either in grid or in structural.
Received: 'a' in both
>>> halve(rungs=3)
TypeError: halve: expected rungs as numbers of calls, such as (1, 3, 9, 27). Received: int 3
>>> halve(rungs=())
TypeError: halve: expected rungs as numbers of calls, such as (1, 3, 9, 27). Received: tuple ()
>>> halve(rungs=(0, 1))
ValueError: halve: expected each of rungs of at least 1. Received: 0
>>> halve(rungs=(1, 2.5))
TypeError: halve: expected an integer for each of rungs. Received: float 2.5
>>> halve(rungs=(1, 3, 3))
ValueError: halve: expected increasing rungs. Received: (1, 3, 3)
>>> halve(factor=1)
ValueError: halve: expected factor of at least 2. Received: 1
>>> halve(factor=2.5)
TypeError: halve: expected an integer for factor. Received: float 2.5
>>> halve(largest="yes")
TypeError: halve: expected True or False for largest. Received: str 'yes'
>>> halve(memory=0)
ValueError: halve: expected a finite memory of at least 1. Received: 0
>>> halve(start=lambda a: "state")
TypeError: halve: expected arrays in the state of start. Received: str 'state'
>>> halve(run=lambda state, a: ("state", a))
TypeError: halve: expected arrays in the state of run. Received: str 'state'
>>> halve(run=lambda state, a: state)
TypeError: halve: expected a pair (state, score) from run. Received: float32[]
>>> halve(run=lambda state, a: (state, state[None]))
TypeError: halve: expected a number for the score of run. Received: float32[1]
>>> halve(run=lambda state, a: (state, None))
TypeError: halve: expected a number for the score of run. Received: NoneType None
>>> halve(run=lambda state, a: ({"a": state}, a))
ValueError: halve: expected leaves of the state after two calls of run that match those after one,
but 'a' is missing. Expected: {'a': float32[]} Received: {'a': {'a': float32[]}}
>>> halve(start=lambda a: {"x": TREE["b"]}, run=lambda state, a: (grow(state), a))
ValueError: halve: expected leaves of the state after two calls of run that match those after one,
but 'x' is float32[12] instead of float32[6].
Expected: {'x': float32[6]} Received: {'x': float32[12]}
>>> halve(run=lambda state, a: (state, a) if a > 1 else (state, -a))
TypeError: halve: expected a run that is one program for all hyperparameters: none may decide a
shape or a branch, or become a Python number, as 'a' would; pass it in structural.
Received: Attempted boolean conversion...
"""

COMPARISON = r"""
>>> problems.standard_problems(-1)
ValueError: standard_problems: expected seed of at least 0. Received: -1
>>> problems.standard_problems(None)
TypeError: standard_problems: expected an integer for seed. Received: NoneType None
>>> problems.standard_problems(KEY)
TypeError: standard_problems: expected an integer for seed. Received: key<...
>>> compare(Torch(), ADAM)
TypeError: compare_optimizers: expected the candidate as a pair of pure functions (init, update),
such as an optax GradientTransformation.
Received: Torch Adam( lr: 0.001 ), a stateful optimizer
>>> compare(ADAM, adam)
TypeError: compare_optimizers: expected the reference as a pair of pure functions (init, update),
such as an optax GradientTransformation.
Received: function <function adam...
>>> compare(ADAM, (1, 2))
TypeError: compare_optimizers: expected the reference as a pair of pure functions (init, update),
such as an optax GradientTransformation.
Received: tuple (1, 2)
>>> compare(ADAM, ADAM, steps=0)
ValueError: compare_optimizers: expected steps of at least 1. Received: 0
>>> compare(ADAM, ADAM, steps=1e3)
TypeError: compare_optimizers: expected an integer for steps. Received: float 1000.0
>>> compare(ADAM, ADAM, steps=10**12)
ValueError: compare_optimizers: expected steps of at least 1 and at most 2147483647.
Received: 1000000000000
>>> compare(ADAM, ADAM, problems=[])
ValueError: compare_optimizers: expected at least one problem. Received: none
>>> compare(ADAM, ADAM, problems=3)
TypeError: compare_optimizers: expected problems of type Sequence. Received: int 3
>>> compare(ADAM, ADAM, problems=BOWL)
TypeError: compare_optimizers: expected problems of type Problem. Received: str 'bowl'
>>> compare(ADAM, ADAM, problems=[BOWL._replace(parameters=[np.ones(2, int)])])
TypeError: compare_optimizers: problem 'bowl': expected floating-point parameters.
Received: int64[2] at '0'
>>> compare(ADAM, ADAM, problems=[BOWL._replace(parameters=np.array([1, NAN]))])
ValueError: compare_optimizers: problem 'bowl': expected finite parameters.
Received: nan at index (1,)
>>> compare(ADAM, ADAM, problems=[BOWL._replace(gradients=np.ones(2))])
TypeError: compare_optimizers: problem 'bowl': expected a function for gradients.
Received: float64[2]
>>> compare(ADAM, ADAM, problems=[BOWL._replace(gradients=lambda p, step: p[:1])])
ValueError: compare_optimizers: problem 'bowl': expected gradients that match the parameters, but ''
is float32[1] instead of float32[2]. Expected: float32[2]
Received: float32[1]
>>> compare((lambda p: 0, lambda g, s: (g, s)), ADAM)
ValueError: compare_optimizers: expected a candidate whose init(parameters) and update(gradients,
state, parameters) can be traced.
Received: TypeError: ...
>>> compare((lambda p: 0, lambda g, s, p: (g[:1], s)), ADAM)
ValueError: compare_optimizers: expected updates of the candidate with the parameters' structure and
shapes, (2,).
Received: (1,)
>>> check_optimizer("adam")
TypeError: check_optimizer: expected the optimizer as a pair of pure functions (init, update), such
as an optax GradientTransformation.
Received: str 'adam'
>>> check_optimizer(lambda: ADAM)
TypeError: check_optimizer: expected the optimizer as a function of the learning rate.
Received: TypeError: ...
>>> check_optimizer(lambda rate: None)
TypeError: check_optimizer: expected the optimizer as a pair of pure functions (init, update), such
as an optax GradientTransformation.
Received: NoneType None
>>> check_optimizer(adam, reference=0.1)
TypeError: check_optimizer: expected the reference as a pair of pure functions (init, update), such
as an optax GradientTransformation.
Received: float 0.1
>>> check_optimizer(adam, per_element="yes")
TypeError: check_optimizer: expected True or False for per_element. Received: str 'yes'
>>> plots.plot_comparison([BOWL])
TypeError: plot_comparison: expected comparison of type Comparison. Received: list [Problem(...
>>> plots.plot_comparison(RUN)
TypeError: plot_comparison: expected comparison of type Comparison. Received: FitResult...
"""

ADAPTERS = r"""
>>> adapters.from_step(3)
TypeError: from_step: expected a function for step. Received: int 3
>>> adapters.from_step(power, 0.0)
TypeError: from_step: expected a function for init_state. Received: float 0.0
>>> adapters.from_step(power, order=3)
TypeError: from_step: expected order of type Sequence. Received: int 3
>>> adapters.from_step(power, order=("parameters", "grads", "state"))
ValueError: from_step: expected order with the names 'parameters', 'gradients'.
Received: ('parameters', 'grads', 'state')
>>> adapters.from_step(power, tuple, order=("parameters", "gradients"))
ValueError: from_step: expected order with the names 'parameters', 'gradients', 'state'.
Received: ('parameters', 'gradients')
>>> SHRINKING.update(np.ones(2), (), np.ones(2))
ValueError: from_step: expected new parameters with the structure and shapes of the old ones, (2,).
Received: (1,)
>>> adapters.from_step(lambda p, g, s: p, tuple).update(np.ones(2), (), np.ones(2))
TypeError: from_step: expected a step that returns (parameters, state). Received: ndarray
>>> adapters.from_triple(ADAM)
TypeError: from_triple: expected a tuple of three functions (init, update, get_params).
Received: GradientTransformation...
>>> adapters.from_triple((1, 2, 3))
TypeError: from_triple: expected a tuple of three functions (init, update, get_params).
Received: tuple (1, 2, 3)
>>> adapters.from_triple((lambda p: p, power, lambda s: s.mean())).init(np.ones(2))
ValueError: from_triple: expected get_params that returns 1 leaves of the state.
Received: a computation
>>> adapters.from_triple((lambda p: (p, p), power, lambda s: s)).init(np.ones(2))
ValueError: from_triple: expected get_params that returns 1 leaves of the state. Received: 2 leaves
>>> adapters.from_keras(Torch())
TypeError: from_keras: expected a function for make. Received: Torch Adam( lr: 0.001 )
>>> adapters.from_torch(Torch())
TypeError: from_torch: expected a function for make. Received: Torch Adam( lr: 0.001 )
>>> adapters.replay(3, [])
TypeError: replay: expected a list of gradients, one for each step. Received: int 3
>>> adapters.replay([], [np.ones(2)])
ValueError: replay: expected the gradients of at least one step and the parameters before and after
each. Received: 0 gradients and 1 parameters
>>> adapters.replay([np.ones(2)], [np.ones(2)])
ValueError: replay: expected the gradients of at least one step and the parameters before and after
each. Received: 1 gradients and 1 parameters
>>> adapters.replay([INTEGERS], [np.ones(2)] * 2)
TypeError: replay: expected floating-point gradients[0]. Received: int32[2]
>>> adapters.replay([np.ones(2)], [np.ones(2), np.ones(3)])
ValueError: replay: expected parameters[1] that match parameters[0], but '' is float32[3] instead of
float32[2]. Expected: float32[2]
Received: float32[3]
"""

LOOKING_INSIDE = r"""
>>> summary(mlp)
TypeError: summary: expected network of type Network. Received: function ...
>>> summary(None)
TypeError: summary: expected network of type Network. Received: NoneType None
>>> summary(Network(NETWORK.init, NETWORK.apply))
ValueError: summary: expected one example as inputs, since the network does not know its
number of inputs: network. Received: None
>>> summary(NETWORK, RAGGED)
ValueError: summary: expected inputs as rows of equal length. Received: list [[1.0], [1.0, 2.0]]
>>> summary(NETWORK, "weights")
TypeError: summary: expected numbers for inputs. Received: dtype <U7, such as np.str_('weights')
>>> estimate_speedup(PARAMETERS, 64, 8)
TypeError: estimate_speedup: expected network of type Network. Received: tuple ...
>>> estimate_speedup(NETWORK, 0, 8)
ValueError: estimate_speedup: expected batch_size of at least 1. Received: 0
>>> estimate_speedup(NETWORK, 64.0, 8)
TypeError: estimate_speedup: expected an integer for batch_size. Received: float 64.0
>>> estimate_speedup(NETWORK, 64, 0)
ValueError: estimate_speedup: expected devices of at least 1. Received: 0
>>> estimate_speedup(NETWORK, 64, 12)
ValueError: estimate_speedup: expected devices of at most 8, or a multiple of it, since a host has
so many. Received: 12
>>> estimate_speedup(NETWORK, 64, 8, 4.74e14)
TypeError: estimate_speedup: expected hardware of type Hardware. Received: float 474000000000000.0
>>> estimate_speedup(NETWORK, 64, 8, Hardware(flops=0))
ValueError: estimate_speedup: expected a finite hardware.flops of at least 1. Received: 0
>>> estimate_speedup(NETWORK, 64, 8, Hardware(link_seconds=NAN))
ValueError: estimate_speedup: expected a finite hardware.link_seconds of at least 0. Received: nan
>>> estimate_speedup(jaxnet.dropout(0.5), 64, 8)
ValueError: estimate_speedup: expected a network with parameters. Received: dropout(0.5)
>>> intermediates(mlp, PARAMETERS, INPUTS)
TypeError: intermediates: expected network of type Network. Received: function ...
>>> intermediates(NETWORK, OTHERS, INPUTS)
ValueError: dense(3, 8, relu): expected parameters weights [3, 8] and biases [8]. Received:
DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> intermediates(NETWORK, PARAMETERS, INPUTS[:, :2])
ValueError: dense(3, 8, relu): expected inputs with 3 features. Received: [6, 2]
>>> intermediates(NETWORK, PARAMETERS, "inputs")
TypeError: dense(3, 8, relu): expected inputs as an array. Received: str 'inputs'
>>> intermediates(NETWORK, PARAMETERS, INPUTS, key=RAW_KEY)
TypeError: serial(dense(3, 8, relu), dense(8, 4, identity)): expected one key made by
jax.random.key(seed). Received: uint32[2]
>>> intermediates(NETWORK, "parameters", INPUTS)
TypeError: intermediates: expected arrays in parameters. Received: str 'parameters'
>>> find_nonfinite(NETWORK, softmax_cross_entropy, ADAM, PARAMETERS, BATCH)
TypeError: find_nonfinite: expected state of type TrainState. Received: tuple (Dense...
>>> find_nonfinite(mlp, softmax_cross_entropy, ADAM, STATE, BATCH)
TypeError: find_nonfinite: expected network of type Network. Received: function ...
>>> find_nonfinite(NETWORK, None, ADAM, STATE, BATCH)
TypeError: find_nonfinite: expected a function for loss. Received: NoneType None
>>> find_nonfinite(NETWORK, softmax_cross_entropy, None, STATE, BATCH)
TypeError: find_nonfinite: expected the optimizer as a pair of pure functions (init, update),
such as an optax GradientTransformation. Received: NoneType None
>>> find_nonfinite(NETWORK, softmax_cross_entropy, ADAM, STATE, INPUTS)
TypeError: find_nonfinite: expected batch as a tuple (inputs, targets) or (inputs, targets,
weights). Received: float32[6, 3]
>>> find_nonfinite(NETWORK, softmax_cross_entropy, ADAM, STATE, (INPUTS, LABELS[:3]))
ValueError: find_nonfinite: expected targets of batch for 6 examples, as many as there are
inputs. Received: [3]
>>> find_nonfinite(NETWORK, softmax_cross_entropy, ADAM, STATE, BATCH, 0)
TypeError: find_nonfinite: expected one key made by jax.random.key(seed). Received: int 0
>>> diagnose(mlp, softmax_cross_entropy, PARAMETERS, BATCH)
TypeError: diagnose: expected network of type Network. Received: function ...
>>> diagnose(NETWORK, "loss", PARAMETERS, BATCH)
TypeError: diagnose: expected a function for loss. Received: str 'loss'
>>> diagnose(NETWORK, softmax_cross_entropy, OTHERS, BATCH)
ValueError: diagnose: batch: dense(3, 8, relu): expected parameters weights [3, 8] and biases
[8]. Received: DenseParameters(weights=float32[3, 5], biases=float32[5])
>>> diagnose(NETWORK, softmax_cross_entropy, PARAMETERS, INPUTS)
TypeError: diagnose: expected batch as a tuple (inputs, targets) or (inputs, targets, weights).
Received: float32[6, 3]
>>> diagnose(NETWORK, softmax_cross_entropy, PARAMETERS, (INPUTS, ONE_HOT[:, :3]))
ValueError: diagnose: batch: softmax_cross_entropy: expected targets, if they are no integer
labels, of the same shape as outputs, [6, 4]. Received: [6, 3]
>>> diagnose(NETWORK, softmax_cross_entropy, PARAMETERS, BATCH, optimizer=adam)
TypeError: diagnose: expected the optimizer as a pair of pure functions (init, update), such as
an optax GradientTransformation. Received: function ...
>>> diagnose(NETWORK, softmax_cross_entropy, PARAMETERS, BATCH, optimizer_state=())
ValueError: diagnose: expected an optimizer with optimizer_state. Received: None
>>> diagnose(NETWORK, softmax_cross_entropy, PARAMETERS, BATCH, key=RAW_KEY)
TypeError: diagnose: expected one key made by jax.random.key(seed). Received: uint32[2]
"""

FILES = r"""
>>> save(3, TREE)
TypeError: save: expected path as a string or a pathlib.Path. Received: int 3
>>> save("unused", {"a": "text"})
TypeError: save: expected arrays with values, keys or numbers. Received: str 'text' at 'a'
>>> save("unused", {"a": COMPLEX, "b": len})
TypeError: save: expected arrays with values, keys or numbers. Received:
builtin_function_or_method <built-in function len> at 'b'
>>> save("unused", {"a": MASKED})
TypeError: save: expected arrays with values, keys or numbers.
Received: MaskedArray float32[6, 3] at 'a', which has a mask; array.filled(number) has none
>>> save("unused", TREE, metadata={1: "a", "1": "b"})
TypeError: save: expected metadata whose names are strings, as they are in JSON. Received: int 1
>>> save("unused", {"\ud800": 1.0})
ValueError: save: expected names that UTF-8 can encode. Received: '\ud800'
>>> export(NETWORK, {"w": MASKED}, "unused")
TypeError: export: expected arrays in parameters.
Received: MaskedArray float32[6, 3] at 'w', which has a mask; array.filled(number) has none
>>> from_pytorch(to_pytorch(PARAMETERS) | {"0.bias": np.ma.ones(8, np.float32)}, PARAMETERS)
ValueError: from_pytorch: expected '0.bias' of float32[8].
Received: MaskedArray float32[8], which has a mask; array.filled(number) has none
>>> save("unused", [2**63])
ValueError: save: expected integers within 64 bits. Received: 9223372036854775808 at '0'
>>> save("unused", TREE, metadata={"a": KEY})
TypeError: save: expected metadata that JSON can hold. Received: ...
>>> save("unused", TREE, metadata="note")
TypeError: save: expected metadata as names and values. Received: str 'note'
>>> load(3)
TypeError: load: expected path as a string or a pathlib.Path. Received: int 3
>>> load(True)
TypeError: load: expected path as a string or a pathlib.Path. Received: bool True
>>> load_metadata(3)
TypeError: load_metadata: expected path as a string or a pathlib.Path. Received: int 3
>>> export(mlp, PARAMETERS, "unused")
TypeError: export: expected network of type Network. Received: function ...
>>> export(NETWORK, WORDS, "unused")
TypeError: export: expected arrays in parameters. Received: str 'w' at 'w'
>>> export(NETWORK, PARAMETERS, 3)
TypeError: export: expected path as a string or a pathlib.Path. Received: int 3
>>> export(Network(NETWORK.init, NETWORK.apply), PARAMETERS, "unused")
ValueError: export: expected an example of the inputs, such as example=inputs[0], as network
does not know its number of features. Received: none
>>> to_pytorch(3)
TypeError: to_pytorch: expected the parameters of a dense layer or a layer_norm for every
layer that has any. Received: int with shapes [[]] for layer 0
>>> to_pytorch(PARAMETERS, names=["0"])
ValueError: to_pytorch: expected 2 different names, one for each layer that has parameters.
Received: ['0']
>>> to_pytorch(PARAMETERS, names=["0", "0"])
ValueError: to_pytorch: expected 2 different names, one for each layer that has parameters.
Received: ['0', '0']
>>> from_pytorch(3, PARAMETERS)
TypeError: from_pytorch: expected a state dict, such as model.state_dict(). Received: int 3
>>> from_pytorch({}, PARAMETERS)
ValueError: from_pytorch: expected the entries ['0.weight', '0.bias', '2.weight', '2.bias'].
Received: []; missing: ['0.weight', '0.bias', '2.weight', '2.bias'], not expected: []
>>> from_pytorch(to_pytorch(OTHERS), PARAMETERS)
ValueError: from_pytorch: expected '0.weight' of float32[8, 3]. Received: float32[5, 3]
>>> from_pytorch(to_pytorch(PARAMETERS) | {"9.bias": BIASES}, PARAMETERS)
ValueError: from_pytorch: expected the entries ['0.weight', '0.bias', '2.weight', '2.bias'].
Received: ['0.weight', '0.bias', '2.weight', '2.bias', '9.bias']; missing: [], not expected:
['9.bias']
>>> from_pytorch(to_pytorch(PARAMETERS), PARAMETERS, names=["0"])
ValueError: from_pytorch: expected 2 different names, one for each layer that has parameters.
Received: ['0']
"""

TABLES = [ACTIVATIONS, SOFTMAX, LOSSES, WEIGHTED_MEAN, METRICS, OPTIMIZERS, NETWORKS]
TABLES += [
    TABLE_NETWORKS,
    EVALUATION,
    STEPS,
    TRAIN,
    FIT,
    SWEEP,
    HALVING,
    COMPARISON,
    ADAPTERS,
    LOOKING_INSIDE,
    FILES,
]


def rows(table):
    """Each call, and what it says: the type of the error and the message, on one line."""
    for row in table.strip().removeprefix(">>> ").split("\n>>> "):
        call, said = row.split("\n", 1)
        yield call, " ".join(said.split())


ROWS = [row for table in TABLES for row in rows(table)]
ERRORS = {"TypeError": TypeError, "ValueError": ValueError}

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: COMPILED.append(event) if "backend_compile" in event else None
)


@pytest.fixture
def compiled():
    """What is compiled meanwhile, also of what was compiled before and would be found."""
    jax.clear_caches()
    filtering = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")  # or JAX would hide where it raised
    COMPILED.clear()
    yield COMPILED
    jax.config.update("jax_traceback_filtering", filtering)


def raised_in_jaxnet(caught):
    file = traceback.extract_tb(caught.tb)[-1].filename
    return Path(file).is_relative_to(Path(jaxnet.__file__).parent)


def fits(text, pattern):
    return re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), text) is not None


@pytest.mark.parametrize(("call", "said"), [pytest.param(*row, id=row[0]) for row in ROWS])
def test_is_refused_by_us_before_anything_is_compiled(call, said, compiled):
    called = eval(f"lambda: {call}", vars(jaxnet) | globals())
    error = ERRORS[said.partition(":")[0]]
    with helpers.refused(error, "expected", "Received: ") as caught:
        called()
    assert caught.type is error  # JAX's own are derived from it
    message = f"{caught.typename}: {caught.value}"
    assert fits(" ".join(message.split()), said), f"{message}\nin place of\n{said}"
    assert len(message.splitlines()) <= 3
    assert raised_in_jaxnet(caught)
    assert compiled == []


def takes_arguments(function):
    return bool(inspect.signature(function).parameters)


def test_there_are_many_and_of_every_function():
    assert len(ROWS) >= 150
    public = helpers.PUBLIC
    functions = [n for n, f in public.items() if not isinstance(f, type) and takes_arguments(f)]
    missing = [f for f in functions if not any(f" {f}: expected" in said for _, said in ROWS)]
    assert missing == []


def test_compiling_would_be_seen(compiled):
    for _ in range(2):
        jax.clear_caches()
        assert jnp.add(ARRAY, ARRAY).shape == (7, 3)
    assert len(compiled) >= 2


def test_an_error_of_another_would_be_seen(compiled):
    with helpers.refused(TypeError) as caught:
        jnp.add(ARRAY, "1")
    assert not raised_in_jaxnet(caught)
    assert fits("a: expected 1. Received: 2", "a: ... Received: 2")
    assert not fits("a: expected 1. Received: 23", "a: ... Received: 2")
