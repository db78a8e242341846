"""One run as a pure function.

Read `data`, `evaluation`, `shuffle`, `updates` and `train`.
"""
