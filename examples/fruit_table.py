"""Read a table of fruit and turn its words into numbers."""

from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

COLOURS = ["red", "yellow", "orange", "green"]
TEXTURES = ["smooth", "rough"]
SIZES = ["small", "medium", "large"]  # compared with other fruit of the same kind
FRUITS = ["apple", "banana", "orange"]
WORDS = {"colour": COLOURS, "texture": TEXTURES, "size": SIZES, "fruit": FRUITS}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read the columns weight (in grams), colour, texture, size and fruit of a CSV file.

    Capital letters, spaces, blank lines, other columns and the order of the columns do not matter.
    Anything else that is wrong raises a ValueError, which names the line and the column.
    """
    cells = pd.read_csv(path, header=None, dtype=str, na_filter=False, skip_blank_lines=False)
    cells = cells.map(lambda cell: cell.strip().lower())
    cells.index += 1  # the first line of the file is line 1

    header = list(cells.loc[1])
    for column in ("weight", *WORDS):
        if (count := header.count(column)) != 1:
            raise ValueError(f"line 1: expected one column {column}. Received: {count}")
    table = cells[1:].set_axis(header, axis=1)
    table = table[(table != "").any(axis=1)]

    weights = pd.to_numeric(table["weight"], errors="coerce")  # NaN for what is not a number
    check(table["weight"], weights.between(1, 10_000), "a number of grams from 1 to 10,000")
    for column, words in WORDS.items():
        check(table[column], table[column].isin(words), f"one of {', '.join(words)}")
    for fruit in FRUITS:
        if (count := (table["fruit"] == fruit).sum()) < 4:
            raise ValueError(f"expected at least 4 rows of {fruit}. Received: {count}")
    return table.assign(weight=weights)


def check(column: pd.Series, is_right: pd.Series, expected: str) -> None:
    """Raise an error about the first cell of a column that is not right."""
    if not is_right.all():
        line = is_right.idxmin()
        place = f"line {line}, column {column.name}"
        raise ValueError(f"{place}: expected {expected}. Received: {column[line]!r}")


def make_encoder() -> ColumnTransformer:
    """Make an encoder from tables to arrays of numbers. Its `fit` measures the usual weights.

    A colour or texture becomes one number for each word: 1 for its own and 0 for the others. A size
    becomes 0, 1 or 2, since sizes have an order.
    """
    return make_column_transformer(
        (StandardScaler(), ["weight"]),
        (OneHotEncoder(categories=[COLOURS, TEXTURES], sparse_output=False), ["colour", "texture"]),
        (OrdinalEncoder(categories=[SIZES]), ["size"]),
    )
