"""fastbp: backpropagation in C behind scikit-learn's estimators.

`MLPClassifier` and `MLPRegressor` take the place of scikit-learn's classes of these names;
`check_gradients` compares their gradients with finite differences.
"""

from importlib.metadata import version

from fastbp.errors import NonFiniteError
from fastbp.estimators import MLPClassifier, MLPRegressor
from fastbp.gradcheck import check_gradients

__all__ = ["MLPClassifier", "MLPRegressor", "NonFiniteError", "check_gradients"]

__version__ = version("fastbp")
