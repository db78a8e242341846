"""Sweeps: many runs of one function over a grid of hyperparameters, compiled once.

- `grid`: the grid, from names and values, checked
- `run`: `Run`, the function that a user writes, and its traced programs
- `chunks`: many runs side by side in one compiled program, and how many
- `storage`: where the results are kept, in memory or in a mapped file
- `schedule`: programs that are compiled ahead, and chunks that run at the same time
- `results`: `Sweep` and `SweepRun`, what a sweep returns
- `description`: what decides the results of a sweep, and how two sweeps differ
- `locks`: locks on runs, which die with their process
- `folder`: results on disk, which several processes complete together
- `sweep`: `sweep`
"""
