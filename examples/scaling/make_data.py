"""Write the data of the programs in this folder: `inputs.npy` and `labels.npy`.

    python examples/scaling/make_data.py

A random network labels 8,192 random inputs, so that another one can learn it.
"""

import jax
import numpy as np

import jaxnet

inputs = np.random.default_rng(0).normal(size=(8192, 64)).astype(np.float32)
teacher = jaxnet.mlp([64, 8, 4])
scores = jaxnet.predict(teacher, teacher.init(jax.random.key(1)), inputs)
np.save("inputs.npy", inputs)
np.save("labels.npy", np.argmax(scores, axis=1))
