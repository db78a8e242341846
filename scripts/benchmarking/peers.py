"""Contenders from other libraries, each by the fast path that its documentation describes.

Loops written by hand around a jitted step gather the batch inside the step, from data that is on
the device, so that row numbers alone are passed to it.
"""

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarking.contenders import (
    SINGLE,
    SWEEPS,
    Run,
    contender,
    fetched,
    in_layers,
    one_by_one,
    stacked,
    sweep_rows,
    unstacked,
)
from benchmarking.workloads import Task, Weights, Workload, shuffled

ONCE = (*SINGLE, "W5 x64")  # one network after the other: 256 take four times as long as 64


# PyTorch.

TORCH = "torch torch._dynamo"  # the second is what the first optimizer imports


def torch_network(sizes: tuple[int, ...]) -> Any:
    import torch

    layers: list[Any] = []
    for pair in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(*pair), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_data(task: Task) -> tuple[Any, Any, str]:
    """Inputs, targets and the device they are on."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, which is JAX's default
    targets = task.targets.astype(np.int64) if task.workload.classifies else task.targets
    return torch.tensor(task.inputs, device=device), torch.tensor(targets, device=device), device


def torch_loss(workload: Workload) -> Callable[..., Any]:
    from torch.nn import functional

    return functional.cross_entropy if workload.classifies else functional.mse_loss


@contender("PyTorch fused", TORCH, ONCE)
def torch_loop(task: Task) -> Run:
    """The usual loop; W5 one network after the other."""
    import torch

    workload = task.workload
    inputs, targets, device = torch_data(task)
    loss, network = torch_loss(workload), torch_network(workload.sizes).to(device)
    momentum = functools.partial(torch.optim.SGD, momentum=0.9)
    optimizer_of = {"adam": torch.optim.Adam, "momentum": momentum}[workload.optimizer]

    def train(start: Weights, rate: float, seed: int) -> Weights:
        torch.manual_seed(seed)
        flat = [torch.tensor(a) for weights, biases in start for a in (weights.T, biases)]
        network.load_state_dict(dict(zip(network.state_dict(), flat, strict=True)))
        optimizer = optimizer_of(network.parameters(), lr=rate, fused=True)
        for _ in range(workload.epochs):
            order = torch.randperm(workload.examples, device=device)
            for rows in order.split(workload.batch_size):
                optimizer.zero_grad()
                loss(network(inputs[rows]), targets[rows]).backward()
                optimizer.step()
        final = [parameter.detach().cpu().numpy().copy() for parameter in network.parameters()]
        return [(weights.T, biases) for weights, biases in in_layers(final)]

    return one_by_one(task, train)


@contender("PyTorch torch.func vmap", TORCH, SWEEPS)
def torch_vmap(task: Task) -> Run:
    """All networks of a stack at once, with Adam for all rates by hand, in place."""
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    workload = task.workload
    inputs, targets, device = torch_data(task)
    loss = torch_loss(workload)
    networks = [torch_network(workload.sizes).to(device) for _ in task.starts]
    for network, start in zip(networks, task.starts, strict=True):
        flat = [torch.tensor(a) for weights, biases in start for a in (weights.T, biases)]
        network.load_state_dict(dict(zip(network.state_dict(), flat, strict=True)))
    initial, buffers = stack_module_state(networks)
    rates = torch.tensor(task.rates, device=device)

    def cost(parameters: Any, inputs: Any, targets: Any) -> Any:
        return loss(functional_call(networks[0], (parameters, buffers), (inputs,)), targets)

    gradients = vmap(grad(cost))

    @torch.no_grad()
    def update(parameter: Any, m: Any, v: Any, gradient: Any, t: int) -> None:
        m.lerp_(gradient, 0.1)
        v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        sizes = (rates / (1 - 0.9**t)).view(-1, *[1] * (parameter.ndim - 1))
        root = v.sqrt().div_((1 - 0.999**t) ** 0.5).add_(1e-8)
        parameter.sub_(sizes * m / root)

    def run() -> list[Weights]:
        torch.manual_seed(0)
        parameters = {name: value.detach().clone() for name, value in initial.items()}
        moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters.values()]
        t = 0
        for _ in range(workload.epochs):
            noise = torch.rand(len(networks), workload.examples, device=device)
            for rows in noise.argsort(dim=1).split(workload.batch_size, dim=1):
                t += 1
                slopes = gradients(parameters, inputs[rows], targets[rows])
                for name, (m, v) in zip(parameters, moments, strict=True):
                    update(parameters[name], m, v, slopes[name], t)
        final = [p.cpu().numpy() for p in parameters.values()]
        return unstacked([(w.transpose(0, 2, 1), b) for w, b in in_layers(final)])

    return run


# scikit-learn.


@contender("scikit-learn", "sklearn.neural_network", ONCE)
def scikit_learn(task: Task) -> Run:
    from sklearn import neural_network

    workload = task.workload
    base = neural_network.MLPClassifier if workload.classifies else neural_network.MLPRegressor

    class FromTheseWeights(base):
        def _initialize(self, *arguments: Any) -> None:
            super()._initialize(*arguments)
            self.coefs_ = [weights.copy() for weights, _ in self.start]
            self.intercepts_ = [biases.copy() for _, biases in self.start]

    solver = {"adam": "adam", "momentum": "sgd"}[workload.optimizer]

    def train(start: Weights, rate: float, seed: int) -> Weights:
        model = FromTheseWeights(
            hidden_layer_sizes=workload.sizes[1:-1],
            solver=solver,
            alpha=0,
            batch_size=workload.batch_size,
            learning_rate="constant",
            learning_rate_init=rate,
            max_iter=workload.epochs,
            random_state=seed,
            tol=0,
            momentum=0.9,
            nesterovs_momentum=False,
            n_iter_no_change=10**9,
        )
        model.start = start
        with warnings.catch_warnings(action="ignore"):  # that it has not converged
            model.fit(task.inputs, task.targets)
        return list(zip(model.coefs_, model.intercepts_, strict=True))

    return one_by_one(task, train)


# Keras.


def keras_fit(task: Task, **options: Any) -> Run:
    """`fit` on one compiled model, whose variables are set back before every network."""
    import keras

    workload = task.workload
    momentum = functools.partial(keras.optimizers.SGD, momentum=0.9)
    adam = functools.partial(keras.optimizers.Adam, epsilon=1e-8)
    optimizer = {"adam": adam, "momentum": momentum}[workload.optimizer](task.rates[0])
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    *hidden, last = workload.sizes[1:]
    layers = [keras.layers.Dense(size, activation="relu") for size in hidden]
    model = keras.Sequential([keras.Input(workload.sizes[:1]), *layers, keras.layers.Dense(last)])
    model.compile(optimizer, cross_entropy if workload.classifies else "mse", **options)
    optimizer.build(model.trainable_variables)
    fresh = [np.array(variable) for variable in optimizer.variables]

    def train(start: Weights, rate: float, seed: int) -> Weights:
        keras.utils.set_random_seed(seed)
        model.set_weights([array for layer in start for array in layer])
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)
        optimizer.learning_rate = rate
        sizes = {"batch_size": workload.batch_size, "epochs": workload.epochs}
        model.fit(task.inputs, task.targets, verbose=0, **sizes)
        return in_layers(model.get_weights())

    return one_by_one(task, train)


@contender("Keras default", "keras jax", ONCE)
def keras_default(task: Task) -> Run:
    return keras_fit(task)


@contender("Keras tuned", "keras jax", ONCE)
def keras_tuned(task: Task) -> Run:
    """Compiled, with the host looking in once an epoch."""
    steps = task.workload.steps_per_epoch
    return keras_fit(task, jit_compile=True, steps_per_execution=steps)


# Flax.


def optax_rule(workload: Workload) -> Callable[[Any], Any]:
    """From a learning rate to the optimizer."""
    import optax

    momentum = functools.partial(optax.sgd, momentum=0.9)
    return {"adam": optax.adam, "momentum": momentum}[workload.optimizer]


def optax_cost(workload: Workload, outputs: Any, targets: Any) -> Any:
    import optax

    if workload.classifies:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
    return optax.squared_error(outputs, targets).mean()


def nnx_start(task: Task) -> Any:
    """A network with the starting weights, and its optimizer."""
    from flax import nnx

    workload = task.workload
    rngs = nnx.Rngs(0)
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(workload.sizes):
        layers += [nnx.Linear(inputs, outputs, rngs=rngs), nnx.relu]
    network = nnx.Sequential(*layers[:-1])
    for layer, (weights, biases) in zip(network.layers[::2], task.starts[0], strict=True):
        layer.kernel[...], layer.bias[...] = weights, biases
    return network, nnx.Optimizer(network, optax_rule(workload)(task.rates[0]), wrt=nnx.Param)


def nnx_update(workload: Workload, network: Any, optimizer: Any, batch: Any) -> None:
    """One step, in place."""
    from flax import nnx

    inputs, targets = batch
    slopes = nnx.grad(lambda network: optax_cost(workload, network(inputs), targets))(network)
    optimizer.update(network, slopes)


def nnx_weights(network: Any) -> Weights:
    return fetched((layer.kernel[...], layer.bias[...]) for layer in network.layers[::2])


@contender("Flax NNX nnx.jit", "jax flax.nnx optax", SINGLE)
def flax_nnx(task: Task) -> Run:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    workload = task.workload
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    parts = network, optimizer = nnx_start(task)
    fresh = jax.tree.map(np.asarray, nnx.state(parts))

    @nnx.jit
    def step(network: Any, optimizer: Any, rows: Any, data: Any) -> None:
        nnx_update(workload, network, optimizer, jax.tree.map(lambda a: a[rows], data))

    def run() -> list[Weights]:
        nnx.update(parts, jax.tree.map(jnp.array, fresh))
        for rows in shuffled(np.random.default_rng(0), workload, workload.epochs):
            step(network, optimizer, rows, data)
        return [nnx_weights(network)]

    return run


@contender("Flax NNX split-merge", "jax flax.nnx optax", SINGLE)
def flax_nnx_split(task: Task) -> Run:
    """NNX's way around its own overhead: the objects are taken apart before the loop."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    workload = task.workload
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    graph, state = nnx.split(nnx_start(task))
    fresh = jax.tree.map(np.asarray, state)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, rows: Any, data: Any) -> Any:
        network, optimizer = nnx.merge(graph, state)
        nnx_update(workload, network, optimizer, jax.tree.map(lambda a: a[rows], data))
        return nnx.state((network, optimizer))

    def run() -> list[Weights]:
        state = jax.tree.map(jnp.array, fresh)
        for rows in shuffled(np.random.default_rng(0), workload, workload.epochs):
            state = step(state, rows, data)
        return [nnx_weights(nnx.merge(graph, state)[0])]

    return run


@contender("Flax Linen + optax", "jax flax.linen flax.training.train_state optax", ONCE)
def flax_linen(task: Task) -> Run:
    """A jitted step on a `TrainState`; W5 one network after the other, compiled once."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen
    from flax.training.train_state import TrainState

    workload = task.workload
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    layers: list[Any] = []
    for size in workload.sizes[1:]:
        layers += [linen.Dense(size), linen.relu]
    network = linen.Sequential(layers[:-1])
    names = [f"layers_{2 * i}" for i in range(len(workload.sizes) - 1)]
    rule = optax.inject_hyperparams(optax_rule(workload)) if workload.networks > 1 else None
    optimizer = (rule or optax_rule(workload))(task.rates[0])

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, rows: Any, data: Any) -> Any:
        inputs, targets = jax.tree.map(lambda a: a[rows], data)

        def cost(parameters: Any) -> Any:
            return optax_cost(workload, state.apply_fn({"params": parameters}, inputs), targets)

        return state.apply_gradients(grads=jax.grad(cost)(state.params))

    def train(start: Weights, rate: float, seed: int) -> Weights:
        parameters = {
            name: {"kernel": jnp.array(weights), "bias": jnp.array(biases)}
            for name, (weights, biases) in zip(names, start, strict=True)
        }
        state = TrainState.create(apply_fn=network.apply, params=parameters, tx=optimizer)
        if rule:
            state.opt_state.hyperparams["learning_rate"] = jnp.asarray(rate, jnp.float32)
        for rows in shuffled(np.random.default_rng(seed), workload, workload.epochs):
            state = step(state, rows, data)
        final = [state.params[name] for name in names]
        return fetched((layer["kernel"], layer["bias"]) for layer in final)

    return one_by_one(task, train)


# Equinox.


def equinox_network(sizes: tuple[int, ...], arrays: Weights) -> Any:
    """A network with those weights, of one network or of a stack."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    layers: list[Any] = []
    for pair in itertools.pairwise(sizes):
        layers += [eqx.nn.Linear(*pair, key=jax.random.key(0)), eqx.nn.Lambda(jax.nn.relu)]
    network = eqx.nn.Sequential(layers[:-1])
    flat = [jnp.array(a) for w, b in arrays for a in (np.swapaxes(w, -1, -2), b)]
    return eqx.tree_at(equinox_arrays, network, flat)


def equinox_arrays(network: Any) -> list[Any]:
    return [array for layer in network.layers[::2] for array in (layer.weight, layer.bias)]


def equinox_step(workload: Workload) -> Callable[..., Any]:
    """`step(network, state, rate, rows, data) -> (network, state)`, to be transformed."""
    import equinox as eqx
    import jax

    rule = optax_rule(workload)

    def cost(network: Any, inputs: Any, targets: Any) -> Any:
        return optax_cost(workload, jax.vmap(network)(inputs), targets)

    def step(network: Any, state: Any, rate: Any, rows: Any, data: Any) -> Any:
        slopes = eqx.filter_grad(cost)(network, *jax.tree.map(lambda a: a[rows], data))
        updates, state = rule(rate).update(slopes, state, eqx.filter(network, eqx.is_array))
        return eqx.apply_updates(network, updates), state

    return step


@contender("Equinox + optax", "jax equinox optax", SINGLE)
def equinox_loop(task: Task) -> Run:
    import equinox as eqx
    import jax.numpy as jnp

    workload = task.workload
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    rule = optax_rule(workload)(task.rates[0])
    bare = equinox_step(workload)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, network: Any, state: Any) -> Any:
        return bare(network, state, task.rates[0], *batch)

    def run() -> list[Weights]:
        network = equinox_network(workload.sizes, task.starts[0])
        state = rule.init(eqx.filter(network, eqx.is_array))
        for rows in shuffled(np.random.default_rng(0), workload, workload.epochs):
            network, state = step((rows, data), network, state)
        return [fetched((w.T, b) for w, b in in_layers(equinox_arrays(network)))]

    return run


@contender("Equinox + optax filter_vmap", "jax equinox optax", SWEEPS)
def equinox_vmap(task: Task) -> Run:
    import equinox as eqx
    import jax.numpy as jnp

    workload = task.workload
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    rates = jnp.asarray(task.rates, jnp.float32)
    rule, bare = optax_rule(workload)(0.0), equinox_step(workload)
    many = eqx.filter_vmap(bare, in_axes=(eqx.if_array(0), eqx.if_array(0), 0, 0, None))

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, network: Any, state: Any) -> Any:
        return many(network, state, *batch)

    def run() -> list[Weights]:
        network = equinox_network(workload.sizes, stacked(task.starts))
        state = eqx.filter_vmap(lambda n: rule.init(eqx.filter(n, eqx.is_array)))(network)
        rows = sweep_rows(task, range(workload.networks))
        for batch in np.moveaxis(rows, 0, 1):
            network, state = step((rates, batch, data), network, state)
        final = in_layers(equinox_arrays(network))
        return unstacked((w.swapaxes(1, 2), b) for w, b in final)

    return run
