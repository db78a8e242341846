"""Make the table of fruit that `sort_fruit.py` learns from, the same bytes every time.

    python examples/make_fruit.py [table.csv]

The 600 pieces of fruit are invented. The mean weights are those of raw fruit in USDA FoodData
Central (SR Legacy): a medium apple (NDB number 09003), the edible part of a medium banana (09040)
and the edible part of an orange of 2-5/8 inches (09200). The spreads and the chances are
assumptions. They include what makes sorting hard, such as green bananas and smooth oranges. The
size is judged by eye, compared with the mean of the kind. So the kinds overlap: a sorter who knows
all these numbers still mistakes 1 fruit in 25.
"""

import csv
import random
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("fruit.csv")
COLOURS, TEXTURES = ["red", "yellow", "orange", "green"], ["smooth", "rough"]
KINDS = {  # mean and standard deviation of the weight in grams, chance of each colour and texture
    "apple": (182, 35, [0.55, 0.15, 0.05, 0.25], [0.95, 0.05]),
    "banana": (118, 22, [0.02, 0.73, 0, 0.25], [0.90, 0.10]),
    "orange": (131, 25, [0, 0.08, 0.80, 0.12], [0.15, 0.85]),
}


def draw(chance: random.Random, name: str) -> list[str]:
    """Draw one row of the table."""
    mean, spread, colours, textures = KINDS[name]
    weight = max(1, round(chance.gauss(mean, spread)))
    judged = weight / mean + chance.gauss(0, 0.05)
    size = "small" if judged < 0.9 else "large" if judged > 1.1 else "medium"
    (colour,), (texture,) = chance.choices(COLOURS, colours), chance.choices(TEXTURES, textures)
    return [str(weight), colour, texture, size, name]


def main(path: str | Path = TABLE) -> None:
    chance = random.Random(0)
    rows = [draw(chance, name) for name in KINDS for _ in range(200)]
    chance.shuffle(rows)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["weight", "colour", "texture", "size", "fruit"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:2])
