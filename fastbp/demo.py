"""What `make demo` shows: two networks trained beside scikit-learn's, one table and one picture.

The data are scikit-learn's bundled digits and a noisy parabola. Both libraries get the same samples,
the same hyper-parameters and one thread each; how they compare on other shapes, and on more threads,
is the business of the benchmarks.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import fastbp

Array = NDArray[np.float64]

DIGITS_EPOCHS = 100
CURVE_EPOCHS = 5000
# Finite differences evaluate the loss some five times for each element that they check.
CHECKED_SAMPLES = 30


@dataclass(frozen=True)
class Trained:
    """An estimator that has been fitted, and how that went.

    Attributes
    ----------
    library : str
        Whose it is.
    model : estimator
        The fitted estimator.
    seconds : float
        Time that `fit` took.
    score : float
        What the task is judged by.
    """

    library: str
    model: Any
    seconds: float
    score: float


@dataclass(frozen=True)
class Task:
    """One data set and what the two libraries made of it.

    Attributes
    ----------
    name, network, judged_by : str
        How the table calls the task, the network, and the score.
    theirs, ours : Trained
        scikit-learn's estimator and fastbp's.
    gradient_error : float
        The largest error that `check_gradients` found in fastbp's fitted model.
    """

    name: str
    network: str
    judged_by: str
    theirs: Trained
    ours: Trained
    gradient_error: float

    @property
    def speedup(self) -> float:
        """How many times as fast as scikit-learn's `fit` ours was."""
        return self.theirs.seconds / self.ours.seconds


def digits(epochs: int = DIGITS_EPOCHS) -> Task:
    """Handwritten digits of 8 x 8 pixels, by 100 hidden units and the estimators' own defaults.

    A quarter of the samples is held out; the score is the accuracy on them.

    Parameters
    ----------
    epochs : int, default=100
        Passes over the training samples, at least 1. The test accuracy has settled by 100.
    """
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.25, stratify=y, random_state=0
    )
    return _compare(
        Task.__name__ and "digits",
        "accuracy",
        fastbp.MLPClassifier,
        neural_network.MLPClassifier,
        {"hidden_layer_sizes": (100,), "max_iter": epochs},
        X_train,
        y_train,
        lambda model: float(model.score(X_test, y_test)),
    )
