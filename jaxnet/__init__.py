"""Dense neural networks in JAX: pure functions, tested to the last bit."""

__version__ = "0.1.0"

from jaxnet.nn.network import (
    DenseParameters,
    LayerNormParameters,
    Network,
    dense,
    dropout,
    layer_norm,
    mlp,
    residual,
    serial,
)
from jaxnet.nn.activations import (
    binary_step,
    elu,
    gelu,
    identity,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    straight_through,
    tanh,
)
from jaxnet.nn.softmax import (
    log_softmax,
    softmax,
)
from jaxnet.nn.losses import (
    absolute_error,
    binary_cross_entropy,
    cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    weighted_mean,
)
from jaxnet.nn.metrics import (
    ClassScores,
    accuracy,
    binary_accuracy,
    class_scores,
    confusion_matrix,
    r_squared,
    top_k_accuracy,
)
from jaxnet.optimizers import (
    AdamState,
    GradientDescentState,
    SgdState,
    adam,
    adamw,
    gradient_descent,
    sgd,
)
from jaxnet.training.data import (
    Data,
)
from jaxnet.training.evaluation import (
    evaluate,
    predict,
)
from jaxnet.training.train import (
    Best,
    Task,
    TrainState,
    initial_state,
    make_step,
    train,
)
from jaxnet.debug.intermediates import (
    LayerSummary,
    Summary,
    summary,
    trace,
)
from jaxnet.debug.nonfinite import (
    Origin,
    locate_non_finite,
)
from jaxnet.debug.diagnosis import (
    Diagnosis,
    LayerDiagnosis,
    diagnose,
)
from jaxnet.io.serialization import (
    DamagedFileError,
    load,
    load_metadata,
    save,
)
from jaxnet.debug.replay import (
    Failure,
)
from jaxnet.fitting.fit import (
    CheckpointWarning,
    Fit,
    NonFiniteCostError,
    fit,
)
from jaxnet.core.programs import (
    clear_caches,
)
from jaxnet.io.export import (
    export,
    from_state_dict,
    to_state_dict,
)
from jaxnet.sweeping.sweep import (
    Member,
    Sweep,
    sweep,
)
from jaxnet.testing.problems import (
    Problem,
    standard_problems,
)
from jaxnet.testing.comparison import (
    Comparison,
    Difference,
    ProblemComparison,
    compare_optimizers,
)
from jaxnet.testing.conformance import (
    Check,
    Report,
    check_optimizer,
)

__all__ = [
    "DenseParameters",
    "LayerNormParameters",
    "Network",
    "dense",
    "dropout",
    "layer_norm",
    "mlp",
    "residual",
    "serial",
    "binary_step",
    "elu",
    "gelu",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "straight_through",
    "tanh",
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "weighted_mean",
    "ClassScores",
    "accuracy",
    "binary_accuracy",
    "class_scores",
    "confusion_matrix",
    "r_squared",
    "top_k_accuracy",
    "AdamState",
    "GradientDescentState",
    "SgdState",
    "adam",
    "adamw",
    "gradient_descent",
    "sgd",
    "Best",
    "Task",
    "Data",
    "TrainState",
    "evaluate",
    "initial_state",
    "make_step",
    "predict",
    "train",
    "LayerSummary",
    "Summary",
    "summary",
    "trace",
    "Origin",
    "locate_non_finite",
    "Diagnosis",
    "LayerDiagnosis",
    "diagnose",
    "DamagedFileError",
    "load",
    "load_metadata",
    "save",
    "Failure",
    "CheckpointWarning",
    "Fit",
    "NonFiniteCostError",
    "fit",
    "clear_caches",
    "export",
    "from_state_dict",
    "to_state_dict",
    "Member",
    "Sweep",
    "sweep",
    "Problem",
    "standard_problems",
    "Comparison",
    "Difference",
    "ProblemComparison",
    "compare_optimizers",
    "Check",
    "Report",
    "check_optimizer",
]
