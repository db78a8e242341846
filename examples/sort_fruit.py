"""Sort fruit into apples, bananas and oranges with a neural network: by an estimator, then by hand.

    python examples/sort_fruit.py [table.csv]

The table is fruit.csv in this folder, or your own with the columns that fruit_table.py reads.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from fruit_table import FRUITS, make_encoder, read_table
from sklearn.model_selection import train_test_split

import jaxnet
from jaxnet.estimators import DenseClassifier

FEATURES = ["weight", "colour", "texture", "size"]
TABLE = Path(__file__).with_name("fruit.csv")
EPOCHS = 100
OPTIMIZERS = {  # each with its batch size; None means all examples in one batch
    "gradient descent": (jaxnet.gradient_descent(0.5), None),
    "SGD": (jaxnet.sgd(0.1), 32),
    "Adam": (jaxnet.adam(0.001), 32),
}


def main(path: str | Path = TABLE) -> None:
    try:
        table = read_table(path)
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {getattr(error, 'strerror', error)}".strip())

    # Hold out a quarter of the fruit, to test the network on fruit that it has not seen.
    train, test = train_test_split(table, test_size=0.25, stratify=table["fruit"], random_state=0)
    print(f"{len(table)} pieces of fruit: {len(train)} to learn from, {len(test)} held out.\n")

    # An estimator takes the table as it is, and tells which fruit the others are.
    model = DenseClassifier(random_state=0).fit(train[FEATURES], train["fruit"])
    right = model.score(test[FEATURES], test["fruit"])
    print(f"The estimator recognizes {right:.1%} of the held-out fruit.\n\nThe same by hand:\n")

    # A network takes numbers, so encode the words.
    encoder = make_encoder().fit(train)
    inputs, test_inputs = encoder.transform(train), encoder.transform(test)
    labels, test_labels = (part["fruit"].map(FRUITS.index).to_numpy() for part in (train, test))

    # Train a network with two hidden layers of 16 neurons, once with each optimizer.
    network = jaxnet.mlp([inputs.shape[1], 16, 16, len(FRUITS)])
    print(f"{'':18}batch  steps  accuracy  seconds, with compiling")
    for name, (optimizer, batch_size) in OPTIMIZERS.items():
        start = time.perf_counter()
        run = jaxnet.fit(
            network,
            jaxnet.softmax_cross_entropy,
            optimizer,
            (inputs, labels),
            key=jax.random.key(0),  # the same initial weights for each optimizer
            epochs=EPOCHS,
            batch_size=batch_size,
        )
        seconds = time.perf_counter() - start
        outputs = jaxnet.predict(network, run.parameters, test_inputs)
        accuracy = jaxnet.accuracy(outputs, test_labels).mean()
        print(f"{name:18}{batch_size or 'all':>5}{run.state.step:7}{accuracy:10.3f}{seconds:9.2f}")

    # Count which fruit the last network takes for which.
    confusion = np.asarray(jaxnet.confusion_matrix(outputs, test_labels))
    scores = pd.DataFrame(jaxnet.class_scores(confusion)._asdict(), FRUITS)
    print("\nThe held-out fruit, sorted by the network that Adam trained:\n\n        taken for")
    print(f"{pd.DataFrame(confusion, FRUITS, FRUITS)}\n\n{scores.round(3)}\n")

    # Sort two fruits of unknown kind. Softmax makes probabilities of the outputs.
    new = pd.DataFrame(dict(weight=150, colour=["red", "green"], texture="smooth", size="medium"))
    outputs = jaxnet.predict(network, run.parameters, encoder.transform(new))
    for colour, chances in zip(new["colour"], np.asarray(jaxnet.softmax(outputs)), strict=True):
        ranked = ", ".join(f"{FRUITS[i]} {chances[i]:.1%}" for i in np.argsort(-chances))
        print(f"A smooth {colour} fruit of 150 g, medium for its kind: {ranked}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
