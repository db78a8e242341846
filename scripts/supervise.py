"""Starts a script in several processes on this machine, and restarts all of them if one dies.

    python scripts/supervise.py --processes 2 train.py --epochs 100

The script calls `jax.distributed.initialize` with the address and the numbers in its environment:

    jax.distributed.initialize(
        num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
        process_id=int(os.environ["JAX_PROCESS_ID"]),
    )

JAX reads the address, JAX_COORDINATOR_ADDRESS, itself. A run that `fit` saves resumes from its last
checkpoint, with the same bits. Ctrl-C and SIGTERM are passed on, and end the supervisor too.
"""

import argparse
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

SECONDS_TO_FAIL = 2  # after the first process has failed, for the messages of the others


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(command: Sequence[str], count: int) -> list[subprocess.Popen[bytes]]:
    """Starts a command once for each process, with another port each time."""
    address = f"127.0.0.1:{free_port()}"
    shared = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,  # by default the port is open to the network
        "JAX_NUM_PROCESSES": str(count),
    }
    return [
        subprocess.Popen(command, env={**os.environ, **shared, "JAX_PROCESS_ID": str(number)})
        for number in range(count)
    ]


def wait(processes: Sequence[subprocess.Popen[bytes]], received: Sequence[int]) -> int:
    """Waits for all processes; returns the status of the first that fails, or 0.

    If one fails, the others are killed after a while, unless all have been told to stop.
    """
    first, deadline = 0, math.inf
    while True:
        statuses = [process.poll() for process in processes]
        first = first or next((status for status in statuses if status), 0)
        if None not in statuses:
            return first
        if first and deadline == math.inf:
            deadline = time.monotonic() + SECONDS_TO_FAIL
        if time.monotonic() > deadline and not received:
            for process in processes:
                process.kill()
        time.sleep(0.1)


def supervise(command: Sequence[str], count: int, restarts: int) -> int:
    """Runs a command in several processes until they succeed; returns the status."""
    processes: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, lambda number, _: received.append(number))  # all receive Ctrl-C
    for left in reversed(range(restarts + 1)):
        processes[:] = start(command, count)
        status = wait(processes, received)
        if not status or received or not left:
            return 128 - status if status < 0 else status
        print(f"supervise: a process ended with {status}; restarting all", file=sys.stderr)
    raise AssertionError("the loop returns")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--restarts", type=int, default=10, help="how often to start again")
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, help="a Python script and its arguments"
    )
    options = parser.parse_args()
    if options.processes < 1 or options.restarts < 0 or not options.script:
        parser.error("expected at least one process, no negative restarts, and a script")
    return supervise([sys.executable, *options.script], options.processes, options.restarts)


if __name__ == "__main__":
    sys.exit(main())
