"""The estimated speed-up: the formula in exact fractions, its break-evens, what is printed."""

import itertools
import math
import re
from fractions import Fraction
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxnet import Hardware, Network, estimate_speedup, mlp

TABLE = re.findall(
    r"^\| 1e.*$", (Path(__file__).parents[2] / "SCALING.md").read_text(), re.MULTILINE
)
INF = 1e300  # a bandwidth that costs nothing
SIZES, BATCHES, DEVICES = (10**4, 10**6, 10**8), (32, 1024, 65536), (2, 8, 64)


def network(parameters):
    """Its parameters would not fit into memory, where there are many."""
    return Network(lambda key: jnp.zeros(parameters), lambda parameters, inputs, key=None: inputs)


def exact(parameters, batch, devices):
    """The microseconds of a step, for H100 GPUs, eight of them on a host."""
    gradients, compute = 4 * parameters, Fraction(6 * parameters * batch, devices * 474 * 10**12)
    seconds = max(Fraction(40, 10**6), compute + Fraction(28 * parameters, 3 * 10**12))
    on_host, hosts = min(devices, 8), max(devices // 8, 1)
    if devices > 1:
        moved = Fraction(2 * (on_host - 1), on_host) * gradients
        seconds += Fraction(15, 10**6) + moved / (370 * 10**9)
    if hosts > 1:
        moved = Fraction(2 * (hosts - 1), hosts) * gradients
        seconds += Fraction(40, 10**6) + moved / (330 * 10**9)
    return float(10**6 * seconds)


@pytest.mark.parametrize("parameters", [*SIZES, 10**12])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("devices", [1, *DEVICES])
def test_formula(parameters, batch, devices):
    found = estimate_speedup(network(parameters), batch, devices)
    one, several = exact(parameters, batch, 1), exact(parameters, batch, devices)
    assert found[:3] == (parameters, batch, devices)
    assert 1e6 * found.seconds == pytest.approx(one, rel=1e-12)
    assert 1e6 * found.parallel_seconds == pytest.approx(several, rel=1e-12)
    assert found.speedup == pytest.approx(one / several, rel=1e-12)


@pytest.mark.parametrize("row", TABLE)
def test_table(row):
    parameters, batch, *microseconds, of_8, of_64 = (
        float(cell.replace(",", "")) for cell in row.strip("| ").split("|")
    )
    found = [estimate_speedup(network(int(parameters)), int(batch), n) for n in (1, 2, 8, 64)]
    assert microseconds == [round(1e6 * each.parallel_seconds) for each in found]
    assert [of_8, of_64] == [round(each.speedup, 1) for each in found[2:]]


def test_table_is_there():
    assert len(TABLE) == 10


@pytest.mark.parametrize("parameters", SIZES)
@pytest.mark.parametrize("devices", DEVICES)
def test_break_even_is_the_smallest_batch_for_which_several_devices_are_faster(parameters, devices):
    found = estimate_speedup(network(parameters), 1, devices)
    at = [
        estimate_speedup(network(parameters), found.break_even + more, devices) for more in (-1, 0)
    ]
    assert at[0].speedup <= 1 < at[1].speedup


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("parameters", SIZES)
def test_break_even_of_the_bandwidth_is_the_same_for_all_networks(parameters, devices):
    """Without latencies it is 4/3 flops / bandwidth."""
    hardware = Hardware(step_seconds=0, link_seconds=0)
    found = estimate_speedup(network(parameters), 1, devices, hardware)
    assert found.break_even == math.floor(Fraction(4 * 474 * 10**12, 3 * 370 * 10**9)) + 1 == 1709


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize(("step", "reduce"), [(0, 15e-6), (40e-6, 0), (40e-6, 15e-6)])
def test_break_even_of_the_latencies(step, reduce, devices):
    """Without transfers, examples times parameters matter, not one of them."""
    hardware = Hardware(474e12, INF, step, INF, reduce, network_bandwidth=INF)
    found = estimate_speedup(network(1000), 1, devices, hardware)
    least = max(devices / (devices - 1) * reduce, step + reduce) * 474e12 / 6
    assert found.break_even == pytest.approx(least / 1000, abs=1)


def test_speedup_grows_with_the_batch_and_is_at_most_the_number_of_devices():
    for parameters, devices in itertools.product(SIZES, DEVICES):
        batches = [4**k for k in range(12)]
        found = [estimate_speedup(network(parameters), b, devices).speedup for b in batches]
        assert found == sorted(found)
        assert found[0] < 1 and found[-1] < devices


def test_counts_the_parameters_of_dense_layers():
    found = estimate_speedup(mlp([784, 512, 512, 10]), 128, 8)
    assert found.parameters == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


@pytest.mark.parametrize(
    ("sizes", "batch", "devices", "words"),
    [
        ([64, 128, 64, 10], 64, 8, "many such runs with `sweep`"),  # W2, on paper slower
        ([1024, 2048, 2048, 1024], 8192, 8, "one such run is faster with `batch_sharding`"),
        ([1024, 2048, 2048, 1024], 8192, 1, "many such runs with `sweep`"),
    ],
)
def test_printed_form_says_what_to_do(sizes, batch, devices, words):
    found = estimate_speedup(mlp(sizes), batch, devices)
    *facts, advice = str(found).splitlines()
    assert advice.endswith(words)
    assert f"{found.parameters:,} parameters" in facts[0]
    assert any("are faster from" in fact for fact in facts) == (devices > 1)
