"""Read handwritten digits with a neural network.

    python examples/read_digits.py

The data set of scikit-learn has 1,797 pictures of 8 by 8 pixels. A quarter is held out for the
test. A fifth of the rest is for validation: training stops when the validation cost has not fallen
for 20 epochs, and returns the parameters with the lowest validation cost.
"""

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet

NETWORK = jaxnet.serial(
    jaxnet.dense(64, 256, jaxnet.relu),
    jaxnet.dropout(0.3),
    jaxnet.dense(256, 128, jaxnet.relu),
    jaxnet.dropout(0.3),
    jaxnet.dense(128, 10),
)
SHADES = " .:-=+*#%@"


def train(inputs: np.ndarray, labels: np.ndarray) -> jaxnet.FitResult:
    training, validation, labels, validation_labels = train_test_split(
        inputs, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return jaxnet.fit(
        NETWORK,
        jaxnet.softmax_cross_entropy,
        jaxnet.adam(0.002),
        (training, labels),
        key=jax.random.key(0),
        epochs=300,
        batch_size=64,
        validation=(validation, validation_labels),
        patience=20,
    )


def print_mistakes(confusion: np.ndarray) -> None:
    """Print the three most frequent mistakes."""
    mistakes = np.where(np.eye(10), 0, confusion)
    most = np.argsort(-mistakes, axis=None, stable=True)[:3]
    for digit, taken_for in zip(*np.unravel_index(most, mistakes.shape), strict=True):
        count, total = mistakes[digit, taken_for], confusion[digit].sum()
        print(f"  {digit} taken for {taken_for}: {count} of {total}")


def print_picture(pixels: np.ndarray) -> None:
    """Print 8 by 8 pixels, each between 0 and 1, as two characters each."""
    for row in pixels.reshape(8, 8):
        print("  " + "".join(2 * SHADES[int(9 * pixel)] for pixel in row))


def main() -> None:
    pixels, digits = load_digits(return_X_y=True)
    inputs, held_out, labels, held_out_labels = train_test_split(
        pixels / 16, digits, test_size=0.25, stratify=digits, random_state=0
    )
    run = train(inputs, labels)
    costs = run.history["validation_cost"]
    print(f"Trained for {len(costs)} epochs; the best was epoch {costs.argmin() + 1}.")

    logits = jaxnet.predict(NETWORK, run.parameters, held_out)
    accuracy = jaxnet.accuracy(logits, held_out_labels).mean()
    print(f"Read {accuracy:.1%} of {len(held_out)} held-out digits correctly.")
    print("The most frequent mistakes:")
    print_mistakes(np.asarray(jaxnet.confusion_matrix(logits, held_out_labels)))

    losses = jaxnet.softmax_cross_entropy(logits, held_out_labels)
    worst = int(losses.argmax())
    probabilities = jaxnet.softmax(logits[worst])
    read_as = int(probabilities.argmax())
    print(
        f"The worst mistake, a {held_out_labels[worst]} that the network reads as a {read_as}, "
        f"{probabilities[read_as]:.1%} sure:"
    )
    print_picture(held_out[worst])


if __name__ == "__main__":
    main()
