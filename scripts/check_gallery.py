"""Shows how optimizers of well-known libraries differ from optax's of the same name.

Each row is an optimizer with the default arguments of its library, in the version that was seen,
written here from its source or documentation. `jaxnet.compare_optimizers` compares it with optax's
and has to name the difference. The learning rate is 0.01 everywhere.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import jaxnet

RATE, B1, B2, EPS = 0.01, 0.9, 0.999, 1e-8


def per_leaf(
    slots: int, rule: Callable[..., tuple[Any, ...]], count: int = 0, start: float = 0.0
) -> optax.GradientTransformation:
    """Makes an optimizer from its rule for one leaf.

    Args:
        slots: the number of moments, which begin at `start`.
        rule: `rule(t, gradients, parameters, *moments) -> (updates, *moments)`, t = 1, 2, ...
        count: the number of steps before the first one.
        start: the initial value of the moments.
    """

    def init(parameters):
        moments = [
            jax.tree.map(lambda p: jnp.full_like(p, start), parameters) for _ in range(slots)
        ]
        return jnp.asarray(count), tuple(moments)

    def update(gradients, state, parameters):
        t, moments = state[0] + 1, state[1]
        leaves, structure = jax.tree.flatten(gradients)
        rows = [structure.flatten_up_to(tree) for tree in (parameters, *moments)]
        results = [rule(t, *row) for row in zip(leaves, *rows, strict=True)]
        if not leaves:
            return gradients, (t, moments)
        trees = [structure.unflatten(column) for column in zip(*results, strict=True)]
        return trees[0], (t, tuple(trees[1:]))

    return optax.GradientTransformation(init, update)


def moments(g, m, v):
    return B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g


def corrected_adam(m, v, t):
    return m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + EPS)


def mlx_adam(t, g, p, m, v):
    m, v = moments(g, m, v)
    return -RATE * m / (jnp.sqrt(v) + EPS), m, v


def keras_adam(t, g, p, m, v):
    m, v = moments(g, m, v)
    rate = RATE * jnp.sqrt(1 - B2**t) / (1 - B1**t)
    return -rate * m / (jnp.sqrt(v) + 1e-7), m, v


def keras_sgd(t, g, p, velocity):
    velocity = 0.9 * velocity - SCHEDULE(t - 1) * g
    return velocity, velocity


def torch_adamw(t, g, p, m, v):
    m, v = moments(g, m, v)
    return -RATE * (corrected_adam(m, v, t) + 0.01 * p), m, v


def torch_adam_with_decay(t, g, p, m, v):
    m, v = moments(g + 0.1 * p, m, v)
    return -RATE * corrected_adam(m, v, t), m, v


def torch_rmsprop(t, g, p, v):
    v = 0.99 * v + 0.01 * g * g
    return -RATE * g / (jnp.sqrt(v) + 1e-8), v


def torch_adagrad(t, g, p, s):
    s = s + g * g
    return -RATE * g / (jnp.sqrt(s) + 1e-10), s


def thinc_adam(t, g, p, m, v):
    g = g * jnp.minimum(1, 1 / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-30))
    m, v = moments(g, m, v)
    rate = RATE * jnp.sqrt(1 - B2**t) / (1 - B1**t)
    return -rate * m / (jnp.sqrt(v) + EPS), m, v


def objax_adam(t, g, p, m, v):
    m, v = moments(g, m, v)
    rate = RATE * jnp.sqrt(1 - B2**t) / (1 - B1**t)
    return -rate * m * jax.lax.rsqrt(v + EPS), m, v


def trax_adam(t, g, p, m, v):
    m, v = moments(g, m, v)
    return -RATE * corrected_adam(m, v, t) - 1e-5 * p, m, v


def autograd_sgd(t, g, p, velocity):
    velocity = 0.9 * velocity - (1 - 0.9) * g
    return RATE * velocity, velocity


def autograd_rmsprop(t, g, p, v):
    v = 0.9 * v + 0.1 * g * g
    return -RATE * g / (jnp.sqrt(v) + 1e-8), v


def lion_without_decay(t, g, p, m):
    return -RATE * jnp.sign(0.9 * m + 0.1 * g), 0.99 * m + 0.01 * g


SCHEDULE = optax.exponential_decay(RATE, 10, 0.9)
ADAM = optax.adam(RATE)


class Difference(NamedTuple):
    """An optimizer of a library, and how its default differs from optax's.

    Attributes:
        seen: the library with its version, and its name for the optimizer.
        difference: from optax, in words.
        candidate, reference: the optimizer, and optax's of the same name.
        hint: a part of the hint that names the difference; None if none does.
    """

    seen: str
    difference: str
    candidate: optax.GradientTransformation
    reference: optax.GradientTransformation
    hint: str | None


GALLERY = [
    Difference(
        "MLX 0.32.4, Adam",
        "no bias correction",
        per_leaf(2, mlx_adam),
        ADAM,
        "neither mu nor nu is corrected for its bias",
    ),
    Difference(
        "Keras 3.15.1, Adam",
        "eps of 1e-7, added before the bias correction",
        per_leaf(2, keras_adam),
        ADAM,
        "eps, its value or its position",
    ),
    Difference(
        "Keras 3.15.1, SGD(momentum=0.9) with a schedule",
        "the velocity contains the rate",
        per_leaf(1, keras_sgd),
        optax.sgd(SCHEDULE, momentum=0.9),
        None,
    ),
    Difference(
        "Keras 3.15.1 and MLX 0.32.4, Lion",
        "no weight decay",
        per_leaf(1, lion_without_decay),
        optax.lion(RATE),
        "times the parameters: weight decay",
    ),
    Difference(
        "PyTorch 2.13.0, AdamW",
        "a weight decay of 0.01 in place of 1e-4",
        per_leaf(2, torch_adamw),
        optax.adamw(RATE),
        "times the parameters: weight decay",
    ),
    Difference(
        "PyTorch 2.13.0, Adam(weight_decay=0.1)",
        "the decay is added to the gradient",
        per_leaf(2, torch_adam_with_decay),
        optax.adamw(RATE, weight_decay=0.1),
        "weight decay in the gradient",
    ),
    Difference(
        "PyTorch 2.13.0 and MLX 0.32.4, RMSprop",
        "a decay rate of 0.99 in place of 0.9, and eps outside the root",
        per_leaf(1, torch_rmsprop),
        optax.rmsprop(RATE),
        "nu = 0.01 g**2 + 0.99 nu; reference: 0.1 g**2 + 0.9 nu",
    ),
    Difference(
        "PyTorch 2.13.0, Adagrad",
        "the sum starts at 0 in place of 0.1, and eps is 1e-10 outside the root",
        per_leaf(1, torch_adagrad),
        optax.adagrad(RATE),
        "sum_of_squares starts at 0; reference: 0.1",
    ),
    Difference(
        "thinc 9.1.1, Adam",
        "each leaf's gradient is clipped to a norm of 1, and eps is added before the correction",
        per_leaf(2, thinc_adam),
        ADAM,
        "the norm of each leaf's gradients is clipped to 1",
    ),
    Difference(
        "objax 1.8.0, Adam",
        "eps is added in the root, before the bias correction",
        per_leaf(2, objax_adam),
        ADAM,
        "eps, its value or its position",
    ),
    Difference(
        "trax 1.4.1, Adam",
        "a weight decay of 1e-5 that is not multiplied by the rate",
        per_leaf(2, trax_adam),
        ADAM,
        "times the parameters: weight decay",
    ),
    Difference(
        "autograd 1.9.1, sgd",
        "the gradient is multiplied by 1 - 0.9",
        per_leaf(1, autograd_sgd),
        optax.sgd(RATE, momentum=0.9),
        "updates = -0.001 g + 0.9 u[t-1]; reference: -0.01 g + 0.9 u[t-1]",
    ),
    Difference(
        "autograd 1.9.1, rmsprop",
        "the mean square starts at 1, and eps is outside the root",
        per_leaf(1, autograd_rmsprop, start=1.0),
        optax.rmsprop(RATE),
        "nu starts at 1; reference: 0",
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="a library; by default all")
    arguments = parser.parse_args()
    rows = [
        row
        for row in GALLERY
        if not arguments.names or any(name.lower() in row.seen.lower() for name in arguments.names)
    ]
    if not rows:
        parser.error(f"unknown library: {'; '.join(arguments.names)}")
    missed = 0
    for row in tqdm(rows, delay=1, leave=False, disable=not sys.stderr.isatty()):
        result = jaxnet.compare_optimizers(row.candidate, row.reference, steps=200)
        named = row.hint is None or any(row.hint in hint for hint in result.hints)
        missed += result.verdict != "different" or not named
        tqdm.write(f"{row.seen}: {row.difference}")
        for hint in result.hints:
            tqdm.write(f"    {hint}")
        if not named:
            tqdm.write(f"    MISSED: {row.hint}")
    tqdm.write(f"\n{len(rows)} differences from optax {optax.__version__}, {missed} missed")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
