"""The conformance check: correct optimizers pass, and every requirement can fail."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants
import pytest

import jaxnet
from jaxnet.testing import conformance
from jaxnet.testing.conformance import REQUIREMENTS


@pytest.fixture(autouse=True)
def standard_promotion():
    """Hand-written optimizers add Python numbers to counters, as optax does."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def momentum(rate, **options):
    return jaxnet.sgd(rate, momentum=0.9, **options)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            functools.partial(momentum, nesterov=True),
            functools.partial(optax.sgd, momentum=0.9, nesterov=True),
        ),
        (jaxnet.adamw, optax.adamw),
    ],
    ids=["nesterov", "adamw"],
)
def test_ours_pass(ours, theirs):
    report = jaxnet.check_optimizer(ours, reference=theirs, per_element=True)
    report.raise_if_failed()
    assert report.passed
    assert report.comparison.verdict == "identical"
    assert [check.passed for check in report.checks] == [True] * (len(REQUIREMENTS) + 2)


ZERO = np.int32(0)


def adam(count=ZERO, increment=lambda t: t + 1, before=lambda g, t: g, after=lambda u, t: u):
    """Adam, with arguments for what a mistake may change."""

    def init(parameters):
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        return jnp.asarray(count), *zeros

    def update(gradients, state, parameters):
        t, m, v = state
        gradients = jax.tree.map(lambda g: before(g, t), gradients)
        t = increment(t)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
        step = t.astype(float)
        updates = jax.tree.map(
            lambda m, v: after(
                (-0.01 * m / (1 - 0.9**step) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8)).astype(
                    m.dtype
                ),
                t,
            ),
            m,
            v,
        )
        return updates, (t, m, v)

    return optax.GradientTransformation(init, update)


def saturating(t):
    return jnp.where(t == jnp.iinfo(t.dtype).max, t, t + 1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["m"], meta_fields=["count"])
class CountInTheStructure:
    def __init__(self, m, count):
        self.m, self.count = m, count


def counting_in_the_structure():
    def update(g, state, p):
        m = jax.tree.map(lambda m, g: 0.9 * m + g, state.m, g)
        updates = jax.tree.map(lambda m: -0.01 * m, m)
        return updates, CountInTheStructure(m, state.count + 1)

    return lambda p: CountInTheStructure(jax.tree.map(jnp.zeros_like, p), 0), update


def counting_outside():
    seen = [0]

    def update(g, state, p):
        seen[0] += 1
        return jax.tree.map(lambda g: -0.01 * g / seen[0], g), state

    return lambda p: (), update


def changing_its_argument():
    def update(g, state, p):
        for key in state:
            state[key] = jax.tree.map(lambda v, g: 0.9 * v + g, state[key], g)
        return jax.tree.map(lambda v: -0.01 * v, state["velocity"]), state

    return lambda p: {"velocity": jax.tree.map(jnp.zeros_like, p)}, update


def decaying_its_rate():
    """The state is a Python number at first and an array later."""

    def update(g, rate, p):
        return jax.tree.map(lambda g: -rate * g, g), np.float32(0.99) * rate

    return lambda p: 0.01, update


def in_float32(g, state, p):
    return jax.tree.map(lambda g: np.float32(-0.01) * g.astype(jnp.float32), g), state


def branching():
    def update(g, state, p):
        if state < 3:
            return jax.tree.map(lambda g: -0.01 * g, g), state + 1
        return jax.tree.map(lambda g: -0.001 * g, g), state

    return lambda p: jnp.zeros((), jnp.int32), update


def sharing_zeros():
    rule = jaxnet.adam(0.01)

    def init(parameters):
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return rule.init(parameters)._replace(mu=zeros, nu=zeros)

    return init, rule.update


def on_one_device():
    def init(parameters):
        return jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), parameters)

    def update(g, velocity, p):
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, g)
        return jax.tree.map(lambda v: -0.01 * v, velocity), velocity

    return init, update


def with_numpy():
    """Calls NumPy, which JAX cannot trace."""

    def step(g):
        shape = jax.ShapeDtypeStruct(g.shape, g.dtype)
        return jax.pure_callback(lambda g: -np.asarray(g) * np.asarray(0.01, g.dtype), shape, g)

    return lambda p: (), lambda g, s, p: (jax.tree.map(step, g), s)


def knowing_the_tree():
    def update(g, state, p):
        return {name: -0.01 * leaf for name, leaf in g.items()}, state

    return lambda p: (), update


def checking_its_rate(rate):
    return jaxnet.adam(float(rate))


def different_when_traced():
    def step(g):
        return -0.02 * g if isinstance(g, jax.core.Tracer) else -0.01 * g

    return lambda p: (), lambda g, s, p: (jax.tree.map(step, g), s)


def becoming_float32():
    """The moment is promoted by a rate in float32."""

    def update(g, m, p):
        m = jax.tree.map(lambda m, g: np.float32(0.9) * m + g, m, g)
        return jax.tree.map(lambda m, p: (-0.01 * m).astype(p.dtype), m, p), m

    return lambda p: jax.tree.map(jnp.zeros_like, p), update


def whole_tree():
    """Asks every node for its shape, also those that stand for masked leaves."""

    def update(g, state, p):
        nodes = jax.tree.leaves(g, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
        norm = sum(jnp.sum(node * node) for node in nodes)
        return jax.tree.map(lambda g: -0.01 * g / jnp.sqrt(1 + norm), g), state

    return lambda p: (), update


def with_two_names():
    def update(g, state, parameters=None, *, params=None):
        decay = 0.0 if parameters is None else 0.1
        return jax.tree.map(lambda g: -0.01 * g - decay * g, g), state

    return lambda p: (), update


def with_an_object_in_the_state():
    def update(g, state, p):
        return jax.tree.map(lambda g: -0.01 * g, g), state

    return lambda p: object(), update


FAILING = {
    "counter in int8": (
        adam(count=np.int8(0)),
        "step counter does not overflow",
        "updates are non-finite when '0' is 127",
    ),
    "division by the remaining steps": (
        adam(increment=saturating, after=lambda u, t: u / (jnp.iinfo(t.dtype).max - t)),
        "step counter does not overflow",
        "updates are non-finite when '0' is 2147483647",
    ),
    "counter becomes a float": (
        adam(increment=lambda t: t + 1.0),
        "state keeps its shapes and dtypes",
        "'0' is int32[] after init and weakly typed float32[]",
    ),
    "rate becomes strongly typed": (
        decaying_its_rate(),
        "state keeps its shapes and dtypes",
        "weakly typed float32[] after init and float32[]",
    ),
    "counter in the structure": (
        counting_in_the_structure(),
        "is compiled once",
        "4 compilations in 4 steps",
    ),
    "counter in the structure, again": (
        counting_in_the_structure(),
        "state keeps its shapes and dtypes",
        "becomes PyTreeDef",
    ),
    "counter outside the state": (counting_outside(), "is pure", "depends on hidden state"),
    "changes its argument": (changing_its_argument(), "is pure", "modifies the state"),
    "different when traced": (
        different_when_traced(),
        "eager, jit, scan and cond agree",
        "eager differs from jit",
    ),
    "branch on a value": (branching(), "eager, jit, scan and cond agree", "TracerBool"),
    "rate made a Python number": (
        checking_its_rate,
        "vmap over learning rates",
        "ConcretizationTypeError",
    ),
    "NumPy inside": (with_numpy(), "vmap over runs", "vmap"),
    "value needed by eval_shape": (branching(), "supports jax.eval_shape", "TracerBool"),
    "updates in float32": (
        (lambda p: (), in_float32),
        "updates have the parameters' dtype",
        "updates of bfloat16 parameters are float32",
    ),
    "no eps": (
        optimizer_variants.WRONG["no eps"][0],
        "updates and state are finite",
        "an update is non-finite for gradients of 0",
    ),
    "overflowing moment": (
        adam(before=lambda g, t: g**3),
        "updates and state are finite",
        "non-finite for gradients of 1e+18",
    ),
    "only dictionaries": (knowing_the_tree(), "accepts any pytree", "one array: AttributeError"),
    "norm of each leaf": (
        optimizer_variants.WRONG["normalized gradient of each leaf"][0],
        "independent of the split into leaves",
        "splitting leaves changes",
    ),
    "one buffer for both moments": (
        sharing_zeros(),
        "state can be donated",
        "the same buffer for two leaves",
    ),
    "an array that init keeps": (
        optax.noisy_sgd(0.01, key=jax.random.key(0)),
        "state can be donated",
        "two calls of init return the same buffer",
    ),
    "moments on one device": (
        on_one_device(),
        "state is sharded like the parameters",
        "after init, '' is not sharded",
    ),
    "an object in the state": (with_an_object_in_the_state(), "state can be serialized", "object"),
    "uphill": (
        optimizer_variants.WRONG["uphill"][0],
        "decreases a quadratic",
        "in 100 steps on a quadratic",
    ),
    "rate of zero": (jaxnet.adam(0.0), "decreases a quadratic", "from 9.06 to 9.06"),
    "state that becomes float32": (
        becoming_float32(),
        "updates have the parameters' dtype",
        "float32[4, 3] instead of bfloat16[4, 3]",
    ),
    "the whole tree": (
        whole_tree(),
        "works with optax.masked",
        "can't multiply sequence",
    ),
    "another argument of this name": (
        with_two_names(),
        "accepts the parameters by keyword",
        "parameters by keyword give other updates",
    ),
    "schedule one step late": (
        lambda rate: jaxnet.sgd(2 * rate(1) if callable(rate) else rate),
        "accepts a schedule",
        "a constant schedule differs from the number",
    ),
}

ADVISED = {
    "counter that overflows": (
        adam(),
        "step counter does not overflow",
        "overflows from 2147483647 to -2147483648",
    ),
    "counter in float32": (
        adam(count=np.float32(0)),
        "step counter does not overflow",
        "float32, which cannot count past 16777216",
    ),
    "another name for the parameters": (
        adam(),
        "accepts the parameters by keyword",
        "unexpected keyword argument 'params'",
    ),
    "no extra arguments": (
        adam(),
        "ignores extra arguments",
        "unexpected keyword argument 'value'",
    ),
    "a number for the rate": (
        lambda rate: jaxnet.sgd(0.0 + rate),
        "accepts a schedule",
        "the rate cannot be a schedule; TypeError: unsupported operand",
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_each_mistake_fails_its_requirement(name, monkeypatch):
    optimizer, requirement, words = FAILING[name]
    monkeypatch.setattr(conformance, "REQUIREMENTS", {requirement: REQUIREMENTS[requirement]})
    report = jaxnet.check_optimizer(optimizer, per_element=True)
    assert not report.passed
    runs, check = report.checks
    assert (runs.passed, check.name, check.passed) == (True, requirement, False)
    assert words in check.seen
    with pytest.raises(AssertionError, match=f"FAILED  {requirement} .*\n\n1 of 2 checks failed"):
        report.raise_if_failed()


@pytest.mark.parametrize("name", ADVISED)
def test_what_most_uses_do_without_is_advice(name, monkeypatch):
    optimizer, requirement, words = ADVISED[name]
    monkeypatch.setattr(conformance, "REQUIREMENTS", {requirement: REQUIREMENTS[requirement]})
    report = jaxnet.check_optimizer(optimizer)
    check = report.checks[-1]
    assert (check.name, check.passed, check.is_advice) == (requirement, None, True)
    assert words in check.seen
    assert f"advice  {requirement}" in str(report)
    report.raise_if_failed()


def test_every_requirement_can_fail():
    """Updates that depend on the value of an extra argument are right."""
    can_fail = {requirement for _, requirement, _ in FAILING.values()}
    assert can_fail == {*REQUIREMENTS} - {"ignores extra arguments"}


def test_named_checks_may_fail(monkeypatch):
    names = ["decreases a quadratic", "is pure"]
    monkeypatch.setattr(conformance, "REQUIREMENTS", {name: REQUIREMENTS[name] for name in names})
    report = jaxnet.check_optimizer(jaxnet.adam(0.0))
    report.raise_if_failed(allow=["decreases a quadratic"])
    with pytest.raises(AssertionError, match="FAILED  decreases a quadratic"):
        report.raise_if_failed(allow=["is pure"])
    with pytest.raises(ValueError, match=r"names of checks for allow\. Received: 'is fast'"):
        report.raise_if_failed(allow=["is pure", "is fast"])
    with pytest.raises(TypeError, match=r"a list of names for allow\. Received: str 'is pure'"):
        report.raise_if_failed(allow="is pure")


def test_a_fault_that_gives_nan_fails_once():
    """NaN for zero gradients is one fault, not one of each transformation."""

    def update(g, state, p):
        return jax.tree.map(lambda g: -0.01 * g / jnp.abs(g), g), state

    report = jaxnet.check_optimizer((lambda p: (), update))
    failed = [check.name for check in report.checks if check.passed is False]
    assert failed == ["updates and state are finite"]


@pytest.mark.parametrize("name", ["betas swapped", "L2 in the gradient", "dampening"])
def test_the_report_includes_the_comparison(name, monkeypatch):
    candidate, reference, words, *_ = optimizer_variants.WRONG[name]
    monkeypatch.setattr(conformance, "REQUIREMENTS", {})
    report = jaxnet.check_optimizer(candidate, reference=reference)
    assert not report.passed
    assert report.checks[-1].name == "update rule of the reference"
    assert report.checks[-1].passed is False
    assert words in str(report)


def test_an_optimizer_that_cannot_be_compared_fails(monkeypatch):
    monkeypatch.setattr(conformance, "REQUIREMENTS", {})
    report = jaxnet.check_optimizer(branching(), reference=optax.sgd(0.01))
    assert report.comparison is None
    assert not report.passed
    assert "can be traced" in report.checks[-1].seen


def test_an_optimizer_that_cannot_be_called_fails_once():
    report = jaxnet.check_optimizer(optax.lbfgs(0.1))
    assert [check.passed for check in report.checks] == [False]
    assert "value_fn" in str(report)


@pytest.mark.parametrize("wrong", [None, 3, "adam", object(), (1, 2), lambda rate: None])
def test_other_objects_raise(wrong):
    with helpers.refused(TypeError, "check_optimizer: expected the optimizer as a pair"):
        jaxnet.check_optimizer(wrong)
    with helpers.refused(TypeError, "check_optimizer: expected the reference as a pair"):
        jaxnet.check_optimizer(jaxnet.adam, reference=wrong or 0)


def test_the_report_is_readable():
    """One requirement fails, and one is not applicable without a function of the learning rate."""
    lines = str(jaxnet.check_optimizer(jaxnet.adam(0.0))).splitlines()
    assert lines[0].startswith("passed  init and update can be called  ")
    assert any(line.startswith("-       vmap over learning rates  ") for line in lines)
    assert any(line.startswith("FAILED  decreases a quadratic  ") for line in lines)
    assert lines[-1] == "1 of 19 checks failed"
    assert max(map(len, lines)) <= 100
