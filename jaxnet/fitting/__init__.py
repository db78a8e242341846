"""The host's side of a run: what happens between two calls of the compiled program.

- `run_data`: the arrays that a run reads, padded
- `program`: the compiled program, which advances a run by any number of epochs
- `trainer`: a plan and its data, checked, and the calls of the program
- `stream_program`, `stream_trainer`: the same for a run on a stream, which advances block by block
- `stream_start`: the first rows of a stream, with which such a run is checked
- `run_identity`: what decides the numbers of a run, kept with a checkpoint and compared on resuming
- `lock`: one process per directory
- `run_directory`: the checkpoints of a run
- `processes`: a run in several processes: what they agree on, and who writes
- `fit`: progress, early stopping, interrupts and checkpoints
"""
