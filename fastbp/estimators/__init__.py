"""The scikit-learn face: multilayer perceptrons, and estimators of any network."""

from fastbp.estimators.classifier import MLPClassifier
from fastbp.estimators.networks import NetworkClassifier, NetworkRegressor
from fastbp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor"]
