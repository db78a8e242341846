"""Dense neural networks in JAX: pure functions, tested to the last bit."""

from jaxnet.activations import *
from jaxnet.losses import *
from jaxnet.metrics import *
from jaxnet.networks import *
from jaxnet.optimizers import *
from jaxnet.training import *
