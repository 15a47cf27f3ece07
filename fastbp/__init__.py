"""fastbp: backpropagation in C behind scikit-learn's estimators.

`MLPClassifier` and `MLPRegressor` take the place of scikit-learn's classes of these names;
`check_gradients` compares their gradients with finite differences, `diagnose` tells what is ill
about their weights. `Tensor` is an array whose computations are recorded and differentiated, `ops`
holds the functions of the engine's table. `nn` describes networks of any kind, `fit` trains the one
in hand, `NetworkClassifier` and `NetworkRegressor` put one behind scikit-learn's methods. `load`
reads what the estimators' `save` has written. Displays, such as `LossCurveDisplay`, draw them.
"""

from importlib.metadata import version

from fastbp import nn, ops
from fastbp.autodiff import no_grad
from fastbp.diagnosis import diagnose
from fastbp.displays import (
    ActivationDisplay,
    FitDisplay,
    GradientFlowDisplay,
    LossCurveDisplay,
)
from fastbp.errors import NonFiniteError
from fastbp.estimators import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from fastbp.estimators.saving import load
from fastbp.function import Function
from fastbp.gradcheck import check_gradients
from fastbp.nn.compiled import compile
from fastbp.recompute import checkpoint
from fastbp.tensor import Tensor
from fastbp.train.fit import fit
from fastbp.train.range_test import find_learning_rate
from fastbp.transforms import grad, hessian_vector_product, jvp, value_and_grad, vjp

__all__ = [
    "ActivationDisplay",
    "FitDisplay",
    "Function",
    "GradientFlowDisplay",
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "NetworkClassifier",
    "NetworkRegressor",
    "NonFiniteError",
    "Tensor",
    "check_gradients",
    "checkpoint",
    "compile",
    "diagnose",
    "find_learning_rate",
    "fit",
    "grad",
    "hessian_vector_product",
    "jvp",
    "load",
    "nn",
    "no_grad",
    "ops",
    "value_and_grad",
    "vjp",
]

__version__ = version("fastbp")
