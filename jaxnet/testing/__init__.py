"""Whether an optimizer is the one it claims to be.

Read `problems`, `lockstep`, `hints` and `comparison`, then `requirements` and `conformance`.
"""
