"""Variants of optimizers: correct ones that round differently, and ones with realistic mistakes.

An update rule is written for one leaf, in the notation of its paper. `per_leaf` makes an optimizer
from it, with a Python loop over the leaves. The optimizers of `scripts/check_gallery.py` are
others.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from check_gallery import per_leaf
from jax.example_libraries import optimizers as classic
from jax.flatten_util import ravel_pytree

import jaxnet

RATE, MU, B1, B2, EPS, DECAY = 0.01, 0.9, 0.9, 0.999, 1e-8, 0.1
SCHEDULE = optax.exponential_decay(RATE, 10, 0.9)


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
RMSPROP = optax.rmsprop(RATE)
CLIPPED = optax.chain(optax.clip_by_global_norm(1.0), DESCENT)


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


def classic_adam_as_it_is():
    """Adam of `jax.example_libraries`, which keeps and updates a copy of the parameters."""
    init, step, get_parameters = classic.adam(RATE)

    def update(gradients, state, parameters):
        t, before = state
        after = step(t, gradients, before)
        updates = jax.tree.map(jnp.subtract, get_parameters(after), get_parameters(before))
        return updates, (t + 1, after)

    return lambda parameters: (jnp.zeros((), jnp.int32), init(parameters)), update


def in_float32(*numbers):
    return tuple(jnp.asarray(number, jnp.float32) for number in numbers)


def adam_of_float32(t, g, p, m, v):
    rate, b1, b2, eps = in_float32(RATE, B1, B2, EPS)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return -rate * (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + eps), m, v


def powers_in_float32(t, g, p, m, v):
    """In the order of Keras, whose optimizers hold their hyperparameters in float32."""
    rate, b1, b2, eps, t = in_float32(RATE, B1, B2, EPS, t)
    root = jnp.sqrt(1 - jnp.power(b2, t))
    m, v = m + (g - m) * (1 - b1), v + (g * g - v) * (1 - b2)
    return -m * (rate * root / (1 - jnp.power(b1, t))) / (jnp.sqrt(v) + eps * root), m, v


def float32_decay(t, g, p, m, v):
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    rate, decay = in_float32(RATE, DECAY)
    return -rate * (adam_step(m, v, t) + decay * p), m, v


def rmsprop_step(g, v):
    return -RATE * g / jnp.sqrt(v + 1e-8), v


def nadam(t, g, p, m, v):
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    m_hat = B1 * m / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)
    return -RATE * m_hat / (jnp.sqrt(correct_bias(v, B2, t)) + EPS), m, v


def clipped_by_hand():
    def update(gradients, state, parameters):
        norm = jnp.linalg.norm(ravel_pytree(gradients)[0])
        scale = RATE / jnp.maximum(1, norm)
        return jax.tree.map(lambda g: -scale * g, gradients), state

    return lambda parameters: (), update


def heavy_ball():
    """Momentum by the parameters of the step before, `p + 0.9 (p - previous) - rate * g`."""

    def update(gradients, previous, parameters):
        def step(p, q, g):
            return MU * (p - q) - RATE * g

        return jax.tree.map(step, parameters, previous, gradients), parameters

    return lambda parameters: parameters, update


def schedule_in_float32(count):
    rate, factor = in_float32(RATE, 0.9)
    return rate * factor ** (count.astype(jnp.float32) / 10)


def list_of_leaves(rule):
    """The state is a list with the moments of each leaf."""

    def init(parameters):
        leaves = jax.tree.leaves(parameters)
        return jnp.zeros((), jnp.int32), [[jnp.zeros_like(p), jnp.zeros_like(p)] for p in leaves]

    def update(gradients, state, parameters):
        t, leaves = state[0] + 1, []
        flat, structure = jax.tree.flatten(gradients)
        for g, (m, v) in zip(flat, state[1], strict=True):
            leaves.append(rule(t, g, m, v))
        updates = structure.unflatten([leaf[0] for leaf in leaves])
        return updates, (t, [list(leaf[1:]) for leaf in leaves])

    return init, update


ROUNDED = {
    "rate": (optax.sgd(float(np.float32(RATE))), DESCENT),
    "rate as an array": (optax.sgd(*in_float32(RATE)), DESCENT),
    "momentum": (
        optax.sgd(RATE, momentum=float(np.float32(MU))),
        MOMENTUM,
    ),
    "b2": (optax.adam(RATE, b2=float(np.float32(B2))), ADAM),
    "all as numbers": (
        optax.adam(*(float(np.float32(h)) for h in (RATE, B1, B2, EPS))),
        ADAM,
    ),
    "all as arrays": (per_leaf(2, adam_of_float32), ADAM),
    "powers": (per_leaf(2, powers_in_float32), ADAM),
    "decay": (per_leaf(2, float32_decay), ADAMW),
    "a tiny eps in the root": (
        optax.adabelief(float(np.float32(RATE))),
        optax.adabelief(RATE),
    ),
    "a schedule": (
        optax.rmsprop(schedule_in_float32, momentum=MU),
        optax.rmsprop(SCHEDULE, momentum=MU),
    ),
}

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
    "jax.example_libraries, a copy of the parameters": (classic_adam_as_it_is(), ADAM),
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
    "heavy ball": (heavy_ball(), MOMENTUM),
    "RMSProp by hand": (
        per_leaf(1, lambda t, g, p, v: rmsprop_step(g, 0.9 * v + 0.1 * g * g)),
        RMSPROP,
    ),
    "AdaGrad by hand": (
        per_leaf(1, lambda t, g, p, s: (-RATE * g / jnp.sqrt(s + g * g + 1e-7), s + g * g), 0, 0.1),
        optax.adagrad(RATE),
    ),
    "Nadam by hand": (per_leaf(2, nadam), optax.nadam(RATE)),
    "clipped by hand": (clipped_by_hand(), CLIPPED),
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


EPS_HINT = "the smaller the gradients, the larger the difference: eps, its value or its position"


def adam_rule(t, g, m, v, b2=B2):
    m, v = B1 * m + (1 - B1) * g, b2 * v + (1 - b2) * g * g
    return -RATE * correct_bias(m, B1, t) / (jnp.sqrt(correct_bias(v, b2, t)) + EPS), m, v


def nesterov_twice(g, v):
    return MU * (MU * v - RATE * g) - RATE * g, v


def clip_leaf(g):
    return g / jnp.maximum(1, jnp.linalg.norm(g))


def corrected_rmsprop(t, g, p, v):
    v = 0.9 * v + 0.1 * g * g
    return -RATE * g / jnp.sqrt(correct_bias(v, 0.9, t) + 1e-8), v


def outside(g, v):
    return -RATE * g / (jnp.sqrt(v) + 1e-8), v


def forgetting_the_mean(t, g, p, m, v):
    update, _, v = adam_rule(t, g, m, v)
    return update, m, v


def square_of_mean(t, g, m, v):
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * m * m
    return -RATE * adam_step(m, v, t), m, v


WRONG = {  # candidate, reference, the cause as a hint names it, and what else hints may say
    # Adam
    "betas swapped": (
        with_betas(B2, B1),
        ADAM,
        "nu = 0.1 g**2 + 0.9 nu; reference: 0.001 g**2 + 0.999 nu: b1 and b2 are swapped",
        "mu = 0.001 g + 0.999 mu; reference: 0.1 g + 0.9 mu: b1 and b2 are swapped",
    ),
    "another beta": (with_betas(B1, 0.99), ADAM, "nu = 0.01 g**2 + 0.99 nu; reference: 0.001 g**2"),
    "another beta, in a list of leaves": (
        list_of_leaves(
            lambda t, g, m, v: adam_rule(t, g, m, v, b2=0.99),
        ),
        ADAM,
        "nu = 0.01 g**2 + 0.99 nu; reference: 0.001 g**2",
    ),
    "betas rounded to bfloat16": (
        with_betas(float(jnp.bfloat16(B1)), float(jnp.bfloat16(B2))),
        ADAM,
        "mu = 0.1015625 g + 0.8984375 mu; reference: 0.1 g + 0.9 mu",
        "nu never changes",
    ),
    "no bias correction": (
        with_direction(lambda m, v, t: m / (jnp.sqrt(v) + EPS)),
        ADAM,
        "neither mu nor nu is corrected for its bias",
    ),
    "correction one step late": (
        with_direction(lambda m, v, t: adam_step(m, v, t + 1)),
        ADAM,
        "the bias is corrected with t + 1 in place of t",
    ),
    "correction one step early": (
        with_direction(lambda m, v, t: adam_step(m, v, t - 1)),
        ADAM,
        "some updates are non-finite",
        "updates are non-finite where the gradient is zero: a division of 0 by 0",
    ),
    "only the mean corrected": (
        with_direction(lambda m, v, t: correct_bias(m, B1, t) / (jnp.sqrt(v) + EPS)),
        ADAM,
        "nu is not corrected for its bias",
    ),
    "only the square corrected": (
        with_direction(lambda m, v, t: m / (jnp.sqrt(correct_bias(v, B2, t)) + EPS)),
        ADAM,
        "mu is not corrected for its bias",
    ),
    "one beta in both corrections": (
        with_direction(
            lambda m, v, t: correct_bias(m, B2, t) / (jnp.sqrt(correct_bias(v, B2, t)) + EPS)
        ),
        ADAM,
        "the bias of mu is corrected with b2",
    ),
    "corrected for a bias that is not there": (
        per_leaf(1, corrected_rmsprop),
        RMSPROP,
        "the bias of nu is corrected once more than in the reference",
    ),
    "no root": (
        with_direction(lambda m, v, t: correct_bias(m, B1, t) / (correct_bias(v, B2, t) + EPS)),
        ADAM,
        "the update is divided by nu and not by its square root",
    ),
    "no denominator": (
        with_direction(lambda m, v, t: correct_bias(m, B1, t)),
        ADAM,
        "the update is not divided by the square root of nu",
    ),
    "eps inside the root": (with_direction(eps_inside_root), ADAM, EPS_HINT),
    "eps before the correction": (with_direction(eps_before_correction), ADAM, EPS_HINT),
    "eps of Keras": (with_eps(1e-7), ADAM, EPS_HINT),
    "no eps": (
        with_eps(0.0),
        ADAM,
        "where the gradient is zero: a division of 0 by 0",
        EPS_HINT,
    ),
    "absolute value for the square": (
        adam(square=lambda v, g: B2 * v + (1 - B2) * abs(g)),
        ADAM,
        "nu = 0.001 |g| + 0.999 nu; reference: 0.001 g**2 + 0.999 nu",
    ),
    "square of the mean": (
        per_leaf(2, lambda t, g, p, m, v: square_of_mean(t, g, m, v)),
        ADAM,
        "nu = 0.001 mu**2 + 0.999 nu; reference: 0.001 g**2 + 0.999 nu",
    ),
    "no weight on the gradient": (
        adam(mean=lambda m, g: B1 * m + g),
        ADAM,
        "mu = g + 0.9 mu; reference: 0.1 g + 0.9 mu",
        "every update is 10 times",
    ),
    "a mean that is never updated": (
        per_leaf(2, forgetting_the_mean),
        ADAM,
        "mu never changes",
    ),
    "moments that start at 1": (
        per_leaf(2, lambda t, g, p, m, v: adam_rule(t, g, m, v), start=1.0),
        ADAM,
        "mu starts at 1; reference: 0",
        "nu starts at 1; reference: 0",
    ),
    "old mean": (
        per_leaf(2, with_old_moment),
        ADAM,
        "the update uses mu as it was before the step",
    ),
    "old square": (
        per_leaf(2, with_old_square),
        ADAM,
        "the update uses nu as it was before the step",
    ),
    "Nesterov's look-ahead": (
        per_leaf(2, looking_ahead),
        ADAM,
        "the update adds the gradient to mu: Nesterov momentum",
    ),
    "Adam in place of Nadam": (ADAM, optax.nadam(RATE), None),
    "one second moment for a whole leaf": (
        adam(square=lambda v, g: B2 * v + (1 - B2) * jnp.mean(g * g)),
        ADAM,
        "nu = 0.001 mean(g**2) + 0.999 nu; reference: 0.001 g**2 + 0.999 nu",
    ),
    "moments rounded to bfloat16": (per_leaf(2, in_bfloat16), ADAM, "rounded to bfloat16"),
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
    "gradient clipped": (
        optax.chain(optax.clip(1.0), ADAM),
        ADAM,
        "gradients are clipped to 1, each element by itself",
    ),
    "clipped by the global norm": (
        optax.chain(optax.clip_by_global_norm(1.0), ADAM),
        ADAM,
        "the global norm of the gradients is clipped to 1",
    ),
    "each leaf clipped": (
        per_leaf(2, lambda t, g, p, m, v: adam_rule(t, clip_leaf(g), m, v)),
        ADAM,
        "the norm of each leaf's gradients is clipped to 1",
    ),
    "AMSGrad's maximum before the correction": (
        per_leaf(3, amsgrad_before_correction),
        AMSGRAD,
        None,
    ),
    "AMSGrad without the maximum": (
        ADAM,
        AMSGRAD,
        "the candidate's state has 2 moments; the reference's: 3 (mu, nu, nu_max)",
    ),
    # AdamW
    "L2 in the gradient": (
        per_leaf(2, coupled_decay),
        ADAMW,
        "mu = 0.1 g + 0.01 p + 0.9 mu; reference: 0.1 g + 0.9 mu: weight decay in the gradient",
    ),
    "no decay": (ADAM, ADAMW, "0.001 times the parameters: weight decay"),
    "decay without the rate": (
        with_decay(lambda d, p: -RATE * d - DECAY * p),
        ADAMW,
        "-0.099 times the parameters: weight decay",
    ),
    "decay with the rate twice": (
        with_decay(lambda d, p: -RATE * (d + RATE * DECAY * p)),
        ADAMW,
        "0.00099 times the parameters: weight decay",
    ),
    "decay after the step": (
        with_decay(lambda d, p: -RATE * d - RATE * DECAY * (p - RATE * d)),
        ADAMW,
        None,
    ),
    "growth instead of decay": (
        with_decay(lambda d, p: -RATE * (d - DECAY * p)),
        ADAMW,
        "0.002 times the parameters: weight decay",
    ),
    "vectors do not decay": (
        with_decay(lambda d, p: -RATE * (d + DECAY * p * (p.ndim > 1))),
        ADAMW,
        "the other leaves' updates differ by 0.001 times the parameters: weight decay",
    ),
    # Momentum
    "dampening": (
        momentum(lambda g, v: (MU * v + (1 - MU) * g,) * 2),
        MOMENTUM,
        "updates = -0.001 g + 0.9 u[t-1]; reference: -0.01 g + 0.9 u[t-1]",
        "every update is 0.1 times",
    ),
    "another momentum": (
        momentum(lambda g, v: (0.5 * v + g,) * 2),
        MOMENTUM,
        "trace = g + 0.5 trace; reference: g + 0.9 trace",
    ),
    "old velocity": (
        momentum(lambda g, v: (v, MU * v + g)),
        MOMENTUM,
        "that of the reference one step earlier",
        "updates = ",
    ),
    "plain momentum instead of Nesterov's": (
        momentum(lambda g, v: (MU * v + g,) * 2),
        NESTEROV,
        "updates = -0.01 g + 0.9 u[t-1]; reference: -0.019 g + 0.009 g[t-1] + 0.9 u[t-1]",
    ),
    "look-ahead of the old velocity": (
        momentum(lambda g, v: (g + MU * v, MU * v + g)),
        NESTEROV,
        "updates = -0.01 g + 0.9 u[t-1]; reference: -0.019 g + 0.009 g[t-1] + 0.9 u[t-1]",
    ),
    "look-ahead twice": (
        momentum(lambda g, v: (g + MU * (g + MU * (MU * v + g)), MU * v + g)),
        NESTEROV,
        "updates = -0.0271 g + 0.0171 g[t-1] + 0.9 u[t-1]; reference: -0.019 g",
    ),
    "decay in the gradient": (
        per_leaf(1, lambda t, g, p, v: (-RATE * (MU * v + g + 0.1 * p), MU * v + g + 0.1 * p)),
        MOMENTUM,
        "trace = g + 0.1 p + 0.9 trace; reference: g + 0.9 trace: weight decay in the gradient",
    ),
    "rate in the velocity, under a schedule": (
        per_leaf(1, lambda t, g, p, v: (MU * v - SCHEDULE(t - 1) * g,) * 2),
        optax.sgd(SCHEDULE, momentum=MU),
        None,
    ),
    # Descent
    "unexpected momentum": (
        MOMENTUM,
        DESCENT,
        "updates = -0.01 g + 0.9 u[t-1]; reference: -0.01 g",
    ),
    "unexpected decay": (
        descent(lambda t, g, p: -RATE * (g + DECAY * p)),
        DESCENT,
        "updates = -0.01 g - 0.001 p; reference: -0.01 g",
        "-0.001 times the parameters: weight decay",
    ),
    "schedule one step late": (
        descent(lambda t, g, p: -SCHEDULE(t) * g),
        SCHEDULED,
        "every update is 0.9895",
    ),
    "constant schedule": (
        descent(lambda t, g, p: -SCHEDULE(0) * g),
        SCHEDULED,
        "updates = -0.01 g",
    ),
    "another schedule": (
        optax.sgd(optax.exponential_decay(RATE, 20, 0.9)),
        SCHEDULED,
        "a schedule, a bias correction or clipping",
    ),
    "each leaf clipped, in place of all": (
        descent(lambda t, g, p: -RATE * clip_leaf(g)),
        CLIPPED,
        None,
    ),
    "normalized gradient of each leaf": (
        descent(lambda t, g, p: -RATE * g / (jnp.linalg.norm(g) + EPS)),
        DESCENT,
        "the norm of each leaf's gradients is divided out",
    ),
    "sign of the gradient": (
        descent(lambda t, g, p: -RATE * jnp.sign(g)),
        DESCENT,
        None,
    ),
    "momentum in a single step": (
        per_leaf(1, lambda t, g, p, v: (-RATE * (g + jnp.where(t == 2, MU * v, 0)), g)),
        DESCENT,
        "the candidate's state has 1 moment; the reference's: 0",
    ),
    # RMSProp, AdaGrad, Lion
    "eps outside the root": (
        per_leaf(1, lambda t, g, p, v: outside(g, 0.9 * v + 0.1 * g * g)),
        RMSPROP,
        EPS_HINT,
    ),
    "decay of PyTorch's RMSProp": (
        optax.rmsprop(RATE, decay=0.99),
        RMSPROP,
        "nu = 0.01 g**2 + 0.99 nu; reference: 0.1 g**2 + 0.9 nu",
    ),
    "RMSProp for AdaGrad": (
        RMSPROP,
        optax.adagrad(RATE, initial_accumulator_value=0.0),
        "sum_of_squares = 0.1 g**2 + 0.9 sum_of_squares; reference: g**2 + sum_of_squares",
    ),
    "a sum that starts at 0": (
        optax.adagrad(RATE, initial_accumulator_value=0.0),
        optax.adagrad(RATE),
        "sum_of_squares starts at 0; reference: 0.1",
    ),
    "eps of PyTorch's AdaGrad": (optax.adagrad(RATE, eps=1e-10), optax.adagrad(RATE), EPS_HINT),
    "Nesterov's, with the rate in the velocity and a mistake": (
        per_leaf(1, lambda t, g, p, v: nesterov_twice(g, MU * v - RATE * g)),
        NESTEROV,
        "updates = -0.0271 g + 0.0171 g[t-1] + 0.9 u[t-1]; reference: -0.019 g",
    ),
    "NaN after a while": (
        descent(lambda t, g, p: jnp.where(t > 150, jnp.nan, -RATE * g)),
        DESCENT,
        "some updates are non-finite",
    ),
    "Lion with one beta": (
        optax.lion(RATE, b1=0.9, b2=0.9),
        optax.lion(RATE),
        "mu = 0.1 g + 0.9 mu; reference: 0.01 g + 0.99 mu",
    ),
    "Lion without the sign": (
        per_leaf(1, lambda t, g, p, m: (-RATE * (0.1 * g + 0.9 * m), 0.99 * m + 0.01 * g)),
        optax.lion(RATE, weight_decay=0.0),
        None,
    ),
}
