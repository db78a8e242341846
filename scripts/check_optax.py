"""Puts optax's optimizers through `jaxnet.check_optimizer`: all that need only gradients.

Found in optax 0.2.8 with jax 0.10.2, on two CPU devices. All properties hold of adabelief,
adadelta, adagrad, adam, adamax, adamaxw, adamw, adan, amsgrad, fromage, lamb, lars, lion, nadam,
nadamw, novograd, optimistic_adam, optimistic_adam_v2, optimistic_gradient_descent, radam, rmsprop,
rprop, sgd, sign_sgd, signum and yogi. Of the other three:

    optimizer   property              what was seen
    adafactor   counts far            updates are not finite when '0/count' is 2147483647
    noisy_sgd   state can be donated  init gives an array that it keeps: donated, it is lost ...
    sm3         runs                  IndexError: list index out of range

Adafactor's count saturates, but the step it computes from it, one more, overflows. The key given to
`noisy_sgd` is itself the first state, so that donating that deletes it. `sm3` does not take scalar
parameters.
"""

import argparse
import functools
import inspect
import os
import sys
import types

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import optax
from tqdm import tqdm

import jaxnet


def names_of_optax() -> list[str]:
    """Of its functions of a learning rate; lbfgs needs the value of the cost as well."""
    return [
        name
        for name, function in vars(optax).items()
        if isinstance(function, (types.FunctionType, functools.partial))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
        and not name.startswith(("_", "lbfgs", "scale_by"))
    ]


def maker(name: str):
    """From a learning rate to the optimizer."""
    if name == "noisy_sgd":
        return lambda rate: optax.noisy_sgd(rate, key=jax.random.key(0))
    return getattr(optax, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help="some of optax's; by default all")
    names = parser.parse_args().names or names_of_optax()
    unknown = [name for name in names if not hasattr(optax, name)]
    if unknown:
        parser.error(f"optax has no {', '.join(unknown)}")
    print(f"optax {optax.__version__}, jax {jax.__version__}\n")
    for name in tqdm(names, delay=1, leave=False, disable=not sys.stderr.isatty()):
        report = jaxnet.check_optimizer(maker(name))
        failed = [check for check in report.checks if check.passed is False]
        tqdm.write(f"{name:27}  {'passed' if report.passed else 'FAILED'}")
        for check in failed:
            tqdm.write(f"{'':27}  {check.name}: {check.seen}")


if __name__ == "__main__":
    main()
