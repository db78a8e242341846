"""One run as a pure function: what is computed on the device, in the order of its definition.

- `data`: examples, converted to JAX arrays and checked
- `objective`: a network, its loss and its metrics; their means over a batch
- `evaluation`: `evaluate` and `predict`, in bounded memory
- `keys`: how everything random is folded from one key
- `shuffle`: the random order of an epoch
- `batches`: how an epoch is cut into batches
- `state`: everything that changes from step to step
- `updates`: how an optimizer is called
- `step`: one step of gradient descent, `make_step`
- `run_check`: checks a run by tracing its first step
- `train`: steps within epochs, as one compiled program
"""
