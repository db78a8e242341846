"""What a network computes, and what is wrong with it.

- `intermediates`: the values of every layer
- `summary`: parameters, bytes and floating-point operations
- `scaling`: the speed-up by several devices, estimated
- `step_values`: everything that a step computes
- `nonfinite`: the first NaN or infinity of a step
- `replay`: the step of an epoch in which it appeared
- `diagnosis`: dead units, vanishing gradients, oversized updates
"""
