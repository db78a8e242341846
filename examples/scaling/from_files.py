"""Train a network on data that need not fit into memory: rows are read when they are needed.

    python examples/scaling/from_files.py

The files are those of `make_data.py`.
"""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxnet

mesh = Mesh(jax.devices()[:1], ("batch",))
batch_sharding = NamedSharding(mesh, PartitionSpec("batch"))
data = jaxnet.numpy_stream("inputs.npy", "labels.npy")
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
