"""Optimizers written in other ways: right ones that round differently, and realistic mistakes.

A rule is written for one leaf, with the names of the papers; `per_leaf` makes an optimizer of it,
in a plain Python loop over the leaves.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.example_libraries import optimizers as classic
from jax.flatten_util import ravel_pytree

import jaxnet

RATE, MU, B1, B2, EPS, DECAY = 0.01, 0.9, 0.9, 0.999, 1e-8, 0.1
SCHEDULE = optax.exponential_decay(RATE, 10, 0.9)


def per_leaf(slots, rule, count=0):
    """`rule(t, g, p, *moments) -> (update, *moments)`, in steps t = 1, 2, ..."""

    def init(parameters):
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(slots)]
        return jnp.asarray(count), tuple(zeros)

    def update(gradients, state, parameters):
        t, moments = state[0] + 1, state[1]
        leaves, structure = jax.tree.flatten(gradients)
        rows = [structure.flatten_up_to(tree) for tree in (parameters, *moments)]
        results = [rule(t, *row) for row in zip(leaves, *rows, strict=True)]
        trees = [structure.unflatten(column) for column in zip(*results, strict=True)]
        if not leaves:
            return gradients, (t, moments)
        return trees[0], (t, tuple(trees[1:]))

    return optax.GradientTransformation(init, update)


def corrected(moment, decay, t):
    return moment / (1 - decay**t)


def adam_step(m, v, t):
    return corrected(m, B1, t) / (jnp.sqrt(corrected(v, B2, t)) + EPS)


def adam(
    mean=lambda m, g: B1 * m + (1 - B1) * g,
    square=lambda v, g: B2 * v + (1 - B2) * g * g,
    finish=lambda m, v, t, g, p: -RATE * adam_step(m, v, t),
):
    """Adam, of which each line can be written differently."""

    def rule(t, g, p, m, v):
        m, v = mean(m, g), square(v, g)
        return finish(m, v, t, g, p), m, v

    return per_leaf(2, rule)


def finished(finish):
    return adam(finish=lambda m, v, t, g, p: -RATE * finish(m, v, t))


def decayed(finish):
    """AdamW, given the whole last line."""
    return adam(finish=lambda m, v, t, g, p: finish(adam_step(m, v, t), p))


def momentum(rule):
    """`rule(g, velocity) -> (direction, velocity)`."""

    def step(t, g, p, velocity):
        direction, velocity = rule(g, velocity)
        return -RATE * direction, velocity

    return per_leaf(1, step)


def descent(rule):
    return per_leaf(0, lambda t, g, p: (rule(t, g, p),))


def bfloat16(x):
    return jnp.asarray(x, jnp.bfloat16).astype(jnp.result_type(x))


ADAM = optax.adam(RATE)
ADAMW = optax.adamw(RATE, weight_decay=DECAY)
MOMENTUM = optax.sgd(RATE, momentum=MU)
NESTEROV = optax.sgd(RATE, momentum=MU, nesterov=True)
SCHEDULED = optax.sgd(SCHEDULE)
DESCENT = optax.sgd(RATE)
AMSGRAD = optax.amsgrad(RATE)


# Right, but rounded differently ---------------------------------------------------------------


def corrections_in_the_rate(m, v, t):
    root = jnp.sqrt(1 - B2**t)
    return root / (1 - B1**t) * m / (jnp.sqrt(v) + root * EPS)


def order_of_pytorch(m, v, t):
    return m / (1 - B1**t) / (jnp.sqrt(v) / jnp.sqrt(1 - B2**t) + EPS)


def corrections_by_expm1(m, v, t):
    m_hat = m / -jnp.expm1(t * np.log(B1))
    return m_hat / (jnp.sqrt(v / -jnp.expm1(t * np.log(B2))) + EPS)


def flat_adam():
    """The moments as one vector."""

    def init(parameters):
        flat = ravel_pytree(parameters)[0]
        return jnp.zeros((), jnp.int32), jnp.zeros_like(flat), jnp.zeros_like(flat)

    def update(gradients, state, parameters):
        t, m, v = state
        flat, unravel = ravel_pytree(gradients)
        t, m, v = t + 1, B1 * m + (1 - B1) * flat, B2 * v + (1 - B2) * flat**2
        return unravel(-RATE * adam_step(m, v, t)), (t, m, v)

    return optax.GradientTransformation(init, update)


def adam_with_powers():
    """The powers of the betas are carried along, in place of a count."""

    def init(parameters):
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        dtype = jnp.result_type(float)
        return jnp.ones((), dtype), jnp.ones((), dtype), *zeros

    def update(gradients, state, parameters):
        power1, power2, m, v = state
        power1, power2 = power1 * B1, power2 * B2
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, gradients)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g**2, v, gradients)

        def step(m, v):
            m_hat, v_hat = m / (1 - power1), v / (1 - power2)
            return (-RATE * m_hat / (jnp.sqrt(v_hat) + EPS)).astype(m.dtype)

        return jax.tree.map(step, m, v), (power1, power2, m, v)

    return init, update


def classic_adam():
    """That of `jax.example_libraries`, which holds the parameters itself."""
    init, step, parameters_of = classic.adam(RATE)

    def update(gradients, state, parameters):
        t, inner = state
        moments = [(p, *old[1:]) for p, old in zip(*_flat(parameters, inner), strict=True)]
        inner = classic.pack_optimizer_state(
            jax.tree.unflatten(jax.tree.structure(parameters), map(classic.JoinPoint, moments))
        )
        inner = step(t, gradients, inner)
        updates = jax.tree.map(jnp.subtract, parameters_of(inner), parameters)
        return updates, (t + 1, inner)

    def _flat(parameters, inner):
        joined = classic.unpack_optimizer_state(inner)
        points = jax.tree.leaves(joined, is_leaf=lambda x: isinstance(x, classic.JoinPoint))
        return jax.tree.leaves(parameters), [point.subtree for point in points]

    return lambda parameters: (jnp.zeros((), jnp.int32), init(parameters)), update


def in_place_adamw(t, g, p, m, v):
    """The new parameters minus the old, in PyTorch's order: first the decay, then the step."""
    m, v = torch_lerp(m, g), B2 * v + (1 - B2) * g * g
    new = p * (1 - RATE * DECAY)
    new = new - RATE * order_of_pytorch(m, v, t)
    return new - p, m, v


def amsgrad(t, g, p, m, v, top):
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    top = jnp.maximum(top, corrected(v, B2, t))
    return -RATE * corrected(m, B1, t) / (jnp.sqrt(top) + EPS), m, v, top


def torch_lerp(m, g):
    return m + (1 - B1) * (g - m)


CORRECT = {
    "a loop over the leaves": (adam(), ADAM),
    "corrections in the rate": (finished(corrections_in_the_rate), ADAM),
    "corrections by expm1": (finished(corrections_by_expm1), ADAM),
    "PyTorch's order": (finished(order_of_pytorch), ADAM),
    "means by interpolation": (
        adam(mean=torch_lerp, square=lambda v, g: v + (g * g - v) * (1 - B2)),
        ADAM,
    ),
    "one flat vector": (flat_adam(), ADAM),
    "powers carried along": (adam_with_powers(), ADAM),
    "jax.example_libraries": (classic_adam(), ADAM),
    "optax from its parts": (
        optax.chain(
            optax.scale_by_adam(), optax.scale(-1.0), optax.scale_by_schedule(lambda _: RATE)
        ),
        ADAM,
    ),
    "injected hyperparameters": (optax.inject_hyperparams(optax.adam)(learning_rate=RATE), ADAM),
    "jaxnet": (jaxnet.adam(RATE), ADAM),
    "decay joined to the rate": (decayed(lambda d, p: -(RATE * d) - (RATE * DECAY) * p), ADAMW),
    "in place, PyTorch's AdamW": (per_leaf(2, in_place_adamw), ADAMW),
    "AMSGrad by hand": (
        per_leaf(3, amsgrad),
        AMSGRAD,
    ),
    "momentum": (momentum(lambda g, v: (MU * v + g, MU * v + g)), MOMENTUM),
    "momentum with the rate in the velocity": (
        per_leaf(1, lambda t, g, p, v: (MU * v - RATE * g, MU * v - RATE * g)),
        MOMENTUM,
    ),
    "nesterov, multiplied out": (
        momentum(lambda g, v: ((1 + MU) * g + MU**2 * v, MU * v + g)),
        NESTEROV,
    ),
    "schedule by hand": (descent(lambda t, g, p: -RATE * 0.9 ** ((t - 1) / 10) * g), SCHEDULED),
    "descent in place": (descent(lambda t, g, p: (p - RATE * g) - p), DESCENT),
}


# Wrong ----------------------------------------------------------------------------------------


def eps_inside_root(m, v, t):
    return corrected(m, B1, t) / jnp.sqrt(corrected(v, B2, t) + EPS**2)


def eps_before_correction(m, v, t):
    return corrected(m, B1, t) / ((jnp.sqrt(v) + EPS) / jnp.sqrt(1 - B2**t))


def with_eps(eps):
    return finished(lambda m, v, t: corrected(m, B1, t) / (jnp.sqrt(corrected(v, B2, t)) + eps))


def without_eps(m, v, t):
    return corrected(m, B1, t) / jnp.sqrt(corrected(v, B2, t))


def with_betas(b1, b2):
    return adam(lambda m, g: b1 * m + (1 - b1) * g, lambda v, g: b2 * v + (1 - b2) * g * g)


def with_old_moment(t, g, p, m, v):
    new = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g * g
    return -RATE * adam_step(m, v, t), new, v


def with_old_square(t, g, p, m, v):
    m, new = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    return -RATE * adam_step(m, v, t), m, new


def looking_ahead(t, g, p, m, v):
    """Nadam."""
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    return -RATE * adam_step(B1 * m + (1 - B1) * g, v, t), m, v


def coupled_decay(t, g, p, m, v):
    g = g + DECAY * p
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    return -RATE * adam_step(m, v, t), m, v


def amsgrad_before_correction(t, g, p, m, v, top):
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    top = jnp.maximum(top, v)
    return -RATE * adam_step(m, top, t), m, v, top


def in_bfloat16(t, g, p, m, v):
    m, v = (a.astype(jnp.bfloat16) for a in (B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g))
    update = -RATE * adam_step(m.astype(g.dtype), v.astype(g.dtype), t)
    return update, m.astype(g.dtype), v.astype(g.dtype)


WRONG = {
    # Adam
    "betas swapped": (with_betas(B2, B1), ADAM, "differs first, at step 1"),
    "another beta": (with_betas(B1, 0.99), ADAM, "nu"),
    "betas rounded to bfloat16": (
        with_betas(float(jnp.bfloat16(B1)), float(jnp.bfloat16(B2))),
        ADAM,
        "mu",
    ),
    "no bias correction": (
        finished(lambda m, v, t: m / (jnp.sqrt(v) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "correction one step late": (
        finished(lambda m, v, t: adam_step(m, v, t + 1)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "correction one step early": (
        finished(lambda m, v, t: adam_step(m, v, t - 1)),
        ADAM,
        "infinite or NaN",
    ),
    "only the mean corrected": (
        finished(lambda m, v, t: corrected(m, B1, t) / (jnp.sqrt(v) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "only the square corrected": (
        finished(lambda m, v, t: m / (jnp.sqrt(corrected(v, B2, t)) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "one beta in both corrections": (
        finished(lambda m, v, t: corrected(m, B2, t) / (jnp.sqrt(corrected(v, B2, t)) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "eps inside the root": (finished(eps_inside_root), ADAM, "eps, its size or its place"),
    "eps before the correction": (
        finished(eps_before_correction),
        ADAM,
        "eps, its size or its place",
    ),
    "eps of Keras": (with_eps(1e-7), ADAM, "eps, its size or its place"),
    "no eps": (with_eps(0.0), ADAM, "where the gradient is zero: a division of 0 by 0"),
    "absolute value for the square": (
        adam(square=lambda v, g: B2 * v + (1 - B2) * abs(g)),
        ADAM,
        "nu",
    ),
    "square of the mean": (
        per_leaf(2, lambda t, g, p, m, v: square_of_mean(t, g, m, v)),
        ADAM,
        "nu",
    ),
    "no weight on the gradient": (
        adam(mean=lambda m, g: B1 * m + g),
        ADAM,
        "every update is 10 times",
    ),
    "old mean": (per_leaf(2, with_old_moment), ADAM, "no moment differs"),
    "old square": (per_leaf(2, with_old_square), ADAM, "no moment differs"),
    "Nesterov's look-ahead": (per_leaf(2, looking_ahead), ADAM, "no moment differs"),
    "one square for a whole leaf": (
        adam(square=lambda v, g: B2 * v + (1 - B2) * jnp.mean(g * g)),
        ADAM,
        "nu",
    ),
    "moments rounded to bfloat16": (per_leaf(2, in_bfloat16), ADAM, "differs first, at step 1"),
    "uphill": (
        finished(lambda m, v, t: -adam_step(m, v, t)),
        ADAM,
        "-1 times the reference: the sign",
    ),
    "applied twice": (
        finished(lambda m, v, t: 2 * adam_step(m, v, t)),
        ADAM,
        "every update is 2 times",
    ),
    "gradient clipped": (optax.chain(optax.clip(1.0), ADAM), ADAM, "differs first"),
    "AMSGrad's maximum before the correction": (
        per_leaf(3, amsgrad_before_correction),
        AMSGRAD,
        "",
    ),
    "AMSGrad without the maximum": (ADAM, AMSGRAD, "nu_max"),
    # AdamW
    "L2 in the gradient": (per_leaf(2, coupled_decay), ADAMW, "differs first, at step 1"),
    "no decay": (ADAM, ADAMW, "0.001 times the parameters: weight decay"),
    "decay without the rate": (
        decayed(lambda d, p: -RATE * d - DECAY * p),
        ADAMW,
        "-0.099 times the parameters",
    ),
    "decay with the rate twice": (
        decayed(lambda d, p: -RATE * (d + RATE * DECAY * p)),
        ADAMW,
        "0.00099 times the parameters",
    ),
    "decay after the step": (
        decayed(lambda d, p: -RATE * d - RATE * DECAY * (p - RATE * d)),
        ADAMW,
        "no moment differs",
    ),
    "growth in place of decay": (
        decayed(lambda d, p: -RATE * (d - DECAY * p)),
        ADAMW,
        "0.002 times the parameters",
    ),
    "vectors do not decay": (
        decayed(lambda d, p: -RATE * (d + DECAY * p * (p.ndim > 1))),
        ADAMW,
        "some leaves agree: layer/weights",
    ),
    # Momentum
    "dampening": (
        momentum(lambda g, v: (MU * v + (1 - MU) * g,) * 2),
        MOMENTUM,
        "every update is 0.1 times",
    ),
    "old velocity": (
        momentum(lambda g, v: (v, MU * v + g)),
        MOMENTUM,
        "the reference's of one step earlier",
    ),
    "plain momentum for Nesterov's": (
        momentum(lambda g, v: (MU * v + g,) * 2),
        NESTEROV,
        "no moment differs",
    ),
    "look-ahead of the old velocity": (
        momentum(lambda g, v: (g + MU * v, MU * v + g)),
        NESTEROV,
        "no moment differs",
    ),
    "look-ahead twice": (
        momentum(lambda g, v: (g + MU * (g + MU * (MU * v + g)), MU * v + g)),
        NESTEROV,
        "",
    ),
    "rate in the velocity, under a schedule": (
        per_leaf(1, lambda t, g, p, v: (MU * v - SCHEDULE(t - 1) * g,) * 2),
        optax.sgd(SCHEDULE, momentum=MU),
        "the first step agrees",
    ),
    # Descent
    "schedule one step late": (
        descent(lambda t, g, p: -SCHEDULE(t) * g),
        SCHEDULED,
        "every update is 0.9895",
    ),
    "schedule that stands still": (
        descent(lambda t, g, p: -SCHEDULE(0) * g),
        SCHEDULED,
        "a schedule or a bias correction",
    ),
    "gradient of unit length": (
        descent(lambda t, g, p: -RATE * g / (jnp.linalg.norm(g) + EPS)),
        DESCENT,
        "",
    ),
    "rate rounded to float32": (
        optax.sgd(float(np.float32(RATE))),
        DESCENT,
        "only float64 shows it",
    ),
    "a single step of momentum too much": (
        per_leaf(1, lambda t, g, p, v: (-RATE * (g + jnp.where(t == 2, MU * v, 0)), g)),
        DESCENT,
        "agree",
    ),
}


def square_of_mean(t, g, m, v):
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * m * m
    return -RATE * adam_step(m, v, t), m, v
