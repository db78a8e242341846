"""Contenders: ways to train a workload; here jaxnet's, the limit's and plain JAX's.

A contender is a function from a `Task` to `run`, which trains all of the task's networks from their
starting weights and returns the weights they end with. What `run` needs to do only once, such as
compiling or moving the data to a device, it keeps. Other libraries' are in `peers`.
"""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from benchmarking.workloads import Task, Weights, Workload, shuffled

Run = Callable[[], list[Weights] | None]

SINGLE = ("W1", "W2", "W3", "W4")
SWEEPS = ("W5 x64", "W5 x256")


class Unsuited(Exception):
    """Says nothing on this device: a dash."""


class Contender(NamedTuple):
    """How to train, with what imported before the clock starts, and what of."""

    build: Callable[[Task], Run]
    modules: tuple[str, ...]
    workloads: tuple[str, ...]
    environment: dict[str, str]


REGISTRY: dict[str, Contender] = {}


def contender(
    name: str, modules: str, workloads: tuple[str, ...], **environment: str
) -> Callable[[Callable[[Task], Run]], Callable[[Task], Run]]:
    """Enters a function under a name; modules are separated by spaces."""

    def enter(build: Callable[[Task], Run]) -> Callable[[Task], Run]:
        REGISTRY[name] = Contender(build, tuple(modules.split()), workloads, environment)
        return build

    return enter


def one_by_one(task: Task, train: Callable[[Weights, float, int], Weights]) -> Run:
    """Trains one network after the other with `train(start, rate, seed)`."""
    networks = list(zip(task.starts, task.rates, itertools.count(), strict=False))
    return lambda: [train(*network) for network in networks]


def stacked(starts: list[Weights]) -> Weights:
    """Of many networks one, whose every array has a leading axis for them."""
    layers = zip(*starts, strict=True)
    return [tuple(np.stack(arrays) for arrays in zip(*layer, strict=True)) for layer in layers]


def unstacked(weights: Any) -> list[Weights]:
    """The networks of a stack, as NumPy's arrays."""
    layers = [tuple(np.asarray(array) for array in layer) for layer in weights]
    return [[(w[i], b[i]) for w, b in layers] for i in range(len(layers[0][0]))]


def in_layers(arrays: list[Any]) -> Any:
    """Pairs of weights and biases, from a list in which they alternate."""
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def fetched(weights: Any) -> Weights:
    """A network's weights as NumPy's arrays, which waits for them."""
    return [(np.asarray(w), np.asarray(b)) for w, b in weights]


# jaxnet.


def jaxnet_parts(
    workload: Workload, compute_dtype: Any = None
) -> tuple[Any, Any, Callable[[Any], Any]]:
    """The network, its loss, and the function from a learning rate to the optimizer."""
    import jaxnet

    loss = jaxnet.softmax_cross_entropy if workload.classifies else jaxnet.mean_squared_error
    momentum = functools.partial(jaxnet.sgd, momentum=0.9)
    optimizer = {"adam": jaxnet.adam, "momentum": momentum}[workload.optimizer]
    return jaxnet.mlp(list(workload.sizes), compute_dtype=compute_dtype), loss, optimizer


def jaxnet_start(optimizer: Any, weights: Any) -> Any:
    """The state before the first step, with given weights."""
    import jax.numpy as jnp

    import jaxnet

    parameters = tuple(jaxnet.DenseParameters(jnp.asarray(w), jnp.asarray(b)) for w, b in weights)
    return jaxnet.TrainState(parameters, optimizer.init(parameters), jnp.zeros((), jnp.int32))


def jaxnet_train(workload: Workload, compute_dtype: Any = None) -> Callable[..., Any]:
    """`train(weights, rate, key, data) -> (weights, history)`, a whole run, to be compiled."""
    import jaxnet

    network, loss, optimizer = jaxnet_parts(workload, compute_dtype)

    def train(weights: Any, rate: Any, key: Any, data: Any) -> Any:
        rule = optimizer(rate)
        sizes = {"epochs": workload.epochs, "batch_size": workload.batch_size}
        state = jaxnet_start(rule, weights)
        state, history = jaxnet.train(network, loss, rule, data, key=key, state=state, **sizes)
        return state.parameters, history

    return train


@contender("jaxnet train", "jax jaxnet", SINGLE)
def train(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jaxnet_train(task.workload))
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    key = jax.random.key(0)
    return lambda: [fetched(compiled(task.starts[0], task.rates[0], key, data)[0])]


@contender("jaxnet fit", "jax jaxnet", (*SINGLE, "W3 memmap"))
def fit(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    import jaxnet

    workload, data = task.workload, (task.inputs, task.targets)
    if workload.data != "memmap":  # which is there for what fit makes of it
        data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    network, loss, optimizer = jaxnet_parts(workload)
    rule = optimizer(task.rates[0])
    key, state = jax.random.key(0), jax.jit(functools.partial(jaxnet_start, rule))(task.starts[0])
    sizes = {"epochs": workload.epochs, "batch_size": workload.batch_size, "progress": False}

    def run() -> list[Weights]:
        fitted = jaxnet.fit(network, loss, rule, data, key=key, state=state, **sizes)
        return [fetched(fitted.parameters)]

    return run


@contender("jaxnet vmap", "jax jaxnet", SWEEPS)
def vmap(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jax.vmap(jaxnet_train(task.workload), (0, 0, 0, None)))
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts, rates = stacked(task.starts), np.array(task.rates, np.float32)

    def run() -> list[Weights]:
        keys = jax.random.split(jax.random.key(0), len(rates))
        return unstacked(compiled(starts, rates, keys, data)[0])

    return run


@contender("jaxnet sweep", "jax jaxnet", SWEEPS)
def sweep(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    import jaxnet

    train = jaxnet_train(task.workload)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts = jax.tree.map(jnp.asarray, stacked(task.starts))

    def one(key: Any, rate: Any, number: Any) -> Any:
        return train(jax.tree.map(lambda array: array[number], starts), rate, key, data)

    grid = {
        "key": jax.random.split(jax.random.key(0), len(task.rates)),
        "rate": np.array(task.rates, np.float32),
        "number": np.arange(len(task.rates)),
    }
    return lambda: unstacked(jaxnet.sweep(one, grid, zipped=True).results[0])


# The limit: one bare scan, written by hand for these workloads and nothing else.


def bare_step(workload: Workload) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`start(weights) -> state` and `step(state, inputs, targets, rate) -> state`."""
    import jax
    import jax.numpy as jnp

    def cost(parameters: Any, inputs: Any, targets: Any) -> Any:
        outputs = inputs
        for layer, (weights, biases) in enumerate(parameters):
            outputs = (jnp.maximum(outputs, 0) if layer else outputs) @ weights + biases
        if not workload.classifies:
            return jnp.mean(jnp.square(outputs - targets))
        chosen = jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(outputs, axis=1) - chosen)

    def adam(state: Any, gradients: Any, rate: Any) -> Any:
        parameters, m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
        size, spread = rate / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        parameters = jax.tree.map(
            lambda p, m, v: p - size * m / (jnp.sqrt(v) * spread + 1e-8), parameters, m, v
        )
        return parameters, m, v, t

    def momentum(state: Any, gradients: Any, rate: Any) -> Any:
        parameters, velocity = state
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
        return jax.tree.map(lambda p, v: p - rate * v, parameters, velocity), velocity

    def start(weights: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, (weights, weights))
        adam_start = (weights, *zeros, jnp.zeros(()))
        return adam_start if workload.optimizer == "adam" else (weights, zeros[0])

    rule = adam if workload.optimizer == "adam" else momentum

    def step(state: Any, inputs: Any, targets: Any, rate: Any) -> Any:
        return rule(state, jax.grad(cost)(state[0], inputs, targets), rate)

    return start, step


def bare_run(workload: Workload) -> Callable[..., Any]:
    """`run(weights, rate, rows, inputs, targets) -> weights`, one scan over all steps' rows."""
    import jax

    start, step = bare_step(workload)

    def run(weights: Any, rate: Any, rows: Any, inputs: Any, targets: Any) -> Any:
        def body(state: Any, rows: Any) -> Any:
            return step(state, inputs[rows], targets[rows], rate), None

        return jax.lax.scan(body, start(weights), rows)[0][0]

    return run


@contender("limit", "jax", (*SINGLE, "W3 memmap"))
def limit(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(bare_run(task.workload))
    inputs, targets = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    rows = shuffled(np.random.default_rng(0), task.workload, task.workload.epochs)
    return lambda: [fetched(compiled(task.starts[0], task.rates[0], rows, inputs, targets))]


def sweep_rows(task: Task, networks: range) -> np.ndarray:
    """Row numbers [networks, steps, batch], every network's in an order of its own."""
    epochs = task.workload.epochs
    return np.stack([shuffled(np.random.default_rng(n), task.workload, epochs) for n in networks])


def check_processors() -> None:
    """Raises where JAX computes on something else: a GPU is filled by one vmap."""
    import jax

    if jax.devices()[0].platform != "cpu":
        raise Unsuited


@contender("limit vmap", "jax", SWEEPS)
def limit_vmap(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jax.vmap(bare_run(task.workload), (0, 0, 0, None, None)))
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts, rates = stacked(task.starts), np.array(task.rates, np.float32)
    rows = sweep_rows(task, range(len(rates)))
    return lambda: unstacked(compiled(starts, rates, rows, *data))


@contender(
    "limit 2 devices",
    "jax",
    SWEEPS,
    XLA_FLAGS="--xla_force_host_platform_device_count=2",
)
def limit_devices(task: Task) -> Run:
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, PartitionSpec

    check_processors()
    many = jax.vmap(bare_run(task.workload), (0, 0, 0, None, None))
    split, whole = PartitionSpec("networks"), PartitionSpec()
    mesh = jax.make_mesh((2,), ("networks",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": (split, split, split, whole, whole), "out_specs": split}
    compiled = jax.jit(jax.shard_map(many, mesh=mesh, check_vma=False, **specs))
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts, rates = stacked(task.starts), np.array(task.rates, np.float32)
    rows = sweep_rows(task, range(len(rates)))
    return lambda: unstacked(compiled(starts, rates, rows, *data))


@contender("limit 2 threads", "jax", SWEEPS)
def limit_threads(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    check_processors()
    compiled = jax.jit(jax.vmap(bare_run(task.workload), (0, 0, 0, None, None)))
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    half = len(task.starts) // 2
    halves = range(half), range(half, len(task.starts))
    rows = [sweep_rows(task, networks) for networks in halves]
    pool = ThreadPoolExecutor(2)

    def train_half(networks: range) -> list[Weights]:
        rates = np.array([task.rates[n] for n in networks], np.float32)
        starts = stacked([task.starts[n] for n in networks])
        return unstacked(compiled(starts, rates, rows[networks.start > 0], *data))

    return lambda: list(itertools.chain(*pool.map(train_half, halves)))


@contender("jnp.dot alone", "jax", ("W4",))
def dots(task: Task) -> Run:
    """The products of a step, forward and backward, and nothing between them."""
    import jax
    import jax.numpy as jnp

    workload, random = task.workload, np.random.default_rng(0)
    pairs = list(itertools.pairwise(workload.sizes))

    def array(*shape: int) -> Any:
        return jnp.asarray(random.standard_normal(shape, dtype=np.float32))

    weights = [array(*pair) for pair in pairs]
    inputs = [array(workload.batch_size, size) for size in workload.sizes[:-1]]
    deltas = [array(workload.batch_size, size) for size in workload.sizes[1:]]

    @jax.jit
    def products(weights: Any, inputs: Any, deltas: Any) -> Any:
        forward = [jnp.dot(x, w) for x, w in zip(inputs, weights, strict=True)]
        to_weights = [jnp.dot(x.T, d) for x, d in zip(inputs, deltas, strict=True)]
        to_inputs = [jnp.dot(d, w.T) for d, w in zip(deltas[1:], weights[1:], strict=True)]
        return forward, to_weights, to_inputs

    def run() -> None:
        for _ in range(workload.steps):
            jax.block_until_ready(products(weights, inputs, deltas))

    return run


# Plain JAX.


@contender("bare scan with permutation", "jax", (*SINGLE, *SWEEPS))
def scan_with_permutation(task: Task) -> Run:
    """The limit's scan with the shuffles made inside the compiled program."""
    import jax
    import jax.numpy as jnp

    workload = task.workload
    run = bare_run(workload)

    def train(weights: Any, rate: Any, key: Any, inputs: Any, targets: Any) -> Any:
        def order(key: Any) -> Any:
            rows = jax.random.permutation(key, workload.examples)
            padding = workload.steps_per_epoch * workload.batch_size - workload.examples
            return jnp.concatenate([rows, rows[:padding]])

        orders = jax.lax.map(order, jax.random.split(key, workload.epochs))
        return run(weights, rate, orders.reshape(-1, workload.batch_size), inputs, targets)

    compiled = jax.jit(jax.vmap(train, (0, 0, 0, None, None)))
    if workload.networks == 1:
        compiled = jax.jit(train)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts, rates = stacked(task.starts), np.array(task.rates, np.float32)

    def run_all() -> list[Weights]:
        if workload.networks == 1:
            key = jax.random.key(0)
            return [fetched(compiled(task.starts[0], task.rates[0], key, *data))]
        keys = jax.random.split(jax.random.key(0), workload.networks)
        return unstacked(compiled(starts, rates, keys, *data))

    return run_all


@contender("plain JAX jitted step", "jax", (*SINGLE, *SWEEPS))
def jitted_step(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    workload = task.workload
    start, step = bare_step(workload)

    def gathered(state: Any, rate: Any, rows: Any, inputs: Any, targets: Any) -> Any:
        return step(state, inputs[rows], targets[rows], rate)

    many = workload.networks > 1
    update = jax.vmap(gathered, (0, 0, 0, None, None)) if many else gathered
    compiled = jax.jit(update, donate_argnums=0)
    begin = jax.jit(jax.vmap(start) if many else start)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    starts = stacked(task.starts) if many else task.starts[0]
    rates = jnp.asarray(task.rates if many else task.rates[0], jnp.float32)

    def run() -> list[Weights]:
        state = begin(starts)
        rows = sweep_rows(task, range(workload.networks))
        for batch in np.moveaxis(rows, 0, 1) if many else rows[0]:
            state = compiled(state, rates, batch, *data)
        return unstacked(state[0]) if many else [fetched(state[0])]

    return run
