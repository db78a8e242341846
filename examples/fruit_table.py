"""Reads a table of fruit that somebody typed, and says in which row and column it is wrong."""

import csv
import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

COLOURS = ["red", "yellow", "orange", "green"]
TEXTURES = ["smooth", "rough"]
SIZES = ["small", "medium", "large"]
FRUITS = ["apple", "banana", "orange"]

CHOICES = {"colour": COLOURS, "texture": TEXTURES, "size": SIZES, "fruit": FRUITS}
COLUMNS = ["weight", *CHOICES]
FEWEST = 4  # of each kind, so that there are some to learn from and some to be tested on


class Fruit(NamedTuple):
    """A row of the table; the weight in grams."""

    weight: float
    colour: str
    texture: str
    size: str
    fruit: str


class TableError(ValueError):
    """A table that is not as expected: a message of one line."""


def read_table(path: Path) -> list[Fruit]:
    """The rows of a CSV file with the columns weight, colour, texture, size and fruit.

    Their order, capitals, spaces around a value, blank lines and further columns do not matter.

    Raises:
        TableError: anything else is wrong; the message names the file, the line and the column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(_numbered(path, file))
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TableError(f"{path}: expected a CSV file in UTF-8. Received: other bytes") from None
    if not lines:
        raise TableError(f"{path}: expected a header and rows. Received: an empty file")
    (place, header), *rows = lines
    _check_header(place, header)
    table = [_fruit(place, header, cells) for place, cells in rows]
    counts = Counter(row.fruit for row in table)
    for fruit in FRUITS:
        if counts[fruit] < FEWEST:
            raise TableError(
                f"{path}, column fruit: expected at least {FEWEST} rows of each kind, to learn "
                f"from and to be tested on. Received: {counts[fruit]} of {fruit}"
            )
    return table


def _numbered(path: Path, file: TextIO) -> Iterator[tuple[str, list[str]]]:
    """The records that are not blank, each with the place where it starts."""
    reader = csv.reader(file, strict=True)
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        try:
            cells = [cell.strip().lower() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(f"{place}: expected a row of a CSV file. Received: {error}") from None
        if any(cells):
            yield place, cells


def _check_header(place: str, header: list[str]) -> None:
    for column in COLUMNS:
        if header.count(column) != 1:
            raise TableError(
                f"{place}, column {column}: expected once in the header. "
                f"Received: {header.count(column)} times, in {reprlib.repr(header)}"
            )


def _fruit(place: str, header: list[str], cells: list[str]) -> Fruit:
    if len(cells) != len(header):
        last = header[min(len(cells), len(header) - 1)]
        raise TableError(
            f"{place}, column {last}: expected {len(header)} values in the row, as in the header. "
            f"Received: {len(cells)}"
        )
    row = dict(zip(header, cells, strict=True))
    for column, choices in CHOICES.items():
        if row[column] not in choices:
            raise TableError(
                f"{place}, column {column}: expected one of {', '.join(choices)}. "
                f"Received: {reprlib.repr(row[column])}"
            )
    return Fruit(_weight(place, row["weight"]), *(row[column] for column in CHOICES))


def _weight(place: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not 0 < weight < 100_000:
        raise TableError(
            f"{place}, column weight: expected a number of grams, above 0 and below 100,000. "
            f"Received: {reprlib.repr(text)}"
        )
    return weight
