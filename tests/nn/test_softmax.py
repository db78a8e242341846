"""softmax and log_softmax, and their Jacobians, against mpmath on rows of every kind."""

import functools

import helpers
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mp

import jaxnet

UNITS = 8  # in the last place, of float32
WIDTH = 5


def _rows(scale, count=60):
    """Random rows, some with ties or with -inf. With `scale` their spread is up to 80.

    They are multiples of 1/1024, so that float32 holds the difference of any two of them exactly.
    """
    rng = np.random.default_rng(1)
    rows = np.round(rng.uniform(-0.5, 0.5, [count, WIDTH]) * scale * 1024) / 1024
    rows[::6, 1] = rows[::6, 3]  # ties
    rows[::10, 2] = rows[::10].max(-1)  # ties for the maximum
    rows[::7, 0] = -np.inf
    rows[::14, 4] = -np.inf
    return rows.astype(np.float32)


SPECIAL_ROWS = np.array(
    [
        [40, 0, 0, 0, 0],
        [80, 0, 40, 0, 79],
        [0, -17, -18, -80, -79],
        [3, 3, 3, 3, 3],
        [0, 0, 0, 0, -80],
        [1000, 1001, 999.5, 920.5, 1000],
        [0, -np.inf, -np.inf, -np.inf, -np.inf],
        [7, 7, -np.inf, -np.inf, -np.inf],
    ],
    np.float32,
)
GRID_ROWS = np.concatenate([SPECIAL_ROWS, _rows(1), _rows(16), _rows(80)])
ROUNDED_ROWS = (_rows(80) * np.float32(1 / 1.7)).astype(np.float32)


def _exponentials(row):
    return [mp.exp(mpmath.mpf(float(x))) for x in row]


@functools.cache
def _exact_softmax(name):
    """Probabilities, their logarithms, and the Jacobians of both, of all rows."""
    rows = {"grid": GRID_ROWS, "rounded": ROUNDED_ROWS}[name]
    answers = []
    with mpmath.workdps(80):
        for row in rows:
            e = _exponentials(row)
            p = [x / sum(e) for x in e]
            rest = [sum(e[:i] + e[i + 1 :]) / sum(e) for i in range(WIDTH)]
            log = [mp.log(x) if x else -mp.inf for x in p]
            jacobian = [[rest[i] if i == j else -p[j] for j in range(WIDTH)] for i in range(WIDTH)]
            answers.append(
                (p, log, [[p[i] * x for x in jacobian[i]] for i in range(WIDTH)], jacobian)
            )
    p, log, p_jacobian, log_jacobian = (np.array(a, np.float64) for a in zip(*answers, strict=True))
    return rows, {"softmax": (p, p_jacobian), "log_softmax": (log, log_jacobian)}


def _spread(rows):
    """The largest finite element of every row less the smallest."""
    finite = np.where(np.isfinite(rows), rows, rows.max(-1, keepdims=True))
    return np.ptp(finite, -1)[:, None]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("grid", jax.jit), ("rounded", jax.jit), ("grid", lambda f: f)],
    ids=["grid", "rounded", "op-by-op"],
)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_on_rows(name, kind, mode):
    """As accurate as an activation, and an element of a Jacobian, a product of two, twice that.

    Rounding d = x - max(x), where it is not exact, is a relative error of |d| half units in exp(d).
    """
    rows, answers = _exact_softmax(kind)
    values, jacobians = answers[name]
    function = getattr(jaxnet, name)
    allowed = UNITS + (_spread(rows) if kind == "rounded" else np.zeros([len(rows), 1]))
    received, jacobian = mode(function)(rows), jax.jit(jax.vmap(jax.jacrev(function)))(rows)
    impossible = values == -np.inf
    np.testing.assert_array_equal(received[impossible], -np.inf)
    helpers.assert_units(
        np.where(impossible, 0, received), np.where(impossible, 0, values), allowed
    )
    # The gradient of a logarithm that is -inf is whatever, but finite.
    assert jnp.isfinite(jacobian).all()
    jacobian = np.where(impossible[..., None], 0, jacobian)
    jacobians = np.where(impossible[..., None], 0, jacobians)
    helpers.assert_units(jacobian, jacobians, 2 * allowed[..., None])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("hidden", [0.0, 1e30, jnp.inf, jnp.nan])
def test_masked_entries_do_not_count(name, hidden):
    """The others are as if these were not there, whatever they hold; no gradient reaches them."""
    mask = np.array([True, False, True, False, True])
    row = jnp.where(mask, GRID_ROWS[0:1] + 1, hidden)[0]
    function = getattr(jaxnet, name)
    received = function(row, where=mask)
    np.testing.assert_array_equal(received[mask], function(row[mask]))
    np.testing.assert_array_equal(received[~mask], 0 if name == "softmax" else -jnp.inf)
    jacobian = jax.jacrev(lambda x: function(x, where=mask))(row)
    np.testing.assert_array_equal(jacobian[:, ~mask], 0)
    np.testing.assert_array_equal(jacobian[mask][:, mask], jax.jacrev(function)(row[mask]))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_everything_masked(name):
    function = functools.partial(getattr(jaxnet, name), where=np.zeros([2, 3], bool))
    x = jnp.array([[1.0, 2.0, 3.0], [-jnp.inf, 0.0, jnp.nan]])
    np.testing.assert_array_equal(function(x), 0 if name == "softmax" else -jnp.inf)
    np.testing.assert_array_equal(jax.jacrev(function)(x), 0)


def test_impossible_everywhere_is_zero_everywhere():
    impossible = jnp.full([3], -jnp.inf)
    np.testing.assert_array_equal(jaxnet.softmax(impossible), 0)
    np.testing.assert_array_equal(jax.jacrev(jaxnet.softmax)(impossible), 0)


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_other_axes(name, axis):
    function = getattr(jaxnet, name)
    x = jnp.asarray(_rows(16, 24)).reshape(4, 6, WIDTH)
    mask = np.arange(x.size).reshape(x.shape) % 3 > 0
    last = function(jnp.moveaxis(x, axis, -1), where=np.moveaxis(mask, axis, -1))
    # The order in which a sum is taken is the compiler's: WIDTH roundings more.
    received = np.moveaxis(function(x, axis, where=mask), axis, -1)
    np.testing.assert_allclose(received, last, 6 * 2 * helpers.ROUNDING)


@pytest.mark.parametrize("shift", [-512.0, 64.0, 4096.0])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_shifts_change_nothing(name, shift):
    """To the last bit, since these rows and shifts add up without rounding."""
    function = getattr(jaxnet, name)
    rows = _rows(80)
    np.testing.assert_array_equal(function(rows + np.float32(shift)), function(rows))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("size", [1e30, 3e38])
def test_softmax_of_huge_logits(name, size):
    function = getattr(jaxnet, name)
    row = jnp.array([size, -size / 4, 0.0, size / 2])
    one_hot = np.array([1, 0, 0, 0])
    expected = {"softmax": one_hot, "log_softmax": row - size}[name]
    np.testing.assert_allclose(function(row), expected, 1e-6)
    jacobian = jax.jacrev(function)(row)
    exact = {"softmax": np.zeros([4, 4]), "log_softmax": np.eye(4) - one_hot}[name]
    np.testing.assert_array_equal(jacobian, exact)


SECOND_ORDER_ROWS = {
    "distinct": [0.5, -1.0, 2.0],
    "tied": [1.0, 1.0, 1.0],
    "tied at the top": [1.0, 1.0, -1.0],
    "certain": [60.0, 0.0, 1.0],
    "impossible": [0.0, -np.inf, 1.0],
}


@pytest.mark.parametrize("row", SECOND_ORDER_ROWS.values(), ids=SECOND_ORDER_ROWS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_second_derivatives_of_softmax(name, row):
    """`d2 log p_i = -(diag(p) - p p')`, and `d2 p_i = p_i (g g' + d2 log p_i)`, `g = e_i - p`.

    All terms are at most 1 in size, and each is a few products and sums.
    """
    row = np.array(row)
    p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    of_log = np.broadcast_to(np.outer(p, p) - np.diag(p), [3, 3, 3])
    g = np.eye(3) - p
    of_p = p[:, None, None] * (g[:, :, None] * g[:, None, :] + of_log)
    received = jax.jacfwd(jax.jacrev(getattr(jaxnet, name)))(jnp.asarray(row, jnp.float32))
    expected = {"softmax": of_p, "log_softmax": of_log}[name]
    assert np.isfinite(received).all()
    np.testing.assert_allclose(received, expected, 0, 32 * helpers.ROUNDING)
