"""`batch_sharding`: parallel in the compiled program, and equal to one device."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxnet
from jaxnet.core import compilation

P = PartitionSpec
MESH = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
ROWS, EVERYWHERE = NamedSharding(MESH, P("d")), NamedSharding(MESH, P())
EXPLICIT = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
KEY = jax.random.key(0)
NETWORK = jaxnet.mlp([16, 32, 4])
METRICS = {"accuracy": jaxnet.accuracy}
LOSS = jaxnet.softmax_cross_entropy


def make_data(examples, dtype=np.float32):
    rng = np.random.default_rng(examples)
    inputs = jnp.asarray(rng.normal(size=(examples, 16)), dtype)
    labels = jnp.asarray(rng.integers(0, 4, examples), jnp.int32)
    return inputs, labels, jnp.asarray(rng.uniform(0.5, 2, examples), dtype)


def to_float64(tree):
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def divide(tree):
    """Divides the leaves whose first axis is even: parameters and moments as in FSDP."""
    return jax.tree.map(
        lambda a: jax.device_put(a, ROWS if a.ndim and len(a) % 2 == 0 else EVERYWHERE), tree
    )


def gap(tree, other):
    return max(
        float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    )


SIZES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "pred": 1}


def collectives(text):
    """The kind, the bytes and the depth of loops of each collective in a compiled program."""
    found = []
    for line in text.splitlines():
        kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        match = re.search(rf"= (.*?) ({kinds})(?:-start)?\(", line)
        if match:
            arrays = re.findall(rf"({'|'.join(SIZES)})\[([\d,]*)\]", match[1])
            sizes = [SIZES[t] * np.prod([int(n) for n in d.split(",") if n]) for t, d in arrays]
            depth = re.search(r'op_name="([^"]*)"', line)[1].count("while/body")
            found.append((match[2], int(sum(sizes)), depth))
    return found


def compiled_train(data, state, batch_sharding, batch_size=32, network=NETWORK):
    def run(data, state):
        return jaxnet.train(
            network,
            LOSS,
            jaxnet.adam(0.01),
            data,
            key=KEY,
            epochs=2,
            batch_size=batch_size,
            state=state,
            batch_sharding=batch_sharding,
        )

    return jax.jit(run).lower(data, state).compile().as_text()


STATE = jaxnet.initial_state(NETWORK, jaxnet.adam(0.01), key=KEY)
GRADIENTS = 4 * sum(leaf.size for leaf in jax.tree.leaves(STATE.parameters))
SMALL = 256  # bytes: sums of weights and costs


@pytest.mark.parametrize("batch_size", [32, None])
def test_the_gradients_are_added_up_once_per_step_and_nothing_else_moves(batch_size):
    data = jax.device_put(make_data(256), EVERYWHERE)
    text = compiled_train(data, STATE, ROWS, batch_size)
    large = [c for c in collectives(text) if c[1] > SMALL]
    ((kind, size, depth),) = large
    assert kind == "all-reduce" and GRADIENTS <= size <= GRADIENTS + SMALL
    assert depth == (1 if batch_size is None else 2)  # epochs, and steps within them
    assert not collectives(compiled_train(data, STATE, None, batch_size))


def test_divided_parameters_are_gathered_and_nothing_else_moves():
    network = jaxnet.mlp([16, 256, 256, 4])  # small ones are cheaper to compute in other ways
    state = divide(jaxnet.initial_state(network, jaxnet.adam(0.01), key=KEY))
    sizes = {4 * leaf.size for leaf in jax.tree.leaves(state.parameters)}
    gradients = 4 * sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
    data = jax.device_put(make_data(512), EVERYWHERE)

    def large(sharding):
        text = compiled_train(data, state, sharding, 256, network)
        return [(kind, size) for kind, size, _ in collectives(text) if size > SMALL]

    reduced = [size for kind, size in large(ROWS) if kind == "all-reduce"]
    others = [(kind, size) for kind, size in large(ROWS) if kind != "all-reduce"]
    assert len(reduced) == 1 and gradients <= reduced[0] <= gradients + SMALL
    assert others and all(kind == "all-gather" and size in sizes for kind, size in others)
    without = [size for kind, size in large(None) if size not in sizes]
    assert max(without) < gradients  # the activations are exchanged, and no gradients


@pytest.mark.parametrize(
    "optimizer, examples, batch_size, place",
    [
        (jaxnet.gradient_descent(0.05), 65, 15, lambda state: state),
        (jaxnet.adam(0.01), 64, 16, divide),
        (jaxnet.gradient_descent(0.05), 65, None, divide),
    ],
)
def test_training_equals_one_device(optimizer, examples, batch_size, place):
    with jax.enable_x64(True):
        data, validation = make_data(examples, np.float64), make_data(1501, np.float64)
        state = to_float64(jaxnet.initial_state(NETWORK, optimizer, key=KEY))

        def run(state, batch_sharding):
            return jaxnet.fit(
                NETWORK,
                LOSS,
                optimizer,
                data,
                key=KEY,
                epochs=3,
                batch_size=batch_size,
                validation=validation,
                metrics=METRICS,
                state=state,
                progress=False,
                batch_sharding=batch_sharding,
            )

        alone, together = run(state, None), run(place(state), ROWS)
        assert gap(together.state, alone.state) < 1e-12
        assert gap(together.history, alone.history) < 1e-6  # kept in float32
        weights = together.state.parameters[0].weights
        assert weights.sharding == place(state).parameters[0].weights.sharding or place != divide
        assert weights.sharding.device_set == ROWS.device_set


def test_members_equal_one_device():
    keys, optimizer = jax.random.split(KEY, 3), jaxnet.gradient_descent(0.05)
    runs = [
        jaxnet.fit(
            NETWORK,
            LOSS,
            optimizer,
            make_data(65),
            key=keys,
            epochs=2,
            batch_size=15,
            progress=False,
            batch_sharding=sharding,
        )
        for sharding in (None, ROWS)
    ]
    assert gap(runs[0].state, runs[1].state) < 1e-5


@pytest.fixture
def programs(monkeypatch):
    """The compiled programs of the calls of a test, as text."""
    texts = []
    compile_once = compilation.compile_once

    def record(function, static, arguments, **options):
        bound = functools.partial(function, *static)
        texts.append(jax.jit(bound).lower(*arguments).compile().as_text())
        return compile_once(function, static, arguments, **options)

    monkeypatch.setattr(compilation, "compile_once", record)
    return texts


def test_blocks_of_a_stream_are_divided_and_only_gradients_move(programs):
    inputs, labels, _ = map(np.asarray, make_data(64))
    stream = jaxnet.Stream(64, lambda a, b: (inputs[a:b], labels[a:b]), piece=1)
    arguments = {"key": KEY, "epochs": 1, "batch_size": 16, "batch_sharding": ROWS}
    jaxnet.fit(NETWORK, LOSS, jaxnet.adam(0.01), stream, **arguments)
    ((kind, size, depth),) = [c for c in collectives(programs[-1]) if c[1] > SMALL]
    assert kind == "all-reduce" and GRADIENTS <= size <= GRADIENTS + SMALL
    assert depth == 1  # once in every step


def test_rows_on_several_devices_are_trained_on_in_parallel(programs):
    data = jax.device_put(make_data(64), ROWS)
    arguments = {"key": KEY, "epochs": 2, "batch_size": 16, "progress": False}
    jaxnet.fit(NETWORK, LOSS, jaxnet.adam(0.01), data, **arguments)
    sizes = [size for kind, size, _ in collectives(programs[-1]) if kind == "all-reduce"]
    assert sum(GRADIENTS <= size <= GRADIENTS + SMALL for size in sizes) == 1


@pytest.mark.parametrize("examples, are_placed", [(65, False), (1502, True)])
def test_evaluation_in_parallel_equals_one_device(programs, examples, are_placed):
    data = make_data(examples)
    placed = jax.device_put(data, ROWS) if are_placed else data
    sharding = None if are_placed else ROWS
    metrics = METRICS | {"cost": LOSS}
    parameters = STATE.parameters
    means = jaxnet.evaluate(NETWORK, parameters, placed, metrics, batch_sharding=sharding)
    outputs = jaxnet.predict(NETWORK, parameters, placed[0], batch_sharding=sharding)
    for text in programs:
        per_device = re.findall(r"f32\[(\d+),32\]", text)
        assert per_device and max(map(int, per_device)) <= 512  # half a slice of 1024
        moved = [size for kind, size, _ in collectives(text) if kind == "all-gather"]
        assert all(size < 4 * 16 * examples for size in moved)  # not the inputs
    assert gap(means, jaxnet.evaluate(NETWORK, parameters, data, metrics)) < 1e-6
    assert gap(outputs, jaxnet.predict(NETWORK, parameters, data[0])) < 1e-5
    assert outputs.sharding.is_fully_replicated


def test_a_run_resumed_on_other_devices_warns(tmp_path):
    data = make_data(64)

    def run(epochs, batch_sharding):
        return jaxnet.fit(
            NETWORK,
            LOSS,
            jaxnet.gradient_descent(0.05),
            data,
            key=KEY,
            epochs=epochs,
            batch_size=16,
            progress=False,
            checkpoints=tmp_path,
            batch_sharding=batch_sharding,
        )

    run(1, ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(2, ROWS)
    with pytest.warns(UserWarning, match="devices of a batch was 2 and is 1: the bits may differ"):
        resumed = run(3, None)
    assert len(resumed.history["cost"]) == 3


def test_no_program_of_several_devices_is_exported(tmp_path):
    def apply(parameters, inputs, *, key=None):
        inputs = jax.lax.with_sharding_constraint(inputs, ROWS)
        return NETWORK.apply(parameters, inputs, key=key)

    network = jaxnet.Network(NETWORK.init, apply)
    with pytest.raises(ValueError, match="export: expected a network that computes on one device"):
        jaxnet.export(network, STATE.parameters, tmp_path / "x", example=np.zeros(16, np.float32))
    assert not list(tmp_path.iterdir())


def test_a_sweep_divides_runs_and_not_batches():
    def run(rate):
        optimizer = jaxnet.gradient_descent(rate)
        return jaxnet.train(
            NETWORK,
            LOSS,
            optimizer,
            make_data(64),
            key=KEY,
            epochs=1,
            batch_size=16,
            batch_sharding=ROWS,
        )[1]

    with pytest.raises(ValueError, match="sweep: expected a run that computes on one device"):
        jaxnet.sweep(run, {"rate": [0.1, 0.2]}, progress=False)


def call(function, data, **changes):
    arguments = {"key": KEY, "epochs": 1, "batch_size": 16}
    return function(NETWORK, LOSS, jaxnet.adam(0.01), data, **arguments, **changes)


@pytest.mark.parametrize("function", [jaxnet.fit, jaxnet.train])
def test_axes_that_are_explicit_are_refused_with_the_line_that_mends_it(function):
    line = r"jax.make_mesh\(\(2,\), \('d',\), axis_types=\(jax.sharding.AxisType.Auto,\)\)"
    explicit = NamedSharding(EXPLICIT, P("d"))
    with pytest.raises(ValueError, match=f"expected batch_sharding on a mesh .* {line}"):
        call(function, make_data(64), batch_sharding=explicit)
    for spec in (P("d"), P()):
        placed = jax.device_put(make_data(64), NamedSharding(EXPLICIT, spec))
        with pytest.raises(ValueError, match=f"expected data.* on a mesh .* {line}"):
            call(function, placed)
    placed = jax.device_put(make_data(64), explicit)
    with pytest.raises(ValueError, match=f"predict: expected data on a mesh .* {line}"):
        jaxnet.predict(NETWORK, STATE.parameters, placed[0])
    with pytest.raises(ValueError, match=f"train: expected data on a mesh .* {line}"):
        jax.jit(functools.partial(call, jaxnet.train))(placed)


def test_arrays_on_other_devices_are_named():
    elsewhere = jax.device_put(make_data(64), jax.devices()[1])
    with pytest.raises(
        ValueError,
        match=r"fit: expected data.inputs on the devices of batch_sharding, devices \[0, 1\], or "
        r"not placed on a device. Received: device 1",
    ):
        call(jaxnet.fit, elsewhere, batch_sharding=ROWS)
    state = jax.device_put(STATE, jax.devices()[1])
    with pytest.raises(ValueError, match=r"expected state.parameters\[0\].weights on the devices"):
        call(jaxnet.train, make_data(64), batch_sharding=ROWS, state=state)


def test_a_mesh_of_two_axes_divides_the_batch_among_all_devices():
    mesh = Mesh(np.array(jax.devices()).reshape(1, 2), ("a", "b"))
    sharding = NamedSharding(mesh, P(("a", "b"), None))
    data = jax.device_put(make_data(64), NamedSharding(mesh, P()))
    sizes = [size for _, size, _ in collectives(compiled_train(data, STATE, sharding))]
    assert sum(size >= GRADIENTS for size in sizes) == 1
