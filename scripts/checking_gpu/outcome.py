"""What a part has found."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """Text and tables in Markdown; `passed` is False if a check failed."""

    text: str
    passed: bool = True
