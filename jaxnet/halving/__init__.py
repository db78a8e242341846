"""Successive halving: many members start, and only the best ones go on.

- `members`: `Start` and `Advance`, the functions that a user writes, and their traced program
- `rungs`: the members that are advanced to a number of calls
- `result`: `Halving` and `Finalist`, what a halving returns
- `halve`: `halve`
"""
