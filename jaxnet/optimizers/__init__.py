"""Optimizers: update rules that turn gradients into updates of the parameters.

Each is an `optax.GradientTransformation`, a pair of pure functions

    init(parameters) -> state
    update(gradients, state, params) -> (updates, state)

The updates are added to the parameters (`optax.apply_updates`). jaxnet's optimizers and optax's are
interchangeable: each has the arguments of the one of optax, in the same order and with the same
defaults, and equals it bit for bit. The fields of the states have optax's names, so that
`optax.tree.get(state, "count")` finds them, and `update` ignores extra arguments that it does not
need, such as `value`.

The learning rate is a number, a traced array or a schedule, a function from the number of steps so
far to the rate. Parameters are real or complex. The structure, shapes and dtypes of a state never
change from step to step, also if the gradients have another precision than the parameters.

An optimizer can be pickled if its schedule and its mask can. optax's schedules cannot: they are
functions within functions, which pickle does not find by name.

- `rule`: what the rules share: hyperparameters, checks of gradients, decaying means
- `descent`: `gradient_descent` and `sgd`
- `adam`: `adam`, `adamw` and `nadam`
- `amsgrad`: `amsgrad`
- `rmsprop`: `rmsprop`
- `adagrad`: `adagrad`
- `lion`: `lion`
"""
