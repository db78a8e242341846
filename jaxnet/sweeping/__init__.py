"""Sweeps: many runs of one function over a grid of hyperparameters, compiled once.

- `grid`: the grid, from names and values, checked
- `run`: `Run`, the function that a user writes, and its traced program
- `chunks`: many runs side by side in one compiled program, and how many
- `results`: `Sweep` and `SweepRun`, what a sweep returns
- `sweep`: `sweep`, the loop over the chunks
"""
