"""Tests of optimizers: do they follow optax's protocol, and do they apply the expected rule?

- `problems`: sources of gradients
- `candidates`: the forms in which users pass an optimizer
- `ulps`: distances in units in the last place
- `lockstep`: the updates of two optimizers from the same gradients, in float32 and in float64
- `rounding`: how far hyperparameters in float32 may move the updates
- `difference`: the first difference of two optimizers
- `fits`: formulas found by least squares
- `moments`: how the moments of two optimizers are computed
- `formulas`: how their updates are computed from equal moments
- `hints`: what common mistakes look like in the updates
- `comparison`: `compare_optimizers`
- `subject`: the optimizer under test, and what its requirements share
- `update_requirements`, `state_requirements`: optax's protocol as executable requirements
- `conformance`: `check_optimizer`
- `torch_step`: a step of a PyTorch optimizer, which runs on the host
- `foreign`: the optimizers of other libraries as pure functions
- `adapters`: `from_step`, `from_triple`, `from_keras`, `from_torch`, `replay`
"""
