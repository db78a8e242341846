"""Text tables for reports."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligns rows of cells: the first column to the left, the others to the right.

    >>> print(table([["layer", "units"], ["0 dense", "16"]]))
    layer    units
    0 dense     16
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)
