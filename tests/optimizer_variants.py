"""Variants of optimizers: correct ones that round differently, and ones with realistic mistakes.

An update rule is written for one leaf, in the notation of its paper. `per_leaf` makes an optimizer
from it, with a Python loop over the leaves.
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


def correct_bias(moment, decay, t):
    return moment / (1 - decay**t)


def adam_step(m, v, t):
    return correct_bias(m, B1, t) / (jnp.sqrt(correct_bias(v, B2, t)) + EPS)


def adam(
    mean=lambda m, g: B1 * m + (1 - B1) * g,
    square=lambda v, g: B2 * v + (1 - B2) * g * g,
    finish=lambda m, v, t, g, p: -RATE * adam_step(m, v, t),
):
    """Adam, with each line of the algorithm as an argument."""

    def rule(t, g, p, m, v):
        m, v = mean(m, g), square(v, g)
        return finish(m, v, t, g, p), m, v

    return per_leaf(2, rule)


def with_direction(finish):
    return adam(finish=lambda m, v, t, g, p: -RATE * finish(m, v, t))


def with_decay(finish):
    """AdamW, with its last line as an argument."""
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


# Correct, but rounded differently -------------------------------------------------------------


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
    """The state holds the powers of the betas instead of a step counter."""

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
    """Adam of `jax.example_libraries`, whose state includes the parameters."""
    init, step, get_parameters = classic.adam(RATE)

    def update(gradients, state, parameters):
        t, inner = state
        moments = [(p, *old[1:]) for p, old in zip(*_flatten(parameters, inner), strict=True)]
        inner = classic.pack_optimizer_state(
            jax.tree.unflatten(jax.tree.structure(parameters), map(classic.JoinPoint, moments))
        )
        inner = step(t, gradients, inner)
        updates = jax.tree.map(jnp.subtract, get_parameters(inner), parameters)
        return updates, (t + 1, inner)

    def _flatten(parameters, inner):
        joined = classic.unpack_optimizer_state(inner)
        points = jax.tree.leaves(joined, is_leaf=lambda x: isinstance(x, classic.JoinPoint))
        return jax.tree.leaves(parameters), [point.subtree for point in points]

    return lambda parameters: (jnp.zeros((), jnp.int32), init(parameters)), update


def in_place_adamw(t, g, p, m, v):
    """The new parameters minus the old ones, in PyTorch's order: first the decay, then the step."""
    m, v = torch_lerp(m, g), B2 * v + (1 - B2) * g * g
    new = p * (1 - RATE * DECAY)
    new = new - RATE * order_of_pytorch(m, v, t)
    return new - p, m, v


def amsgrad(t, g, p, m, v, top):
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    top = jnp.maximum(top, correct_bias(v, B2, t))
    return -RATE * correct_bias(m, B1, t) / (jnp.sqrt(top) + EPS), m, v, top


def torch_lerp(m, g):
    return m + (1 - B1) * (g - m)


CORRECT = {
    "a loop over the leaves": (adam(), ADAM),
    "bias corrections in the learning rate": (with_direction(corrections_in_the_rate), ADAM),
    "bias corrections by expm1": (with_direction(corrections_by_expm1), ADAM),
    "PyTorch's order": (with_direction(order_of_pytorch), ADAM),
    "moments by interpolation": (
        adam(mean=torch_lerp, square=lambda v, g: v + (g * g - v) * (1 - B2)),
        ADAM,
    ),
    "one flat vector": (flat_adam(), ADAM),
    "powers of the betas in the state": (adam_with_powers(), ADAM),
    "jax.example_libraries": (classic_adam(), ADAM),
    "optax.chain": (
        optax.chain(
            optax.scale_by_adam(), optax.scale(-1.0), optax.scale_by_schedule(lambda _: RATE)
        ),
        ADAM,
    ),
    "injected hyperparameters": (optax.inject_hyperparams(optax.adam)(learning_rate=RATE), ADAM),
    "jaxnet": (jaxnet.adam(RATE), ADAM),
    "decay multiplied by the rate first": (
        with_decay(lambda d, p: -(RATE * d) - (RATE * DECAY) * p),
        ADAMW,
    ),
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


# Incorrect ------------------------------------------------------------------------------------


def eps_inside_root(m, v, t):
    return correct_bias(m, B1, t) / jnp.sqrt(correct_bias(v, B2, t) + EPS**2)


def eps_before_correction(m, v, t):
    return correct_bias(m, B1, t) / ((jnp.sqrt(v) + EPS) / jnp.sqrt(1 - B2**t))


def with_eps(eps):
    return with_direction(
        lambda m, v, t: correct_bias(m, B1, t) / (jnp.sqrt(correct_bias(v, B2, t)) + eps)
    )


def without_eps(m, v, t):
    return correct_bias(m, B1, t) / jnp.sqrt(correct_bias(v, B2, t))


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
        with_direction(lambda m, v, t: m / (jnp.sqrt(v) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "correction one step late": (
        with_direction(lambda m, v, t: adam_step(m, v, t + 1)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "correction one step early": (
        with_direction(lambda m, v, t: adam_step(m, v, t - 1)),
        ADAM,
        "non-finite",
    ),
    "only the mean corrected": (
        with_direction(lambda m, v, t: correct_bias(m, B1, t) / (jnp.sqrt(v) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "only the square corrected": (
        with_direction(lambda m, v, t: m / (jnp.sqrt(correct_bias(v, B2, t)) + EPS)),
        ADAM,
        "a schedule or a bias correction",
    ),
    "one beta in both corrections": (
        with_direction(
            lambda m, v, t: correct_bias(m, B2, t) / (jnp.sqrt(correct_bias(v, B2, t)) + EPS)
        ),
        ADAM,
        "a schedule or a bias correction",
    ),
    "eps inside the root": (
        with_direction(eps_inside_root),
        ADAM,
        "eps, its value or its position",
    ),
    "eps before the correction": (
        with_direction(eps_before_correction),
        ADAM,
        "eps, its value or its position",
    ),
    "eps of Keras": (with_eps(1e-7), ADAM, "eps, its value or its position"),
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
    "old mean": (per_leaf(2, with_old_moment), ADAM, "the moments agree"),
    "old square": (per_leaf(2, with_old_square), ADAM, "the moments agree"),
    "Nesterov's look-ahead": (per_leaf(2, looking_ahead), ADAM, "the moments agree"),
    "one second moment for a whole leaf": (
        adam(square=lambda v, g: B2 * v + (1 - B2) * jnp.mean(g * g)),
        ADAM,
        "nu",
    ),
    "moments rounded to bfloat16": (per_leaf(2, in_bfloat16), ADAM, "differs first, at step 1"),
    "uphill": (
        with_direction(lambda m, v, t: -adam_step(m, v, t)),
        ADAM,
        "-1 times the reference: wrong sign",
    ),
    "applied twice": (
        with_direction(lambda m, v, t: 2 * adam_step(m, v, t)),
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
        with_decay(lambda d, p: -RATE * d - DECAY * p),
        ADAMW,
        "-0.099 times the parameters",
    ),
    "decay with the rate twice": (
        with_decay(lambda d, p: -RATE * (d + RATE * DECAY * p)),
        ADAMW,
        "0.00099 times the parameters",
    ),
    "decay after the step": (
        with_decay(lambda d, p: -RATE * d - RATE * DECAY * (p - RATE * d)),
        ADAMW,
        "the moments agree",
    ),
    "growth instead of decay": (
        with_decay(lambda d, p: -RATE * (d - DECAY * p)),
        ADAMW,
        "0.002 times the parameters",
    ),
    "vectors do not decay": (
        with_decay(lambda d, p: -RATE * (d + DECAY * p * (p.ndim > 1))),
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
        "that of the reference one step earlier",
    ),
    "plain momentum instead of Nesterov's": (
        momentum(lambda g, v: (MU * v + g,) * 2),
        NESTEROV,
        "the moments agree",
    ),
    "look-ahead of the old velocity": (
        momentum(lambda g, v: (g + MU * v, MU * v + g)),
        NESTEROV,
        "the moments agree",
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
    "constant schedule": (
        descent(lambda t, g, p: -SCHEDULE(0) * g),
        SCHEDULED,
        "a schedule or a bias correction",
    ),
    "normalized gradient of each leaf": (
        descent(lambda t, g, p: -RATE * g / (jnp.linalg.norm(g) + EPS)),
        DESCENT,
        "",
    ),
    "rate rounded to float32": (
        optax.sgd(float(np.float32(RATE))),
        DESCENT,
        "only float64 shows the difference",
    ),
    "momentum in a single step": (
        per_leaf(1, lambda t, g, p, v: (-RATE * (g + jnp.where(t == 2, MU * v, 0)), g)),
        DESCENT,
        "agree",
    ),
}


def square_of_mean(t, g, m, v):
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * m * m
    return -RATE * adam_step(m, v, t), m, v
