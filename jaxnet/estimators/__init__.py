"""Estimators for tables, in the conventions of scikit-learn. They need the extra `estimators`.

- `portable`: the encoding and the predictions in NumPy alone
- `piecewise`: the piecewise-linear encoding of numbers
- `columns`: the columns of a table, their checks, and the default preprocessor
- `models`: the default network and the losses
- `training`: held-out rows, early stopping and temperature
- `saving`: what is saved of an estimator
- `reading`: from a table to what a network takes
- `base`: arguments, training, outputs and saving of the two estimators
- `classifier`: `DenseClassifier`
- `regressor`: `DenseRegressor`
"""

from jaxnet.estimators.classifier import DenseClassifier as DenseClassifier
from jaxnet.estimators.piecewise import PiecewiseLinearEncoder as PiecewiseLinearEncoder
from jaxnet.estimators.portable import load as load
from jaxnet.estimators.regressor import DenseRegressor as DenseRegressor
