"""What a network computes.

- `network`: a network is a pair of pure functions
- `precision`: half precision computed in float32, and compensated arithmetic
- `normal_cdf`: the Gaussian CDF with accurate tails, for gelu
- `activations`: the nonlinearities between layers
- `initializers`: initial weights
- `layers`: `dense`, `dropout`, `layer_norm`
- `combinators`: `serial`, `residual`, `mlp`
- `embeddings`: `piecewise_linear`, `periodic`: numeric features as several numbers each
- `softmax`: logits to probabilities
- `losses`: the loss of each example
- `ensembles`: `batch_ensemble`, and the loss of its members
- `metrics`: accuracy, the confusion matrix and others
"""
