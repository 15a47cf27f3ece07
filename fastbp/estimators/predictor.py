"""A fitted model's `predict` as a small callable, for those who ask often and for few rows.

Holds a copy of the weights, packed once. Refuses to validate: an array of the right dtype and
width is taken as it is, NaN and all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.estimators.built import BuiltNetwork
from fastbp.nn.parameter import Array
from fastbp.train import threads

# More rows than these may be worth a second thread; asking how many are granted takes 1 us.
FEW_ROWS = 64


class Predictor:
    """A frozen snapshot of a fitted estimator's `predict`.

    Made by the estimator's `predictor()`; what happens to the estimator later does not concern it.
    It can be pickled, and called from many threads at once.

    Parameters
    ----------
    network : BuiltNetwork
        What runs.
    flat : ndarray of shape (n_params,)
        Its weights; they are copied.
    answer : callable
        Makes labels or values of the network's output.
    n_threads : int or None
        As the estimator's.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import MLPRegressor
    >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
    >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0).fit(X, y)
    >>> predict = model.predictor()
    >>> bool((predict(X) == model.predict(X)).all())
    True
    """

    def __init__(
        self,
        network: BuiltNetwork,
        flat: Array,
        answer: Callable[[Array], Any],
        n_threads: int | None,
    ) -> None:
        self._origin = network, flat.copy(), answer, n_threads
        self._predict = network.plan().freeze(flat).predict
        self._samples = network.samples
        self._answer = answer
        self._n_threads = n_threads

    def __call__(self, X: Array) -> Any:
        """What the estimator's `predict` says of X.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), of the dtype of the weights
            In any layout. Its values are not looked at: of NaN or infinity comes whatever comes.

        Returns
        -------
        y : ndarray
            As `predict` returns it, bit for bit.

        Raises
        ------
        TypeError
            X is no ndarray or has another dtype than the weights.
        ValueError
            X has not two dimensions, or another number of features than those of training.
        """
        few = np.shape(X)[:1] <= (FEW_ROWS,)
        n_threads = 1 if few else threads.resolve(self._n_threads)
        return self._answer(self._predict(self._samples(X), n_threads=n_threads))

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, self._origin
