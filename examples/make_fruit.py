"""Makes the table of fruit that `sort_fruit.py` learns from, the same bytes every time.

    python examples/make_fruit.py [table.csv]

600 pieces of fruit, 200 of each kind, invented from these assumptions:

- Average weights are those of raw fruit in USDA FoodData Central (SR Legacy): a medium apple 182 g
  (NDB number 09003), a medium banana 118 g (09040), an orange of 2-5/8 inches 131 g (09200). Of
  bananas and oranges the database weighs the edible part. Weights are normally distributed around
  these; the spreads are ours.
- How often each colour and texture occurs is ours too. It includes what makes sorting hard: green
  bananas and oranges, yellow and orange apples, smooth oranges.
- Size is judged by eye, relative to the average of its kind, and not exactly.

So the kinds overlap: who knows all these numbers still takes 1 fruit in 25 for another.
"""

import csv
import random
import sys
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("fruit.csv")


class Kind(NamedTuple):
    """A kind of fruit: the mean and spread of its weight in grams, and the chance of each look."""

    weight: float
    spread: float
    colours: dict[str, float]
    textures: dict[str, float]


KINDS = {
    "apple": Kind(
        weight=182,
        spread=35,
        colours={"red": 0.55, "yellow": 0.15, "orange": 0.05, "green": 0.25},
        textures={"smooth": 0.95, "rough": 0.05},
    ),
    "banana": Kind(
        weight=118,
        spread=22,
        colours={"red": 0.02, "yellow": 0.73, "green": 0.25},
        textures={"smooth": 0.90, "rough": 0.10},
    ),
    "orange": Kind(
        weight=131,
        spread=25,
        colours={"yellow": 0.08, "orange": 0.80, "green": 0.12},
        textures={"smooth": 0.15, "rough": 0.85},
    ),
}


def draw(chance: random.Random, name: str) -> list[str]:
    """One row of the table."""
    kind = KINDS[name]
    weight = max(1, round(chance.gauss(kind.weight, kind.spread)))
    judged = weight / kind.weight + chance.gauss(0, 0.05)
    size = "small" if judged < 0.9 else "large" if judged > 1.1 else "medium"
    colour, texture = (
        chance.choices(list(looks), list(looks.values()))[0]
        for looks in (kind.colours, kind.textures)
    )
    return [str(weight), colour, texture, size, name]


def main() -> None:
    chance = random.Random(0)
    rows = [draw(chance, name) for name in KINDS for _ in range(200)]
    chance.shuffle(rows)
    table = sys.argv[1] if len(sys.argv) > 1 else TABLE
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["weight", "colour", "texture", "size", "fruit"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
