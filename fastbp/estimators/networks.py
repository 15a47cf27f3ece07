"""Estimators of any network: what they are told, the Module that they train, `module_`.

Knows neither labels nor losses: those are `classifier`'s and `regressor`'s. What a Module comes to
as estimators know networks is in `built`. It is long because every parameter is named twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse

from fastbp import _core, nn
from fastbp.estimators import inputs, preparation
from fastbp.estimators.base import BaseTrained
from fastbp.estimators.built import BuiltNetwork, Start, named_inputs
from fastbp.estimators.classifier import Classifying
from fastbp.estimators.docs import documented
from fastbp.estimators.regressor import Regressing
from fastbp.estimators.signatures import of_regressor
from fastbp.nn.module import Module
from fastbp.nn.runs import Tracing
from fastbp.train import lbfgs
from fastbp.train.groups import factors_of
from fastbp.train.limits import within
from fastbp.train.rates import Rates, rates_of
from fastbp.train.rules import Rule, rule_of
from fastbp.train.state import Settings


def dense(n_inputs: Any, n_outputs: int) -> Module:
    """The network of who asks for none: one hidden layer, as that of a multilayer perceptron."""
    return nn.Sequential(nn.Linear(100), nn.ReLU(), nn.Linear(n_outputs))


def _dtype_for(X: Any) -> np.dtype[Any]:
    """float32 for integers and for float32, so that features are not copied, else float64."""
    arrays = X.values() if isinstance(X, Mapping) else (X,)
    return np.dtype(np.float64 if any(x.dtype == np.float64 for x in arrays) else np.float32)


class BaseNetwork(BaseTrained):
    """A Module behind scikit-learn's methods; see the two classes made from it."""

    # One line for each parameter, as scikit-learn wants it. `loss` here is the classifier's.
    def __init__(
        self,
        network: Module | Callable[[Any, int], Module] | None = None,
        *,
        loss: str = "log_loss",
        loss_params: dict[str, float] | None = None,
        optimizer: str = "adam",
        optimizer_params: dict[str, float] | None = None,
        learning_rate_init: float = 0.001,
        schedule: Any = None,
        alpha: float = 0.0001,
        rate_factors: dict[str, float] | None = None,
        decay_factors: dict[str, float] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        batch_size: int | str = "auto",
        accumulate: int = 1,
        memory_limit: int | None = None,
        max_epochs: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        mask_value: float | None = None,
        precision: str = "full",
        verbose: bool | int = False,
        n_threads: int | None = None,
        dtype: Any = None,
        history: str = "epoch",
        class_weight: Any = None,
        calibration: str | None = None,
        validation_cv: Any = None,
        scoring: Any = None,
        max_seconds: float | None = None,
        standardize: bool = False,
        allow_nan: bool = False,
        categorical_features: Any = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.loss_params = loss_params
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.learning_rate_init = learning_rate_init
        self.schedule = schedule
        self.alpha = alpha
        self.rate_factors = rate_factors
        self.decay_factors = decay_factors
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.memory_limit = memory_limit
        self.max_epochs = max_epochs
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.mask_value = mask_value
        self.precision = precision
        self.verbose = verbose
        self.n_threads = n_threads
        self.dtype = dtype
        self.history = history
        self.class_weight = class_weight
        self.calibration = calibration
        self.validation_cv = validation_cv
        self.scoring = scoring
        self.max_seconds = max_seconds
        self.standardize = standardize
        self.allow_nan = allow_nan
        self.categorical_features = categorical_features

    # What training leaves; absent before. It belongs to the user as well.

    module_: Module

    # Where scikit-learn's drawing links to, as `linked` tells.
    _doc_section = "any-network"

    # Data.

    def _check(self) -> None:
        if self._by_lbfgs:
            lbfgs.refuse_steps(
                optimizer_params=(self.optimizer_params, None),
                schedule=(self.schedule, None),
                rate_factors=(self.rate_factors, None),
                decay_factors=(self.decay_factors, None),
                clip_norm=(self.clip_norm, None),
                clip_value=(self.clip_value, None),
                batch_size=(self.batch_size, "auto"),
                accumulate=(int(self.accumulate), 1),
                memory_limit=(self.memory_limit, None),
                early_stopping=(bool(self.early_stopping), False),
                precision=(self.precision, "full"),
            )
        self._rule()
        self._rates()
        if not (self.network is None or callable(self.network)):
            raise TypeError(
                f"The 'network' parameter of {type(self).__name__} must be a Module, a function of"
                f" the sizes of inputs and outputs that returns one, or None; got {self.network!r}"
                " instead."
            )

    def _data(
        self,
        X: Any,
        y: Any,
        *,
        fresh: bool,
        dtype: np.dtype[Any] | None = None,
        weight: Any = None,
    ) -> tuple[Any, Any, np.dtype[Any]]:
        if dtype is None:
            dtype = preparation.wanted_dtype(self, fresh)
        if dtype is None and isinstance(self.network, Module) and self.network._home is not None:
            dtype = self.network._home.flat.dtype
        elif dtype is None and self.precision != "full":
            dtype = np.dtype(np.float32)
        X, whose = self._as_numbers(X, fresh=fresh, weight=weight), self._noting()
        X, y = inputs.training_arrays(
            whose, X, y, dtype=dtype, reset=fresh or whose is not self, y_numeric=self._y_numeric
        )
        return X, y, _dtype_for(X) if dtype is None else dtype

    def _features(self, X: Any) -> Any:
        X = self._as_numbers(X, fresh=False)
        return inputs.arrays(self._noting(), X, self._network.dtype)

    # The network.

    def _module_for(self, X: Any, n_outputs: int) -> Module:
        """A module of the estimator's own, which is not built for these data yet."""
        given = dense if self.network is None else self.network
        if isinstance(given, Module):
            return deepcopy(given)
        if isinstance(X, Mapping):
            made = given({name: one.shape[1:] for name, one in X.items()}, n_outputs)
        else:
            made = given(X.shape[1] if X.ndim == 2 else X.shape[1:], n_outputs)
        if not isinstance(made, Module):
            raise TypeError(
                f"network: found a function that returns {type(made).__name__}, wanted a Module"
            )
        return deepcopy(made)

    def _begin(self, X: Any, target: preparation.Target, dtype: np.dtype[Any], seed: int) -> Start:
        module = self._module_for(X, target.n_outputs)
        samples = named_inputs(module, X, self.mask_value)
        return self._start(module, X, target, module._build(samples, seed, dtype, "X"))

    def _go_on(self, X: Any, target: preparation.Target) -> Start:
        if not self._flat().flags.writeable:  # memory-mapped
            self.module_ = deepcopy(self.module_)
        for name, one in self.module_.parameters().items():
            if not np.isfinite(one.data).all():
                raise ValueError(
                    f"module_: parameter {name!r} holds infinite or NaN values; training goes on"
                    " from finite ones only."
                )
        return self._start(self.module_, X, target)

    def _start(
        self, module: Module, X: Any, target: preparation.Target, traced: Tracing | None = None
    ) -> Start:
        # Plans anew at each call: which parameters are frozen may have changed.
        loss = target.loss, self._loss_attributes()
        network = BuiltNetwork(
            module, loss, self.mask_value, target.n_outputs, traced, self.precision
        )
        return network.start(scipy.sparse.issparse(X))

    def _show(self, start: Start) -> None:
        super()._show(start)
        self.module_ = start.network.module

    def _gradient_problem(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """What `check_gradients` asks for; of an estimator that is not fitted, where its training
        would start.
        """
        start, sample = preparation.looked_at(self, X, y, sample_weight, np.dtype(np.float64))
        network, alpha = start.network, self._rule().alpha
        X = network.named(sample.X)
        return network.compiled._gradient_problem(X, sample.y, sample.weight, alpha)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # Training.

    def _rule(self) -> Rule:
        optimizer = "sgd" if self._by_lbfgs else self.optimizer
        return rule_of(optimizer, self.optimizer_params, self.alpha)

    def _rates(self) -> Rates:
        rate = float(self.learning_rate_init)
        return rates_of(self.schedule, rate, scored=bool(self.early_stopping))

    def _limit(self) -> tuple[str, int]:
        return "max_epochs", int(self.max_epochs)

    def _adapted(
        self, settings: Settings, network: BuiltNetwork, n_samples: int
    ) -> tuple[Settings, _core.Plan | None]:
        plan = network.compiled
        settings = replace(
            settings,
            accumulate=int(self.accumulate),
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            rate_factors=factors_of(self.rate_factors, plan.parameters, "rate_factors"),
            decay_factors=factors_of(self.decay_factors, plan.parameters, "decay_factors"),
        )
        settings, plan = within(self.memory_limit, settings, plan, n_samples)
        return settings, plan.core

    @property
    def _by_lbfgs(self) -> bool:
        return isinstance(self.optimizer, str) and self.optimizer == "lbfgs"

    def _is_stochastic(self) -> bool:
        if self._by_lbfgs:
            raise AttributeError("partial_fit takes an update rule; found optimizer='lbfgs'.")
        return True

    @property
    def skipped_steps_(self) -> int:
        """Steps that changed no weights, since in precision "fp16" a gradient was not finite."""
        return self._training_state.scaling[2]


@documented
class NetworkClassifier(Classifying, BaseNetwork):
    """A classifier with any network, trained by fastbp's C engine.

    The loss brings the output activation: softmax for several classes, the logistic function for
    two classes or several labels. The network yields raw outputs: one number for two classes, else
    one for each class or label.

    <shared threads>

    Parameters
    ----------
    <shared network>

    loss : {'log_loss', 'focal', 'hinge'}, default='log_loss'
        What is minimised, averaged over samples by their weights, plus the penalty; see
        `MLPClassifier`.

    loss_params : dict or None, default=None
        Numbers that the loss takes, by name; None leaves every number at its default.

    <shared class weights>

    <shared calibration>

    <shared network's training>

    Attributes
    ----------
    <shared network's attributes>

    classes_ : ndarray of shape (n_classes,)
        The sorted labels; for multilabel targets the numbers of the columns.

    temperature_ : float
        With `calibration`, what raw outputs are divided by before they become probabilities.

    See Also
    --------
    NetworkRegressor : The same for numeric targets.
    fastbp.fit : Trains a network in place, also with several outputs or an answer at each position.

    Examples
    --------
    >>> from fastbp import NetworkClassifier, nn
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(3))
    >>> model = NetworkClassifier(network, learning_rate_init=0.02, tol=0.01, random_state=0)
    >>> model = make_pipeline(StandardScaler(), model)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    >>> search = GridSearchCV(model, {"networkclassifier__network__2__p": [0.0, 0.2]}, cv=2)
    >>> len(search.fit(X, y).cv_results_["params"])
    2
    """


@documented
class NetworkRegressor(Regressing, BaseNetwork):
    """A regressor with any network, trained by fastbp's C engine.

    The loss brings the output activation: the exponential for 'poisson', none for the others. The
    network yields raw outputs: one number for each target.

    <shared threads>

    Parameters
    ----------
    <shared network>

    loss : str, default='squared_error'
        What is minimised, averaged over samples by their weights, plus the penalty:
        'squared_error', 'absolute_error', 'huber', 'quantile' or 'poisson'; see `MLPRegressor`.

    loss_params : dict or None, default=None
        Numbers that the loss takes, by name; None leaves every number at its default.

    <shared network's training>

    Attributes
    ----------
    <shared network's attributes>

    See Also
    --------
    NetworkClassifier : The same for classes.
    fastbp.fit : Trains a network in place, also with several outputs or an answer at each position.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import NetworkRegressor, nn
    >>> series = np.random.default_rng(0).standard_normal((200, 12, 1))
    >>> y = series[:, :, 0].max(axis=1)
    >>> def network(shape, n_outputs):
    ...     return nn.Sequential(
    ...         nn.Lambda(lambda x: x.reshape(-1, 12)), nn.Linear(32), nn.ReLU(),
    ...         nn.Linear(n_outputs),
    ...     )
    >>> model = NetworkRegressor(network, learning_rate_init=0.01, random_state=0)
    >>> model.fit(series, y).score(series, y) > 0.8
    True

    Several inputs come as a dict of arrays. scikit-learn's splitters do not take dicts apart: for
    cross-validation, searches and `train_test_split`, X is a structured array, of which each field
    is an input.

    >>> from fastbp import ops
    >>> from sklearn.model_selection import cross_val_score
    >>> class Shop(nn.Module):
    ...     def __init__(self):
    ...         self.town, self.head = nn.Embedding(5, 2), nn.Linear(1)
    ...
    ...     def forward(self, town, sizes):
    ...         return self.head(ops.concatenate([self.town(town), sizes], axis=1))
    >>> X = np.empty(200, [("town", np.int64), ("sizes", np.float32, 3)])
    >>> rng = np.random.default_rng(0)
    >>> X["town"], X["sizes"] = rng.integers(0, 5, 200), rng.standard_normal((200, 3))
    >>> y = X["sizes"].sum(axis=1) + X["town"] % 2
    >>> model = NetworkRegressor(Shop(), learning_rate_init=0.05, random_state=0)
    >>> bool(cross_val_score(model, X, y, cv=3).min() > 0.9)
    True
    """

    __init__ = of_regressor(BaseNetwork.__init__)
