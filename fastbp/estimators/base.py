"""What all estimators share: the training call, prediction, and what threads may do meanwhile.

Knows neither labels nor losses nor what kind of network there is: those made from it supply them.
How a training call goes is told in `fitting`; arithmetic is the engine's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fastbp import _core
from fastbp.estimators import columns, fitting, preparation, versions
from fastbp.estimators.built import BuiltNetwork, Start
from fastbp.estimators.callbacks import Supporting, with_callbacks
from fastbp.estimators.holding import NOTHING, Given
from fastbp.estimators.linked import Linked
from fastbp.estimators.portable import Portable
from fastbp.estimators.predictor import Predictor
from fastbp.nn import locking
from fastbp.nn.describe import Description
from fastbp.nn.parameter import Array
from fastbp.train import threads
from fastbp.train.rates import Rates
from fastbp.train.rules import Rule
from fastbp.train.state import Settings, TrainingState


class BaseTrained(Portable, Linked, Supporting, BaseEstimator, ABC):
    """An estimator with a network in it; see `BaseMLP` and `BaseNetwork`."""

    # Parameters that all have.

    allow_nan: bool
    alpha: float
    batch_size: int | str
    categorical_features: Any
    early_stopping: bool
    history: str
    loss: str
    loss_params: dict[str, float] | None
    max_seconds: float | None
    n_iter_no_change: float
    n_threads: int | None
    random_state: int | np.random.RandomState | None
    scoring: Any
    shuffle: bool
    standardize: bool
    tol: float
    validation_cv: Any
    validation_fraction: float
    verbose: bool | int
    warm_start: bool
    dtype: Any

    # What training leaves, in all.

    best_loss_: float | None
    history_: dict[str, Array]
    loss_: float
    loss_curve_: list[float]
    n_features_in_: int
    n_iter_: int
    t_: int

    # What classifiers and regressors supply.

    _y_numeric: bool

    @abstractmethod
    def _loss_attributes(self) -> dict[str, float]:
        """Check `loss` and `loss_params`; give the attributes of the loss's row."""

    @abstractmethod
    def _targets(
        self,
        y: Any,
        dtype: np.dtype[Any],
        *,
        fresh: bool,
        complete: bool = True,
        classes: Any = None,
        weight: Array | None = None,
    ) -> preparation.Target:
        """Check and encode `y`: learn what is to be known of it if `fresh`, else go by what is
        known.

        With `complete`, every known class has to occur. `classes` names them beforehand.
        """

    @abstractmethod
    def _answer(self) -> Callable[[Array], Any]:
        """What makes the answer of `predict` from the network's output, free of this estimator."""

    # What kinds of networks supply.

    @abstractmethod
    def _check(self) -> None:
        """Refuse parameters that no single one's rule tells to be wrong."""

    @abstractmethod
    def _data(
        self,
        X: Any,
        y: Any,
        *,
        fresh: bool,
        dtype: np.dtype[Any] | None = None,
        weight: Any = None,
    ) -> tuple[Any, Any, np.dtype[Any]]:
        """Features and targets of training, checked, and the dtype of the weights: the one that is
        given, else that of the parameters or of the fitted model.
        """

    @abstractmethod
    def _features(self, X: Any) -> Any:
        """Features for the fitted network, checked."""

    @abstractmethod
    def _begin(self, X: Any, target: preparation.Target, dtype: np.dtype[Any], seed: int) -> Start:
        """A new network for the data, with starting weights."""

    @abstractmethod
    def _go_on(self, X: Any, target: preparation.Target) -> Start:
        """The fitted network, or an error where it does not fit the data."""

    @abstractmethod
    def _rule(self) -> Rule:
        """The update rule, and the penalty."""

    @abstractmethod
    def _rates(self) -> Rates:
        """The learning rates."""

    @abstractmethod
    def _limit(self) -> tuple[str, int]:
        """The parameter that bounds epochs, and its value."""

    @property
    @abstractmethod
    def _by_lbfgs(self) -> bool:
        """Whether L-BFGS takes the place of an update rule."""

    @property
    def _most_evaluations(self) -> int | None:
        """A limit for L-BFGS beside that of its iterations."""
        return None

    def _adapted(
        self, settings: Settings, network: BuiltNetwork, n_samples: int
    ) -> tuple[Settings, _core.Plan | None]:
        """The choices of a training call, with those that only this kind of network has.

        And a plan, if another is to train the network.
        """
        return settings, None

    # What training leaves; absent before.

    _network: BuiltNetwork
    _plans: dict[bool, _core.Plan]
    _training_state: TrainingState
    _columns: Any

    @with_callbacks  # type: ignore[untyped-decorator]  # scikit-learn's
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
    ) -> Self:
        """Train on all samples, anew unless `warm_start` is set and the model is fitted.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            The features: finite numbers. float32 and float64 arrays are not copied, CSC becomes
            CSR. Samples for networks other than multilayer perceptrons may have several axes, and
            come as a dict of arrays where there are several inputs, or, to be split by
            scikit-learn, as a structured array of which each field is an input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets: class labels or a 0/1 indicator matrix for a classifier, finite numbers for
            a regressor.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples: finite, not negative, not all zero. None weighs all the same.
        X_val, y_val : like `X` and `y`, default=None
            Samples to score each epoch by, on which it is not trained: `history_` has their loss
            and score, and `early_stopping` goes by these. In a `Pipeline`, `X_val` is transformed
            as `X` is with ``transform_input=["X_val"]``. Not for 'lbfgs'.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Their weights in both.
        groups : array-like of shape (n_samples,), default=None
            What `validation_cv` is to keep together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            A parameter or an array is not what it should be; the message names it.
        NonFiniteError
            A loss or weight became infinite or NaN. The estimator then holds the weights of the
            last whole epoch, or the best ones with `early_stopping`, and can be used.
        RuntimeError
            Another thread is training this estimator.
        BaseException
            Whatever a signal's handler raises ends training. A new model is then dropped; one that
            was trained on holds the weights of the last whole epoch. Ctrl-C ends it with a
            UserWarning instead, and the model is that of the last whole epoch, or of the best one
            with `early_stopping`; if none was whole, its weights are those from before training.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
        >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0)
        >>> model.fit(X, y).score(X, y) > 0.99
        True
        """
        given = Given(X_val, y_val, sample_weight_val, groups)
        return self._train(X, y, sample_weight, self._targets, incremental=False, given=given)

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        targets: preparation.Targets,
        *,
        incremental: bool,
        given: Given = NOTHING,
    ) -> Self:
        with locking.exclusively(self, type(self).__name__):
            fitting.train(self, X, y, sample_weight, targets, incremental=incremental, given=given)
        return self

    def _as_numbers(self, X: Any, *, fresh: bool, weight: Any = None) -> Any:
        """What the columns of X become, where a parameter asks for more than numbers as they are;
        the columns are learnt if `fresh`.
        """
        if not fresh:
            return columns.numbers(self, self._columns, X) if hasattr(self, "_columns") else X
        self.__dict__.pop("_columns", None)
        if columns.are_wanted(self):
            self._columns, X = columns.learnt(self, X, weight)
        return X

    def _noting(self) -> Any:
        """Who is to note the names and the number of features: where there are `_columns` that is
        done, and what they have become has others.
        """
        return columns.Nobody() if hasattr(self, "_columns") else self

    def _show(self, start: Start) -> None:
        """Show what was trained, as fitted attributes."""
        start.network.home.note_change()

    def _flat(self) -> Array:
        """The weights, with what the user has put in their place."""
        return self._network.settle()

    # Prediction.

    def predictor(self) -> Predictor:
        """`predict` as a small callable with weights of its own, for many calls on few rows.

        It takes a 2-D ndarray of the weights' dtype, checks its shape and dtype and nothing else,
        and returns what `predict` does, some 20 us sooner. Later changes of the estimator do not
        change it.

        Returns
        -------
        predictor : callable

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            The estimator makes numbers of columns first: `standardize`, `allow_nan` or
            `categorical_features`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> predict = MLPClassifier(4, solver="lbfgs", random_state=0).fit(X, y).predictor()
        >>> predict(np.array([[-2.0], [2.0]]))
        array([0, 1])
        """
        check_is_fitted(self)
        if hasattr(self, "_columns"):
            raise ValueError(
                "predictor: found an estimator fitted with standardize, allow_nan or"
                " categorical_features, wanted one of features as they are; predict takes others"
            )
        with locking.swapping:
            return Predictor(self._network, self._flat(), self._answer(), self.n_threads)

    def summary(self) -> Description:
        """The network's layers: their shapes, parameters, FLOPs and bytes.

        It is what ``compile(module_, loss).describe()`` tells, with the loss of training.

        Returns
        -------
        description : Description
            Prints as a table, and shows itself in notebooks as a drawing and the table. FLOPs and
            bytes are of one sample in training; `flops`, `parameter_bytes` and `entries` hold the
            numbers.

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", dtype="float32", random_state=0)
        >>> description = model.fit(X, y).summary()
        >>> print(description)
        Sequential, float32
        ...
        13 parameters, 52 bytes; ... FLOPs a sample forward...
        >>> [entry.shapes[0] for entry in description.entries if entry.row == "linear"]
        [(4,), (1,)]
        """
        check_is_fitted(self)
        with locking.swapping:
            self._flat()
            network = self._network
        return network.described()

    def _output(self, X: Any, *, raw: bool = False) -> Array:
        """Predictions, or raw outputs, (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = self._features(X)
        with locking.swapping:
            plan, flat = self._plan(scipy.sparse.issparse(X)), self._flat()
            network = self._network
        X = network.samples(X)
        return plan.predict(flat, X, raw=raw, n_threads=threads.resolve(self.n_threads))

    def _plan(self, sparse: bool) -> _core.Plan:
        if sparse not in self._plans:
            self._plans[sparse] = self._network.plan(sparse=sparse)
        return self._plans[sparse]

    def _looked_at(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, ...]:
        """What `diagnose` asks for; of an estimator that is not fitted, where its training would
        start.
        """
        (network, _, flat), sample = preparation.looked_at(self, X, y, sample_weight)
        return network.compiled, flat, network.samples(sample.X), *sample[1:]

    # scikit-learn's protocols.

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not columns.are_wanted(self)
        tags.input_tags.allow_nan = bool(self.allow_nan)
        tags.input_tags.categorical = self.categorical_features is not None
        tags.input_tags.string = self.categorical_features is not None
        return tags

    def __getstate__(self) -> dict[str, Any]:
        with locking.swapping:
            if self.__sklearn_is_fitted__():
                self._flat()
            state = dict(super().__getstate__())
        state.pop("_plans", None)  # made anew on demand
        return versions.stamped(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(versions.checked(state, type(self).__name__))
        if self.__sklearn_is_fitted__():
            self._plans = {}

    @abstractmethod
    def _is_stochastic(self) -> bool:
        """Whether `partial_fit` can be had; otherwise an AttributeError."""


def by_epochs(estimator: BaseTrained) -> bool:
    """For `available_if`: whether the estimator trains by epochs."""
    return estimator._is_stochastic()
