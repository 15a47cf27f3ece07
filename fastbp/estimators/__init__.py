"""The scikit-learn face: `MLPClassifier` and `MLPRegressor`."""

from fastbp.estimators.classifier import MLPClassifier
from fastbp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
