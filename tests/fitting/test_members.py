"""Several keys: each member is the run with its own key, with all that surrounds a run."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(90, 5)).astype(np.float32)
LABELS = (INPUTS.sum(1) + RANDOM.normal(size=90) > 0).astype(np.int32)
DATA, HELD_OUT = (INPUTS[:60], LABELS[:60]), (INPUTS[60:], LABELS[60:])
NETWORK = jaxnet.serial(jaxnet.dense(5, 16, jaxnet.relu), jaxnet.dropout(0.2), jaxnet.dense(16, 2))
ADAM = jaxnet.adam(0.02)


def keys():
    return jax.random.split(jax.random.key(0), 4)  # new ones, which no run has used


def fit(key=None, data=DATA, optimizer=ADAM, **options):
    options = {"epochs": 40, "batch_size": 16, "validation": HELD_OUT, "patience": 5} | options
    key = keys() if key is None else key
    return jaxnet.fit(NETWORK, jaxnet.softmax_cross_entropy, optimizer, data, key=key, **options)


def take(tree, member):
    return jax.tree.map(lambda leaf: leaf[member], tree)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_member_is_the_run_with_its_own_key_and_weights(weighted):
    shares, held_out_shares = RANDOM.integers(0, 3, (4, 60)), RANDOM.integers(0, 2, (4, 30))

    def parts(member):
        if not weighted:
            return DATA, HELD_OUT
        return (*DATA, shares[member]), (*HELD_OUT, held_out_shares[member])

    data, validation = parts(slice(None))
    runs = fit(data=data, validation=validation)
    lengths = []
    for member, key in enumerate(keys()):
        data, validation = parts(member)
        alone = fit(key, data, validation=validation)
        lengths.append(len(alone.history["cost"]))
        for name, values in alone.history.items():
            mine = runs.history[name][:, member]
            np.testing.assert_allclose(mine[: lengths[-1]], values, rtol=1e-4, atol=1e-6)
            assert np.isnan(mine[lengths[-1] :]).all()
        state = take(runs.state, member)
        for mine, its in zip(jax.tree.leaves(state), jax.tree.leaves(alone.state), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-5)
        assert int(state.step) == int(alone.state.step)
        assert int(state.task.fingerprint) == int(alone.state.task.fingerprint)
    assert runs.stopped == "patience"
    assert len(set(lengths)) > 1  # some wait for others
    assert len(runs.history["cost"]) == max(lengths)


def loss_of_mean(outputs, targets):
    chances = jax.lax.pmean(jax.nn.softmax(outputs), "members")
    return jaxnet.cross_entropy(chances, targets)


def test_a_metric_of_the_mean_stops_the_members_together():
    stopping = jaxnet.EarlyStopping(5, "mean")
    runs = fit(metrics={"mean": loss_of_mean}, patience=stopping)
    assert runs.stopped == "patience" and len(set(runs.state.step.tolist())) == 1
    values = runs.history["validation_mean"]
    assert (values == values[:, :1]).all()
    best = int(np.nanargmin(values[:, 0]))
    assert runs.state.best.epoch.tolist() == [best + 1] * 4 and len(values) == best + 6
    logits = jax.vmap(NETWORK.apply, (0, None))(runs.parameters, jnp.asarray(HELD_OUT[0]))
    chances = np.exp(np.asarray(logits, np.float64))
    mean = (chances / chances.sum(-1, keepdims=True)).mean(0)
    expected = -np.log(mean[np.arange(30), HELD_OUT[1]]).mean()
    np.testing.assert_allclose(values[best, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("stop_after", [3, 9])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, stop_after):
    """After 9 epochs some of the members have stopped already."""
    whole = fit()
    lengths = (~np.isnan(whole.history["cost"])).sum(0)
    assert lengths.min() < 9 < lengths.max()

    def stop(epoch, metrics, state):
        if epoch == stop_after:
            assert metrics["cost"].shape == (4,)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(checkpoints=tmp_path, on_epoch=stop)
    resumed = fit(checkpoints=tmp_path)
    for mine, its in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_training_goes_on_from_a_state():
    whole = fit(patience=None, epochs=6)
    half = fit(patience=None, epochs=2)
    rest = fit(patience=None, epochs=4, state=half.state)
    for mine, its in zip(jax.tree.leaves(rest.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_member_that_fails_is_named():
    states = fit(patience=None, epochs=1).state
    layer = states.parameters[0]
    wrong = layer._replace(weights=layer.weights.at[2].set(1e38))
    states = states._replace(parameters=(wrong, *states.parameters[1:]))
    with pytest.raises(
        jaxnet.NonFiniteError, match=r"is (nan|inf) in member 2\. .*layer"
    ) as caught:
        fit(patience=None, epochs=3, state=states, metrics={"mean": loss_of_mean})
    assert caught.value.epoch == 1


def test_other_folds_of_the_same_data_compile_nothing():
    script = """
import jax, jaxnet, numpy as np
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event) if "backend_compile" in event else None
)
network, x = jaxnet.mlp([3, 8, 1]), np.random.default_rng(0).normal(size=(20, 3))
keys = jax.random.split(jax.random.key(0), 4)
def run(seed):
    compiled.clear()
    kept = np.arange(20) % 4 != (np.arange(4)[:, None] + seed) % 4
    jaxnet.fit(
        network, jaxnet.squared_error, jaxnet.adam(0.01), (x, x[:, :1], kept.astype("f")),
        key=keys, epochs=3, batch_size=8, validation=(x, x[:, :1], 1.0 - kept), progress=False,
    )
    return len(compiled)
print(run(0) > 0, run(1))
"""
    assert helpers.run_plainly(script).split() == ["True", "0"]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one key, or keys \[members\]. Received: \[2, 2"):
        fit(keys().reshape(2, 2))
    with pytest.raises(ValueError, match=r"of shape \[60\] or \[4, 60\]. Received: \[3"):
        fit(data=(*DATA, jnp.ones((3, 60))))
    with pytest.raises(ValueError, match=r"weights of data of shape \[60\]. Received: \[4"):
        fit(keys()[0], data=(*DATA, jnp.ones((4, 60))))
    with pytest.raises(ValueError, match=r"not all 0. Received: weights from 0.0 to 0.0"):
        fit(data=(*DATA, jnp.ones((4, 60)).at[3].set(0)))
    states = fit(epochs=1).state
    with pytest.raises(ValueError, match=r"expected state.* of shape \[3, \.\.\.\].*Received: \[4"):
        fit(keys()[:3], state=states)
