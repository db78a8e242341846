"""Train a network on all devices: each computes the gradient of its share of a batch.

    JAX_NUM_CPU_DEVICES=2 python examples/scaling/several_devices.py

Without a second device, JAX makes two of the CPU. They show that the result is the same, and are no
faster. The files are those of `make_data.py`.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnet

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
