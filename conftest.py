"""What every test and doctest runs under, which is stricter than what users do."""

import os
import pathlib
import signal
import tempfile

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype


def typechecked(function):
    """Checks annotations at run time; an integer will do where a float is asked for (PEP 484)."""
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


# These modules annotate no arrays. They look into functions, or are called very often.
UNCHECKED = {"__init__", "checks", "compilation", "dtypes", "outlines", "programs", "settled"}
UNCHECKED |= {"tracing", "trees"}
ROOT = pathlib.Path(__file__).parent
FILES = [file for file in ROOT.glob("jaxnet/**/*.py") if file.stem not in UNCHECKED]
MODULES = sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES)
jaxtyping.install_import_hook(MODULES, "conftest.typechecked")

# It is ignored in what a script runs in the background, and by the processes that this starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=SLOW)
hypothesis.settings.load_profile("untimed")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# Tests build the same functions again and again, in both processes of pytest-xdist. They share a
# cache, which the first process makes. JAX does not write to it atomically, but reads half an entry
# as damaged, since it is compressed with a checksum; then it warns and compiles.
if "JAXNET_TEST_PROGRAMS" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="jaxnet-")
    os.environ["JAXNET_TEST_PROGRAMS"] = CACHE.name
jax.config.update("jax_compilation_cache_dir", os.environ["JAXNET_TEST_PROGRAMS"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True)
def four_digits():
    """Arrays in doctests print four digits, which are the same on every processor."""
    with np.printoptions(precision=4, suppress=True):
        yield
