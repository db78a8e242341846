"""Show the arithmetic of a neural network, from a single neuron to one step of training.

    python examples/article.py

NumPy computes the gradients by the chain rule, one formula per line. `jax.grad` computes them again
from the same network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet

INPUT = np.array([[0.5, 0.8]])
TARGET = np.array([[1.0]])
LEARNING_RATE = 0.5
WEIGHTS_1 = np.array([[0.1, -0.4], [0.7, 0.3]])
BIASES_1 = np.array([0.2, -0.1])
WEIGHTS_2 = np.array([[0.6], [-0.5]])
BIASES_2 = np.array([0.3])


def show(name: str, formula: str, values: np.ndarray | jax.Array) -> None:
    numbers = " ".join(f"{value:9.6f}" for value in np.ravel(values))
    print(f"  {name:13}{formula:28}{numbers}")


def neuron() -> None:
    print("A neuron adds its inputs, each times its weight, and a bias: z = x1 w1 + x2 w2 + b.")
    x, w = jnp.array([0.5, 0.8]), jnp.array([2.0, 1.5])
    z = jnp.stack([x @ w + b for b in (0.3, -3.0)])
    print("Here x = (0.5, 0.8), w = (2, 1.5), and b = 0.3 on the left, b = -3 on the right.")
    show("z", "0.5 * 2 + 0.8 * 1.5 + b", z)
    print("Its activation is a function of z:")
    show("linear", "z", jaxnet.identity(z))
    show("ReLU", "max(z, 0)", jaxnet.relu(z))
    show("sigmoid", "1 / (1 + exp(-z))", jaxnet.sigmoid(z))
    show("binary step", "1 if z >= 0, else 0", jaxnet.binary_step(z))


def softmax() -> None:
    print("Softmax turns the raw outputs 34, 32 and 25 into probabilities. That of 32 is 0.12:")
    probabilities = jaxnet.softmax(jnp.array([34.0, 32.0, 25.0]))
    show("softmax", "exp(z) / sum of all exp(z)", probabilities)
    show("their sum", "", probabilities.sum())


def losses() -> None:
    print("A network sees an apple and says: apple 0.12, orange 0.88, banana 0.0001.")
    outputs, targets = jnp.array([[0.12, 0.88, 0.0001]]), jnp.array([[1.0, 0.0, 0.0]])
    terms = " + ".join(f"{(y - t) ** 2:.4g}" for y, t in zip(outputs[0], targets[0], strict=True))
    print(f"  squared error, sum of (output - target)^2: {terms} = ", end="")
    print(f"{jaxnet.squared_error(outputs, targets)[0]:.4f}")
    print("  mean absolute error, mean of |output - target|: ", end="")
    print(f"{jaxnet.mean_absolute_error(outputs, targets)[0]:.4f}")
    print("  cross-entropy, -log(output for the apple): ", end="")
    print(f"{jaxnet.cross_entropy(outputs, targets)[0]:.4f}")


def gradients_by_hand() -> list[np.ndarray]:
    """Compute the gradient of the cost for each weight and bias by the chain rule."""
    x, t, w1, b1, w2, b2 = INPUT, TARGET, WEIGHTS_1, BIASES_1, WEIGHTS_2, BIASES_2
    print("Forward pass through 2 hidden neurons and 1 output, all with a sigmoid s:")
    z1 = x @ w1 + b1
    show("z1", "x w1 + b1", z1)
    a1 = 1 / (1 + np.exp(-z1))
    show("a1", "s(z1)", a1)
    z2 = a1 @ w2 + b2
    show("z2", "a1 w2 + b2", z2)
    y = 1 / (1 + np.exp(-z2))
    show("y", "s(z2)", y)
    show("C", "(y - t)^2, with t = 1", (y - t) ** 2)

    print("Backward pass by the chain rule, with s'(z) = s(z) (1 - s(z)):")
    dy = 2 * (y - t)
    show("dC/dy", "2 (y - t)", dy)
    dz2 = dy * y * (1 - y)
    show("dC/dz2", "dC/dy y (1 - y)", dz2)
    dw2, db2 = a1.T @ dz2, dz2[0]
    show("dC/dw2", "a1 dC/dz2", dw2)
    show("dC/db2", "dC/dz2", db2)
    da1 = dz2 @ w2.T
    show("dC/da1", "dC/dz2 w2", da1)
    dz1 = da1 * a1 * (1 - a1)
    show("dC/dz1", "dC/da1 a1 (1 - a1)", dz1)
    dw1, db1 = x.T @ dz1, dz1[0]
    show("dC/dw1", "x dC/dz1", dw1)
    show("dC/db1", "dC/dz1", db1)
    return [dw1, db1, dw2, db2]


def backpropagation() -> None:
    gradients = gradients_by_hand()
    before = [WEIGHTS_1, BIASES_1, WEIGHTS_2, BIASES_2]
    after = [p - LEARNING_RATE * g for p, g in zip(before, gradients, strict=True)]

    network = jaxnet.mlp([2, 2, 1], activation=jaxnet.sigmoid, output_activation=jaxnet.sigmoid)
    w1, b1, w2, b2 = (jnp.asarray(p, jnp.float32) for p in before)
    parameters = (jaxnet.DenseParameters(w1, b1), jaxnet.DenseParameters(w2, b2))
    x, t = jnp.asarray(INPUT, jnp.float32), jnp.asarray(TARGET, jnp.float32)

    def cost(parameters: tuple[jaxnet.DenseParameters, ...]) -> jax.Array:
        return jaxnet.squared_error(network.apply(parameters, x), t).mean()

    jax_gradients = jax.grad(cost)(parameters)
    optimizer = jaxnet.gradient_descent(LEARNING_RATE)
    updates, _ = optimizer.update(jax_gradients, optimizer.init(parameters), parameters)
    stepped = optax.apply_updates(parameters, updates)

    print(f"Gradients, and parameters after a step of gradient descent, p - {LEARNING_RATE} dC/dp:")
    print("  p           before   dC/dp: by hand   jax.grad    after: by hand     jaxnet")
    names = [f"w1[{i},{j}]" for i in (0, 1) for j in (0, 1)]
    names += ["b1[0]", "b1[1]", "w2[0,0]", "w2[1,0]", "b2[0]"]
    columns = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (before, gradients, jax_gradients, after, stepped)
    ]
    for name, *values in zip(names, *columns, strict=True):
        old, by_hand, jax_grad, new, jaxnet_new = (f"{value:.6f}" for value in values)
        print(f"  {name:8}{old:>10}{by_hand:>17}{jax_grad:>11}{new:>18}{jaxnet_new:>11}")
    print(f"  The cost falls from {cost(parameters):.6f} to {cost(stepped):.6f}.")


def main() -> None:
    for part in (neuron, softmax, losses, backpropagation):
        part()
        print()


if __name__ == "__main__":
    main()
