import functools
import re

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxnet
from jaxnet.sweeping import chunks
from jaxnet.sweeping.grid import make_grid
from jaxnet.sweeping.run import trace_runs

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="chunks fit a CPU's caches")
NUMBERS = np.arange(1.0, 101.0, dtype=np.float32)


def make_chunk(run, runs, memory=None):
    grid = make_grid({"a": jnp.arange(float(runs))})
    return chunks.make_chunk(trace_runs(run, grid)[0], grid, memory)


def test_a_chunk_fits_the_memory(monkeypatch):
    """A run has 1,000 numbers, so 50,000 bytes hold at most twelve runs."""
    used = []
    original = chunks._find_program

    def note_memory(*call):
        program, memory = original(*call)
        used.append(memory)
        return program, memory

    monkeypatch.setattr(chunks, "_find_program", note_memory)

    def wide(a):
        return a * jnp.arange(1000.0)

    found = jaxnet.sweep(wide, {"a": NUMBERS}, memory=50_000)
    np.testing.assert_array_equal(
        found.results, NUMBERS[:, None] * np.arange(1000, dtype=np.float32)
    )
    assert used[0] > 50_000 >= used[-1]


def loop(a, size):
    """A loop of 3 iterations over `size` float32 numbers."""
    return jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) + a, jnp.zeros(size)).sum()


@on_cpu
@pytest.mark.parametrize(("size", "most"), [(2**10, 512), (2**14, 32), (2**17, 4), (2**22, 1)])
def test_the_largest_loop_outputs_of_a_chunk_fit_two_megabytes(size, most):
    """`most` runs fit the caches of a device; at least one run goes into a chunk."""
    chunk = make_chunk(lambda a: loop(a, size), 10_000)
    assert most / 2 < chunk.size / len(jax.devices()) <= most


@on_cpu
def test_arrays_outside_of_loops_do_not_make_chunks_smaller():
    data = jnp.arange(2.0**20)
    expected = make_chunk(lambda a: loop(a, 2**14), 10_000).size
    assert make_chunk(lambda a: loop(a, 2**14) + (data / 16).sum(), 10_000).size == expected


@on_cpu
def test_chunks_are_of_equal_size():
    """100 runs on two devices, at most 32 on each: two chunks of 50, not of 64 and 36."""
    assert make_chunk(lambda a: loop(a, 2**14), 100).size == 50
    assert make_chunk(lambda a: loop(a, 2**14), 3).size == 4


def test_a_run_is_compiled_once(monkeypatch):
    compiled = []
    original = chunks._compile
    monkeypatch.setattr(chunks, "_compile", lambda *call: compiled.append(1) or original(*call))
    found = jaxnet.sweep(lambda a: a + 1, {"a": np.arange(10_000.0)})
    again = jaxnet.sweep(lambda a: a + 1, {"a": np.arange(10_000.0) + 1})
    assert len(compiled) == 1
    np.testing.assert_array_equal(again.results, found.results + 1)
    np.testing.assert_array_equal(found.results, np.arange(1, 10_001))


@pytest.mark.parametrize("wrapped", [lambda run: run, jax.jit, lambda run: jax.jit(jax.jit(run))])
def test_captured_arrays_are_arguments_of_the_program(wrapped):
    data = jnp.arange(1e6, dtype=jnp.float32).reshape(1000, 1000)
    text = make_chunk(wrapped(lambda a: (data * a).sum()), 4).program.func.as_text()
    assert re.search(r"f32\[1000,1000\]\S* parameter", text)
    assert not re.search(r"f32\[1000,1000\]\S* constant", text)


def test_a_function_around_a_jitted_one_is_called_itself():
    jitted = jax.jit(lambda a: a + 1)

    @functools.wraps(jitted)
    def doubled(a):
        return 2 * jitted(a)

    np.testing.assert_array_equal(jaxnet.sweep(doubled, {"a": [1.0, 2.0]}).results, [4, 6])


def test_results_may_be_keys_and_constants():
    keys, numbers = jax.random.split(jax.random.key(7), 3), np.arange(5)

    def run(a):
        return {"key": keys[1], "numbers": numbers, "sum": a + numbers.sum(), "number": 2.5}

    found = jaxnet.sweep(run, {"a": [1, 2]})
    np.testing.assert_array_equal(found.results["key"], [jax.random.key_data(keys[1])] * 2)
    np.testing.assert_array_equal(found.results["numbers"], [numbers] * 2)
    np.testing.assert_array_equal(found.results["sum"], [11, 12])
    np.testing.assert_array_equal(found.results["number"], [2.5] * 2)


def test_a_chunk_can_be_lowered_for_cuda():
    """With its loop and its devices, as there is no GPU to run it."""
    grid = make_grid({"a": jnp.arange(8.0)})
    traced = trace_runs(lambda a: loop(a, 16), grid)[0]
    mesh = Mesh(np.array(jax.devices()[:1]), ("runs",))
    program = chunks._trace(traced, mesh, 8, traced.constants)
    text = program.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.while" in text and "tensor<8x16xf32>" in text


def test_results_are_copied_while_the_next_chunk_runs():
    """On two devices: a chunk has started before the one before it was copied."""
    script = """
import jax, numpy as np, jaxnet
from jaxnet.sweeping.chunks import Chunk
events, compute = [], Chunk.compute
def note(self, shared, own):
    events.append("start")
    result = compute(self, shared, own)
    events.append("copied")
    return result
Chunk.compute = note
found = jaxnet.sweep(lambda a: np.float32(3) * a, {"a": np.arange(64.0)}, memory=64)
most = max(events[:n].count("start") - events[:n].count("copied") for n in range(len(events)))
is_right = (found.results == 3 * np.arange(64)).all()
print(len(jax.devices()), most, events.count("start") >= 8, is_right)
"""
    flags = "--xla_force_host_platform_device_count=2"
    assert helpers.run_plainly(script, XLA_FLAGS=flags).split() == ["2", "2", "True", "True"]
