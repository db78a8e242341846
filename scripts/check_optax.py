"""Checks optax's optimizers with `jaxnet.check_optimizer`: all that need only gradients.

One line per optimizer says whether it meets all requirements. For one that does not, each failed
requirement follows with the observation. The state's sharding is checked on two CPU devices.
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


def list_optimizers() -> list[str]:
    """Returns optax's functions of a learning rate; lbfgs also needs the value of the cost."""
    return [
        name
        for name, function in vars(optax).items()
        if isinstance(function, (types.FunctionType, functools.partial))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
        and not name.startswith(("_", "lbfgs", "scale_by"))
    ]


def get_factory(name: str):
    """Returns the function from the learning rate to an optimizer."""
    if name == "noisy_sgd":
        return lambda rate: optax.noisy_sgd(rate, key=jax.random.key(0))
    return getattr(optax, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help="names in optax (default: all)")
    names = parser.parse_args().names or list_optimizers()
    unknown = [name for name in names if not hasattr(optax, name)]
    if unknown:
        parser.error(f"optax has no {', '.join(unknown)}")
    print(f"optax {optax.__version__}, jax {jax.__version__}\n")
    for name in tqdm(names, delay=1, leave=False, disable=not sys.stderr.isatty()):
        report = jaxnet.check_optimizer(get_factory(name))
        failed = [check for check in report.checks if check.passed is False]
        tqdm.write(f"{name:27}  {'passed' if report.passed else 'FAILED'}")
        for check in failed:
            tqdm.write(f"{'':27}  {check.name}: {check.seen}")


if __name__ == "__main__":
    main()
