"""Networks as pairs of pure functions, and what they are made of.

Read `network`, `activations`, `softmax`, `losses` and `metrics`; `precision` and `normal_cdf` keep
their digits.
"""
