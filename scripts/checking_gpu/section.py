"""The section of BENCHMARKS.md: what is measured, in tables, in the place of an earlier one."""

import pathlib
import re

from jaxnet.core.atomic import atomic_write

HEADING = "## On a GPU"


def replace_section(path: pathlib.Path, section: str) -> None:
    """Writes a section, which begins with its heading, in the place of the one that is there.

    A section ends before the next heading of its level or a line of three hyphens. If there is
    none, the new one is put before the first such line, or at the end. The file changes as a whole
    or not at all.
    """
    text = path.read_text() if path.exists() else ""
    ends = re.compile(r"^(?:## |---$)", re.MULTILINE)
    begin = re.search(rf"^{HEADING}$", text, re.MULTILINE)
    if begin:
        start, after = begin.start(), ends.search(text, begin.end())
    else:
        after = re.search(r"^---$", text, re.MULTILINE)
        start = after.start() if after else len(text)
    before, rest = text[:start].rstrip(), text[after.start() :] if after else ""
    parts = [part for part in (before, section.strip(), rest) if part]
    with atomic_write(path) as file:
        file.write(("\n\n".join(parts).rstrip() + "\n").encode())
