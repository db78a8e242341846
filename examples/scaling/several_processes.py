"""Train a network on the devices of several processes, on one machine or on several.

    python scripts/supervise.py --processes 2 examples/scaling/several_processes.py

`supervise.py` starts the processes on this machine. Under SLURM, `jax.distributed.initialize` finds
its arguments by itself. The files are those of `make_data.py`.
"""

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnet

jax.distributed.initialize(
    num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"])
)
mesh = Mesh(jax.devices(), ("batch",))
batch_sharding = NamedSharding(mesh, PartitionSpec("batch"))
data = np.load("inputs.npy"), np.load("labels.npy")
network = jaxnet.mlp([64, 128, 4])
run = jaxnet.fit(
    network,
    jaxnet.softmax_cross_entropy,
    jaxnet.adam(0.003),
    data,
    key=jax.random.key(0),
    epochs=10,
    batch_size=256,
    batch_sharding=batch_sharding,
)
metrics = {"accuracy": jaxnet.accuracy}
found = jaxnet.evaluate(network, run.parameters, data, metrics, batch_sharding=batch_sharding)
print(f"{mesh.size} devices: cost {run.history['cost'][-1]:.4f}, accuracy {found['accuracy']:.4f}")
