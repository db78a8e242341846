"""The host's side of a run.

Read `trainer`, `run_identity`, `run_directory` and `fit`.
"""
