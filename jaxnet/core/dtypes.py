"""The kind of values that an array holds, by its dtype, and whether it has values yet."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether a value is concrete: not traced by `jit`, `vmap` or `grad`."""
    return not isinstance(value, jax.core.Tracer)


def is_real(value: Any) -> bool:
    """Whether an array holds real numbers or booleans: no text, keys or complex numbers."""
    kinds = (jnp.floating, jnp.bool_)
    return is_integer(value) or any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def is_integer(value: Any) -> bool:
    """Whether an array holds integers; `timedelta64` does not count, though NumPy says it does."""
    return jnp.issubdtype(value.dtype, jnp.integer) and value.dtype.kind != "m"


def is_key(value: Any) -> bool:
    """Whether an array, or a `jax.ShapeDtypeStruct`, holds typed keys."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_native(dtype: np.dtype) -> bool:
    """Whether JAX can hold a dtype: native byte order, and no wider than 64 bits a number."""
    return dtype.isnative and dtype.char not in "gG"
