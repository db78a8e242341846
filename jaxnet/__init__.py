"""Dense neural networks in JAX: pure functions, tested to the last bit."""

__version__ = "0.1.0"

from jaxnet.nn.network import (
    Network as Network,
)
from jaxnet.nn.layers import (
    DenseParameters as DenseParameters,
    LayerNormParameters as LayerNormParameters,
    dense as dense,
    dropout as dropout,
    layer_norm as layer_norm,
)
from jaxnet.nn.combinators import (
    mlp as mlp,
    residual as residual,
    serial as serial,
)
from jaxnet.nn.embeddings import (
    PeriodicParameters as PeriodicParameters,
    periodic as periodic,
    piecewise_linear as piecewise_linear,
)
from jaxnet.nn.ensembles import (
    BatchEnsembleParameters as BatchEnsembleParameters,
    batch_ensemble as batch_ensemble,
    member_mean as member_mean,
)
from jaxnet.nn.activations import (
    binary_step as binary_step,
    elu as elu,
    gelu as gelu,
    identity as identity,
    leaky_relu as leaky_relu,
    relu as relu,
    selu as selu,
    sigmoid as sigmoid,
    silu as silu,
    softplus as softplus,
    straight_through as straight_through,
    tanh as tanh,
)
from jaxnet.nn.softmax import (
    log_softmax as log_softmax,
    softmax as softmax,
)
from jaxnet.nn.losses import (
    absolute_error as absolute_error,
    binary_cross_entropy as binary_cross_entropy,
    cross_entropy as cross_entropy,
    huber as huber,
    mean_absolute_error as mean_absolute_error,
    mean_squared_error as mean_squared_error,
    sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy,
    softmax_cross_entropy as softmax_cross_entropy,
    squared_error as squared_error,
    weighted_mean as weighted_mean,
)
from jaxnet.nn.metrics import (
    ClassScores as ClassScores,
    accuracy as accuracy,
    binary_accuracy as binary_accuracy,
    class_scores as class_scores,
    confusion_matrix as confusion_matrix,
    r_squared as r_squared,
    top_k_accuracy as top_k_accuracy,
)
from jaxnet.optimizers.descent import (
    GradientDescentState as GradientDescentState,
    SgdState as SgdState,
    gradient_descent as gradient_descent,
    sgd as sgd,
)
from jaxnet.optimizers.adam import (
    AdamState as AdamState,
    adam as adam,
    adamw as adamw,
    nadam as nadam,
)
from jaxnet.optimizers.amsgrad import (
    AmsgradState as AmsgradState,
    amsgrad as amsgrad,
)
from jaxnet.optimizers.rmsprop import (
    RmspropState as RmspropState,
    rmsprop as rmsprop,
)
from jaxnet.optimizers.adagrad import (
    AdagradState as AdagradState,
    adagrad as adagrad,
)
from jaxnet.optimizers.lion import (
    LionState as LionState,
    lion as lion,
)
from jaxnet.training.data import (
    Data as Data,
)
from jaxnet.training.evaluation import (
    evaluate as evaluate,
    predict as predict,
)
from jaxnet.training.state import (
    BestSoFar as BestSoFar,
    EarlyStopping as EarlyStopping,
    Task as Task,
    TrainState as TrainState,
    initial_state as initial_state,
)
from jaxnet.training.step import (
    make_step as make_step,
)
from jaxnet.training.train import (
    train as train,
)
from jaxnet.debug.intermediates import (
    intermediates as intermediates,
)
from jaxnet.debug.summary import (
    LayerSummary as LayerSummary,
    Summary as Summary,
    summary as summary,
)
from jaxnet.debug.scaling import (
    Hardware as Hardware,
    SpeedupEstimate as SpeedupEstimate,
    estimate_speedup as estimate_speedup,
)
from jaxnet.debug.nonfinite import (
    NonFinite as NonFinite,
    find_nonfinite as find_nonfinite,
)
from jaxnet.debug.diagnosis import (
    Diagnosis as Diagnosis,
    LayerDiagnosis as LayerDiagnosis,
    diagnose as diagnose,
)
from jaxnet.io.file_format import (
    CorruptFileError as CorruptFileError,
)
from jaxnet.io.serialization import (
    load as load,
    load_metadata as load_metadata,
    save as save,
)
from jaxnet.debug.replay import (
    NonFiniteStep as NonFiniteStep,
)
from jaxnet.fitting.run_directory import (
    Checkpoints as Checkpoints,
    CheckpointWarning as CheckpointWarning,
)
from jaxnet.streaming.stream import (
    ReadError as ReadError,
    Stream as Stream,
)
from jaxnet.streaming.numpy_files import (
    numpy_stream as numpy_stream,
)
from jaxnet.streaming.parquet import (
    parquet_stream as parquet_stream,
)
from jaxnet.streaming.batch_stream import (
    BatchStream as BatchStream,
)
from jaxnet.fitting.fit import (
    FitResult as FitResult,
    NonFiniteError as NonFiniteError,
    fit as fit,
)
from jaxnet.core.compilation import (
    clear_caches as clear_caches,
)
from jaxnet.io.export import (
    export as export,
)
from jaxnet.io.pytorch import (
    from_pytorch as from_pytorch,
    to_pytorch as to_pytorch,
)
from jaxnet.sweeping.results import (
    SweepRun as SweepRun,
    Sweep as Sweep,
)
from jaxnet.sweeping.sweep import (
    sweep as sweep,
)
from jaxnet.halving.result import (
    Finalist as Finalist,
    Halving as Halving,
)
from jaxnet.halving.halve import (
    halve as halve,
)
from jaxnet.testing.comparison import (
    compare_optimizers as compare_optimizers,
)
from jaxnet.testing.conformance import (
    check_optimizer as check_optimizer,
)
