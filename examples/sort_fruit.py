"""A farmer's fruit, sorted by a neural network into apples, bananas and oranges.

    python examples/sort_fruit.py [table.csv]

Trains a network with two hidden layers on three quarters of the table, by gradient descent, by
stochastic gradient descent (SGD) and by Adam, from the same initial weights, and tests it on the
rest. The table is `fruit.csv` beside this file, or one of your own with the same columns:

    weight    in grams
    colour    red, yellow, orange or green
    texture   smooth or rough
    size      small, medium or large, for its kind
    fruit     apple, banana or orange: what is to be learnt
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from fruit_table import COLOURS, FRUITS, SIZES, TEXTURES, Fruit, TableError, read_table
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import jaxnet

EPOCHS = 100
BATCH_SIZE = 32

OPTIMIZERS = {  # and the batch size: None is all examples at once
    "gradient descent": (jaxnet.gradient_descent(0.5), None),
    "SGD": (jaxnet.sgd(0.1), BATCH_SIZE),
    "Adam": (jaxnet.adam(0.001), BATCH_SIZE),
}

UNKNOWN = [(150, "red", "smooth", "medium"), (150, "green", "smooth", "medium")]


def make_encoder() -> ColumnTransformer:
    """From weight, colour, texture and size to numbers, which a network can take."""
    looks = OneHotEncoder(categories=[COLOURS, TEXTURES], sparse_output=False)
    return ColumnTransformer(
        [
            ("weight", StandardScaler(), [0]),
            ("colour and texture", looks, [1, 2]),
            ("size", OrdinalEncoder(categories=[SIZES]), [3]),
        ]
    )


def split(table: list[Fruit]) -> list[np.ndarray]:
    """Inputs to train on and to be tested on, and the same of the labels."""
    inputs = np.array([row[:4] for row in table], dtype=object)
    labels = np.array([FRUITS.index(row.fruit) for row in table])
    parts = train_test_split(inputs, labels, test_size=0.25, stratify=labels, random_state=0)
    return list(parts)


def train(
    network: jaxnet.Network,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    inputs: np.ndarray,
    labels: np.ndarray,
) -> jaxnet.FitResult:
    return jaxnet.fit(
        network,
        jaxnet.softmax_cross_entropy,
        optimizer,
        (inputs, labels),
        key=jax.random.key(0),  # the same key: the same initial weights
        epochs=EPOCHS,
        batch_size=batch_size and min(batch_size, len(labels)),
    )


def print_confusion(confusion: np.ndarray) -> None:
    print("                taken for\n        " + "".join(f"{name:>8}" for name in FRUITS))
    for name, row in zip(FRUITS, confusion, strict=True):
        print(f"{name:8}" + "".join(f"{count:8}" for count in row))


def print_scores(confusion: np.ndarray) -> None:
    scores = jaxnet.class_scores(confusion)
    print("        " + "".join(f"{name:>11}" for name in scores._fields))
    for name, *values in zip(FRUITS, *scores, strict=True):
        print(f"{name:8}" + "".join(f"{value:11.3f}" for value in values))


def sentence(fruit: tuple[object, ...], probabilities: np.ndarray) -> str:
    weight, colour, texture, size = fruit
    order = np.argsort(-probabilities)
    chances = ", ".join(f"{FRUITS[i]} {probabilities[i]:.1%}" for i in order)
    return f"A {texture} {colour} fruit of {weight} g, {size} for its kind: {chances}."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Sorts fruit with a neural network.")
    default = Path(__file__).with_name("fruit.csv")
    parser.add_argument("table", nargs="?", type=Path, default=default, help="a CSV file")
    try:
        table = read_table(parser.parse_args(arguments).table)
    except TableError as error:
        sys.exit(str(error))

    training, held_out, labels, held_out_labels = split(table)
    encoder = make_encoder().fit(training)
    inputs, held_out_inputs = encoder.transform(training), encoder.transform(held_out)
    network = jaxnet.mlp([inputs.shape[1], 16, 16, len(FRUITS)])
    print(f"{len(table)} pieces of fruit: {len(labels)} to learn from, {len(held_out)} held out.\n")

    print(f"{'':18}batch  steps  accuracy  seconds, with compiling")
    for name, (optimizer, batch_size) in OPTIMIZERS.items():
        start = time.perf_counter()
        run = train(network, optimizer, batch_size, inputs, labels)
        seconds = time.perf_counter() - start
        logits = jaxnet.predict(network, run.parameters, held_out_inputs)
        accuracy = jaxnet.accuracy(logits, held_out_labels).mean()
        batch = batch_size or "all"
        print(f"{name:18}{batch:>5}{run.state.step:7}{accuracy:10.3f}{seconds:9.2f}")

    print("\nThe held-out fruit, sorted by the network that Adam trained:\n")
    confusion = np.asarray(jaxnet.confusion_matrix(logits, held_out_labels))
    print_confusion(confusion)
    print()
    print_scores(confusion)
    print()
    unknown = encoder.transform(np.array(UNKNOWN, dtype=object))
    probabilities = jaxnet.softmax(jaxnet.predict(network, run.parameters, unknown))
    for fruit, row in zip(UNKNOWN, np.asarray(probabilities), strict=True):
        print(sentence(fruit, row))


if __name__ == "__main__":
    main()
