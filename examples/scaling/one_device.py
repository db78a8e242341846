"""Train a network on one device.

    python examples/scaling/make_data.py
    python examples/scaling/one_device.py

Each of the other programs in this folder differs from this one, or from `several_devices.py`, in
one statement.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnet

mesh = Mesh(jax.devices()[:1], ("batch",))
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
