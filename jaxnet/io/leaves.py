"""Leaves of a tree as NumPy arrays, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.core import checks
from jaxnet.core.dtypes import is_concrete, is_key

DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": np.bool_,
        "U8": np.uint8,
        "I8": np.int8,
        "U16": np.uint16,
        "I16": np.int16,
        "U32": np.uint32,
        "I32": np.int32,
        "U64": np.uint64,
        "I64": np.int64,
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
        "BF16": jnp.bfloat16,
        "F16": np.float16,
        "F32": np.float32,
        "F64": np.float64,
        "C64": np.complex64,
    }.items()
}
"""The dtypes that can be saved, by their names in a safetensors file."""

NUMBERS = {number.__name__: number for number in (bool, int, float)}
"""The Python numbers that can be saved, by their kinds."""

ARRAYS = ("jax", "numpy", "numpy scalar")
"""The kinds of arrays. A leaf saved as one of them can be loaded as another."""


def leaf_kind(leaf: Any) -> str | None:
    """The kind of a leaf: one of `ARRAYS`, of `NUMBERS` or "key"; None if it cannot be saved.

    >>> leaf_kind(np.zeros(2)), leaf_kind(2.5), leaf_kind("text")
    ('numpy', 'float', None)
    """
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return "key" if is_key(leaf) else "jax"
    if type(leaf) in (np.ndarray, np.memmap):
        return "numpy"
    if isinstance(leaf, np.generic):
        return "numpy scalar"
    return type(leaf).__name__ if type(leaf) in NUMBERS.values() else None


def to_numpy(name: str, leaf: Any) -> np.ndarray:
    """Converts a leaf to a C-contiguous NumPy array; a key to its data, which are integers."""
    kind = leaf_kind(leaf)
    hint = checks.hint(leaf)
    if kind is None or not is_concrete(leaf) or hint:
        raise checks.InvalidType(
            "expected arrays with values, keys or numbers. "
            f"Received: {checks.describe(leaf)} at {name!r}{hint}"
        )
    if kind == "int" and not -(2**63) <= leaf < 2**63:
        raise checks.InvalidValue(f"expected integers within 64 bits. Received: {leaf} at {name!r}")
    array = np.asarray(jax.random.key_data(leaf) if kind == "key" else leaf, order="C")
    if array.dtype.newbyteorder("=") not in DTYPES.values():
        raise checks.InvalidType(
            f"expected leaves of {', '.join(map(str, DTYPES.values()))}. "
            f"Received: {checks.describe(array)} at {name!r}"
        )
    return array


def from_numpy(name: str, array: np.ndarray, spec: dict[str, Any], like: Any = None) -> Any:
    """Converts an array back to a leaf; the inverse of `to_numpy`.

    Args:
        name: the path of the leaf, for errors.
        array: what `to_numpy` returned.
        spec: the leaf's spec, see `tree_spec`.
        like: a leaf of the kind to return, on the devices to place the leaf on. By default, the
            kind in the spec, on JAX's default device.
    """
    kind = spec["kind"] if like is None else leaf_kind(like)
    if kind in NUMBERS:
        return array.item()
    if kind in ("numpy", "numpy scalar"):
        return array if kind == "numpy" else array[()]
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise checks.InvalidValue(
            f"expected jax_enable_x64 to be set, for {checks.describe(array)} at {name!r}. "
            "Received: 32-bit JAX"
        )
    leaf = jnp.array(array)
    if kind == "key":
        leaf = jax.random.wrap_key_data(leaf, impl=spec["implementation"])
    # An array that is not committed to its device must not commit the loaded one.
    is_committed = getattr(like, "committed", True)
    return jax.device_put(leaf, getattr(like, "sharding", None) if is_committed else None)
