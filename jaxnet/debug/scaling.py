"""The speed-up by several devices that share each batch, estimated from sizes and bandwidths."""

import math
from typing import NamedTuple

import jax

from jaxnet.core import checks, tracing
from jaxnet.nn.network import Network, check_network


class Hardware(NamedTuple):
    """What decides the time of a step on several devices; the defaults are for NVIDIA H100 GPUs.

    Only the rate of one large matrix product was measured, with 7.9e14 operations per second in
    bfloat16. The other defaults are assumptions. Replace what you know better:
    `Hardware(flops=1e14)`.

    Attributes:
        flops: floating-point operations per second of a device in the matrix products of a step.
            The default is 0.6 of the measured rate.
        memory_bandwidth: bytes per second between a device and its memory.
        step_seconds: the shortest time of a step, which it takes to start its kernels.
        link_bandwidth: bytes per second of a device in an all-reduce within a host.
        link_seconds: the latency of such an all-reduce.
        devices_per_host: the number of devices that are linked in this way.
        network_bandwidth: bytes per second of a device in an all-reduce between hosts.
        network_seconds: the latency of such an all-reduce.
    """

    flops: float = 4.74e14
    memory_bandwidth: float = 3.0e12
    step_seconds: float = 40e-6
    link_bandwidth: float = 3.7e11
    link_seconds: float = 15e-6
    devices_per_host: int = 8
    network_bandwidth: float = 3.3e11
    network_seconds: float = 40e-6


class SpeedupEstimate(NamedTuple):
    """The time of a step on one device and on several; `print` it.

    Attributes:
        parameters: the number of parameters of the network.
        batch_size: the number of examples in a batch, on all devices together.
        devices: the number of devices.
        seconds: the time of a step on one device.
        parallel_seconds: the time of a step on all devices.
        speedup: how many times as fast all devices are as one.
        break_even: the smallest batch for which all devices are faster than one; None if `devices`
            is 1.
    """

    parameters: int
    batch_size: int
    devices: int
    seconds: float
    parallel_seconds: float
    speedup: float
    break_even: int | None

    def __str__(self) -> str:
        one, several = (f"{1e6 * t:,.0f} us" for t in (self.seconds, self.parallel_seconds))
        lines = [
            f"{self.parameters:,} parameters, {self.batch_size:,} examples in a batch",
            f"1 device: {one} a step; {self.devices} devices: {several}, {self.speedup:.2g} x",
        ]
        if self.break_even is not None:
            lines.append(f"several devices are faster from {self.break_even:,} examples on")
        if self.speedup > 1:
            lines.append("one such run is faster with `batch_sharding`")
        else:
            lines.append("train it on one device, and many such runs with `sweep`")
        return "\n".join(lines)


@checks.door
def estimate_speedup(
    network: Network, batch_size: int, devices: int, hardware: Hardware | None = None
) -> SpeedupEstimate:
    """Estimates whether several devices that share each batch train a network faster than one.

    A step with P parameters, a batch of B examples and n devices takes

        t(n) = max(step_seconds, 6 P B / (n flops) + 28 P / memory_bandwidth) + all_reduce(n)
        all_reduce(n) = link_seconds + 2 (n - 1) / n * 4 P / link_bandwidth

    The matrix products take 6 operations per parameter and example. Adam in float32 reads and
    writes 28 bytes per parameter: the parameter and both moments twice, and the gradient once. The
    all-reduce adds up the gradients, 4 bytes per parameter. On several hosts, n in `all_reduce` is
    the number of devices of a host, and an all-reduce between the hosts is added, in which n is the
    number of hosts. Nothing is computed or compiled.

    There are two break-evens on a host. Where data transfer dominates, the batch must exceed
    `4/3 flops / link_bandwidth` examples, whatever P and n are: 1,708 by default. Where latency
    dominates, P B must exceed `n / (n - 1) * link_seconds * flops / 6`, about 1.2e9, and
    `step_seconds * flops / 6`, 3.2e9, for one device to be busy at all. So one large run needs
    `batch_sharding`, and many small runs belong in `sweep`, where devices do not communicate.

    Args:
        network: any `Network` in which each parameter is used once per example, as in an `mlp`.
        batch_size: the number of examples in a batch, on all devices together.
        devices: the number of devices. Beyond a host, whole hosts.
        hardware: the device and the links; by default H100 GPUs, see `Hardware`.

    The estimate assumes that computation and communication do not overlap. It ignores the
    optimizer's other state, dropout and activations. Measure a step before you rent a cluster.

    Raises:
        ValueError: a number is out of its range, or `devices` is not a number of whole hosts.

    >>> from jaxnet import mlp
    >>> print(estimate_speedup(mlp([784, 512, 512, 10]), 128, 8))
    669,706 parameters, 128 examples in a batch
    1 device: 40 us a step; 8 devices: 68 us, 0.59 x
    several devices are faster from 7,246 examples on
    train it on one device, and many such runs with `sweep`
    """
    check_network(network)
    batch_size = checks.integer("batch_size", batch_size, 1)
    devices = checks.integer("devices", devices, 1)
    hardware = Hardware() if hardware is None else hardware
    _check_hardware(hardware, devices)
    shapes = tracing.shapes(lambda: network.init(jax.random.key(0)))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    if not parameters:
        raise checks.InvalidValue(f"expected a network with parameters. Received: {network.name}")

    update = 28 * parameters / hardware.memory_bandwidth
    per_example = 6 * parameters / hardware.flops
    reduce = _all_reduce(4 * parameters, devices, hardware)
    seconds = max(hardware.step_seconds, per_example * batch_size + update)
    parallel = max(hardware.step_seconds, per_example * batch_size / devices + update) + reduce
    break_even = None
    if devices > 1:
        # Several devices are faster by the smaller of two times: what one device needs beyond the
        # shortest step, and the products that it is spared. The all-reduce is subtracted from both.
        idle, busy = hardware.step_seconds - update + reduce, reduce * devices / (devices - 1)
        break_even = math.floor(max(idle, busy) / per_example) + 1
    return SpeedupEstimate(
        parameters, batch_size, devices, seconds, parallel, seconds / parallel, break_even
    )


def _check_hardware(hardware: Hardware, devices: int) -> None:
    checks.instance("hardware", hardware, Hardware)
    checks.integer("hardware.devices_per_host", hardware.devices_per_host, 1)
    for name, value in hardware._asdict().items():
        if name.endswith("_seconds"):
            checks.number(f"hardware.{name}", value, 0)
        elif name != "devices_per_host":
            checks.number(f"hardware.{name}", value, 1)
    if devices > hardware.devices_per_host and devices % hardware.devices_per_host:
        raise checks.InvalidValue(
            f"expected devices of at most {hardware.devices_per_host}, or a multiple of it, since "
            f"a host has so many. Received: {devices}"
        )


def _all_reduce(size: int, devices: int, hardware: Hardware) -> float:
    """The seconds to add up `size` bytes of gradients of every device."""
    within = min(devices, hardware.devices_per_host)
    links = [
        (within, hardware.link_bandwidth, hardware.link_seconds),
        (devices // within, hardware.network_bandwidth, hardware.network_seconds),
    ]
    return sum(s + 2 * (n - 1) / n * size / bandwidth for n, bandwidth, s in links if n > 1)
