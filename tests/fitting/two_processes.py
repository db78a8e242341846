"""What two processes do together in `test_processes.py`, which starts this with a directory.

Each scenario writes one line of JSON into a file of the process. Process 1 wants to stop, fails, or
receives a signal.
"""

import hashlib
import json
import os
import signal
import sys
import time

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from processes_helpers import NETWORK, OPTIMIZER, divide, make_data, make_key

import jaxnet

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(
        num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
        process_id=int(os.environ["JAX_PROCESS_ID"]),
        initialization_timeout=120,
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=30,
    )

RANK = jax.process_index()
KEY = make_key()
FOLDER, *MODE = sys.argv[1:] or [""]
MESH = Mesh(np.array(jax.devices()), ("d",))
SHARDING = NamedSharding(MESH, PartitionSpec("d"))


def fit(name, *, optimizer=OPTIMIZER, data=None, **changes):
    arguments = {"key": KEY, "epochs": 8, "batch_size": 15, "batch_sharding": SHARDING}
    if changes.pop("is_saved", False):
        arguments["checkpoints"] = os.path.join(FOLDER, name)
    data = make_data(65) if data is None else data
    loss = jaxnet.softmax_cross_entropy
    started = time.monotonic()
    try:
        result = jaxnet.fit(NETWORK, loss, optimizer, data, **arguments | changes)
    except BaseException as error:
        tell(name, error=f"{type(error).__name__}: {error}")
        return
    tell(
        name,
        stopped=result.stopped,
        epochs=len(result.history["cost"]),
        cost=result.history["cost"].tolist(),
        digest=digest(result),
        seconds=time.monotonic() - started,
    )
    return result


def digest(result):
    """Of what this process has of the last state, and of the history."""
    leaves = jax.tree.leaves((result.state, result.history))
    parts = [leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
    return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()


def tell(name, **values):
    with open(os.path.join(FOLDER, f"told-{RANK}"), "a") as file:
        file.write(json.dumps({"name": name, "rank": RANK} | values) + "\n")


def at_epoch(number, action):
    """An `on_epoch` of process 1 alone."""
    return (lambda epoch, *_: action() if epoch == number else None) if RANK else None


def fail():
    raise KeyError("of process 1")


def kill_once(epoch, *_):
    """The death of each process, once, after an epoch has been saved."""
    mark = os.path.join(FOLDER, f"killed-{RANK}")
    if epoch == (4, 2)[RANK] and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def make_stream(stops=False):
    """Three blocks of 24 rows or fewer; in one of them, process 1 receives SIGTERM once."""
    inputs, labels = make_data(65)

    def read(start, stop):
        mark = os.path.join(FOLDER, "stopped")
        if stops and RANK and start == 60 and not os.path.exists(mark):
            open(mark, "w").close()
            terminate()
        return inputs[start:stop], labels[start:stop]

    return jaxnet.Stream(65, read, piece=1, block_bytes=24 * 68)


def run_scenarios():
    fit("plain")
    fit("stream", data=make_stream())
    fit("stream-term", data=make_stream(True), is_saved=True)
    fit("stream-term", data=make_stream(True), is_saved=True)
    fit("stop", on_epoch=at_epoch(3, lambda: True), is_saved=True)
    fit("error", on_epoch=at_epoch(3, fail), is_saved=True)
    fit("term", on_epoch=at_epoch(3, terminate), is_saved=True)
    fit("term", is_saved=True)
    fit("data", data=make_data(65 if RANK else 64))
    fit("key", key=jax.random.key(RANK))
    fit("occupied", is_saved=True)
    fit("occupied", is_saved=True, optimizer=jaxnet.adam(0.02))
    state = divide(jaxnet.initial_state(NETWORK, OPTIMIZER, key=KEY), SHARDING)
    held_out = {"validation": make_data(33), "metrics": {"accuracy": jaxnet.accuracy}}
    fit("divided", state=state, is_saved=True, epochs=3, **held_out)
    fit("divided", state=state, is_saved=True, **held_out)
    fit("nan", optimizer=jaxnet.gradient_descent(1e30), state=None)
    rows = jax.make_array_from_process_local_data(SHARDING, np.asarray(make_data(64)[0])[::2])
    fit("rows", data=(rows, make_data(64)[1]))
    parameters = NETWORK.init(KEY)
    inputs, labels = make_data(65)
    options = {"batch_size": 16, "batch_sharding": SHARDING}
    metrics = {"cost": jaxnet.softmax_cross_entropy}
    cost = jaxnet.evaluate(NETWORK, parameters, (inputs, labels), metrics, **options)["cost"]
    outputs = jaxnet.predict(NETWORK, parameters, inputs, **options)
    tell("evaluate", cost=float(cost), outputs=np.asarray(outputs).tolist())


def main():
    if MODE == ["killed"]:
        every = jaxnet.Checkpoints(os.path.join(FOLDER, "killed"), every=1)
        fit("killed", checkpoints=every, on_epoch=kill_once)
    else:
        run_scenarios()


if __name__ == "__main__":
    main()
