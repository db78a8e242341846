"""What a network computes.

- `network`: a network is a pair of pure functions
- `precision`: half precision computed in float32, and compensated arithmetic
- `normal_cdf`: the Gaussian CDF with accurate tails, for gelu
- `activations`: the nonlinearities between layers
- `initializers`: initial weights
- `layers`: `dense`, `dropout`, `layer_norm`
- `combinators`: `serial`, `residual`, `mlp`
- `softmax`: logits to probabilities
- `losses`: the loss of each example
- `metrics`: accuracy, the confusion matrix and others
"""
