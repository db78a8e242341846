"""What a network computes, and what is wrong with it.

Read `intermediates`, `nonfinite`, `replay` and `diagnosis`.
"""
