"""Workers: a process for each contender and workload, which answers the driver line by line.

A server imports the modules that some contenders share, and forks for each that it is asked to
play: imports are paid once, and yet every workload starts in a process with nothing compiled.
The child answers `run` with the seconds of one whole training, of which the first, the cold one,
also builds and compiles, and `close` with what is known at the end, all in JSON. Let go, it ends at
once.
"""

import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any, TextIO

import numpy as np

from benchmarking import peers
from benchmarking.contenders import REGISTRY, Run, Unsuited
from benchmarking.workloads import Task, cost, prepared, workloads

assert peers  # imported for the contenders that it enters


def serve(modules: list[str]) -> None:
    """Takes requests from the socket on standard input; each brings the one to answer on."""
    failure = _import(modules)
    requests = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, 4096, 1)
        if not request:
            return
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            driver = socket.socket(fileno=descriptors[0]).makefile("rw")
            try:
                _play(json.loads(request), failure, driver)
            finally:
                os._exit(0)
        os.close(descriptors[0])


def _import(modules: list[str]) -> str | None:
    """Why it failed, or nothing."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        return _reason(error)
    return None


def _play(request: dict[str, Any], failure: str | None, driver: TextIO) -> None:
    """In the child: one workload, up to `close` or the first failure, which is the last answer."""
    if failure:
        _answer(driver, {"failed": failure})
        return
    try:
        contender = REGISTRY[request["contender"]]
        os.environ.update(contender.environment)
        workload = {w.name: w for w in workloads(request["quick"])}[request["workload"]]
        task = prepared(workload)
        before = _peak_megabytes()
        _answer(driver, {"ready": True})
        run: Run | None = None
        weights = None
        while (asked := driver.readline().strip()) == "run":
            begin = time.perf_counter()
            run = run or contender.build(task)
            weights = run()
            _answer(driver, {"seconds": time.perf_counter() - begin})
        if asked == "close":
            growth = _peak_megabytes() - before
            _answer(driver, {"peak_megabytes": growth, "device": _device()} | _costs(task, weights))
    except Unsuited:
        _answer(driver, {"unsuited": True})
    except Exception as error:
        _answer(driver, {"failed": _reason(error)})


def _costs(task: Task, weights: Any) -> dict[str, float]:
    """Mean costs of all networks, from the weights they started with and those they ended with."""
    if weights is None:
        return {}
    pairs = {"start_cost": task.starts, "final_cost": weights}
    return {name: float(np.mean([cost(task, w) for w in many])) for name, many in pairs.items()}


def _peak_megabytes() -> float:
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _device() -> str:
    if jax := sys.modules.get("jax"):
        return jax.devices()[0].device_kind
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200]


def _answer(driver: TextIO, message: dict[str, Any]) -> None:
    driver.write(json.dumps(message) + "\n")
    driver.flush()
