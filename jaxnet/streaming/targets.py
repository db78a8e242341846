"""The check of targets: a loss refuses wrong labels when it is traced with their values."""

import math
from collections.abc import Callable

from jaxnet.core import checks
from jaxnet.streaming.reading import Block, Examples


class TargetCheck:
    """Checks the targets of blocks, if their range is not within that of earlier ones."""

    def __init__(self, check: Callable[[Examples], None], describe: Callable[[range], str]) -> None:
        """Sets what is called.

        Args:
            check: raises InvalidValue or InvalidType for wrong examples.
            describe: names rows in error messages.
        """
        self._check, self._describe = check, describe
        self._low, self._high = math.inf, -math.inf

    def __call__(self, block: Block) -> None:
        """Raises an error that names the rows of the first piece with wrong targets."""
        targets = block.examples.targets
        if not targets.size:
            return
        low, high = float(targets.min()), float(targets.max())
        if self._low <= low and high <= self._high:
            return
        try:
            self._check(block.examples)
        except (checks.InvalidType, checks.InvalidValue):
            first = 0
            for piece in block.pieces:
                with checks.about(self._describe(piece)):
                    self._check(block.examples.take(first, len(piece)))
                first += len(piece)
            raise
        self._low, self._high = min(self._low, low), max(self._high, high)
