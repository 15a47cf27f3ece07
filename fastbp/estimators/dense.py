"""The multilayer perceptron as an estimator: its parameters, its dense network, `coefs_`.

Knows neither labels nor which losses there are: `classifier` and `regressor` supply them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import inputs, preparation
from fastbp.estimators.architecture import Architecture, architecture_of
from fastbp.estimators.base import BaseTrained
from fastbp.estimators.built import BuiltNetwork, Start
from fastbp.estimators.multilayer import MultilayerNetwork
from fastbp.estimators.solver import ALPHA, rates_of_solver, refuse_steps, rule_of_solver
from fastbp.estimators.views import Views
from fastbp.nn import locking
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array
from fastbp.train.options import STOCHASTIC_SOLVERS
from fastbp.train.rates import Rates
from fastbp.train.rules import Rule
from fastbp.train.state import Problem, Settings


class BaseMLP(BaseTrained):
    """A multilayer perceptron behind scikit-learn's methods; see the two classes made from it."""

    # One line for each parameter, as scikit-learn wants it. Defaults are scikit-learn's; the
    # parameters from `loss` on are fastbp's own. `loss` here is the classifier's.
    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = ALPHA,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str = "log_loss",
        loss_params: dict[str, float] | None = None,
        activation_params: dict[str, float] | Sequence[dict[str, float] | None] | None = None,
        weight_init: str = "glorot_uniform",
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
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        layer_norm: bool = False,
        residual: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        schedule: Any = None,
        weight_decay: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.loss_params = loss_params
        self.activation_params = activation_params
        self.weight_init = weight_init
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
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.layer_norm = layer_norm
        self.residual = residual
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing

    # Where scikit-learn's drawing links to, as `linked` tells.
    _doc_section = "twenty-lines-that-work"

    # What training leaves; absent before. The two lists of views belong to the user as well.

    coefs_: list[Array]
    intercepts_: list[Array]
    _views: Views
    _network: MultilayerNetwork

    # The network.

    def _check(self) -> None:
        architecture = self._architecture()
        if self._by_lbfgs:
            refuse_steps(
                dropout=(self.dropout, any(architecture.dropout)),
                batch_norm=(self.batch_norm, bool(self.batch_norm)),
                clip_norm=(self.clip_norm, self.clip_norm is not None),
                clip_value=(self.clip_value, self.clip_value is not None),
                schedule=(self.schedule, self.schedule is not None),
            )
        self._rule()
        self._rates()

    def _hidden(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        sizes = self.hidden_layer_sizes
        return tuple(map(int, sizes)) if isinstance(sizes, Iterable) else (int(sizes),)

    def _architecture(self) -> Architecture:
        return architecture_of(
            self._hidden(),
            self.activation,
            self.activation_params,
            self.dropout,
            batch_norm=self.batch_norm,
            layer_norm=self.layer_norm,
            residual=self.residual,
        )

    def _sizes(self, X: Any, target: preparation.Target) -> tuple[int, ...]:
        """Units of every layer, the inputs first."""
        return (X.shape[1], *self._hidden(), target.n_outputs)

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
        X, whose = self._as_numbers(X, fresh=fresh, weight=weight), self._noting()
        X, y = inputs.training_data(
            whose, X, y, dtype=dtype, reset=fresh or whose is not self, y_numeric=self._y_numeric
        )
        return X, y, X.dtype

    def _features(self, X: Any) -> Any:
        X = self._as_numbers(X, fresh=False)
        return inputs.features(self._noting(), X, self._network.dtype)

    def _begin(self, X: Any, target: preparation.Target, dtype: np.dtype[Any], seed: int) -> Start:
        sparse = scipy.sparse.issparse(X)
        network = MultilayerNetwork(
            self._sizes(X, target),
            self._architecture(),
            (target.loss, self._loss_attributes()),
            self.weight_init,
            seed,
            dtype,
            sparse=sparse,
        )
        return network.start(sparse)

    def _go_on(self, X: Any, target: preparation.Target) -> Start:
        before, sizes, sparse = self._network, self._sizes(X, target), scipy.sparse.issparse(X)
        if sizes != before.sizes:
            raise ValueError(
                f"hidden_layer_sizes and the data ask for layers of {sizes} units, which"
                f" cannot go on with the weights of {before.sizes}; fit anew with"
                " warm_start=False."
            )
        architecture, loss = self._architecture(), (target.loss, self._loss_attributes())
        if architecture.norm != before.architecture.norm:
            raise ValueError(
                f"batch_norm={self.batch_norm} and layer_norm={self.layer_norm} ask for other norms"
                " than those that the fitted network has; fit anew with warm_start=False."
            )
        self._flat()
        self._views.refuse_what_is_not_finite()
        flat = np.require(self._views.flat, requirements="W")  # a copy if memory-mapped
        same = (architecture, loss) == (before.architecture, before.loss)
        if same and flat is self._views.flat:
            if not before.is_current():
                return before.start(sparse)
            return Start(before, {**self._plans, sparse: self._plan(sparse)}, flat)
        network = MultilayerNetwork(
            sizes, architecture, loss, self.weight_init, 0, flat.dtype, sparse=sparse, flat=flat
        )
        return network.start(sparse)

    def _rule(self) -> Rule:
        return rule_of_solver(self)

    def _rates(self) -> Rates:
        return rates_of_solver(self)

    def _adapted(
        self, settings: Settings, network: BuiltNetwork, n_samples: int
    ) -> tuple[Settings, None]:
        return replace(settings, clip_norm=self.clip_norm, clip_value=self.clip_value), None

    def _limit(self) -> tuple[str, int]:
        return "max_iter", int(self.max_iter)

    @property
    def _by_lbfgs(self) -> bool:
        return self.solver == "lbfgs"

    @property
    def _most_evaluations(self) -> int:
        return int(self.max_fun)

    def inspect(self, X: Any, y: Any, sample_weight: Any = None) -> list[dict[str, Array]]:
        """Show one forward and one backward pass: what every unit says, and what it is blamed for.

        Parameters
        ----------
        X, y, sample_weight
            Samples, as for `fit`.

        Returns
        -------
        layers : list of dict, one for each linear layer
            "z" (n_samples, units), the sums before the norm and the activation; "a" (n_samples,
            units), what the next layer takes (of the last layer: the prediction); "delta"
            (n_samples, units), the derivative of the loss by z. The gradient of a layer's weights
            is the product of the transposed "a" of the layer below (X for the first) and its
            "delta", without the penalty. Nothing is dropped; batch normalisation is by these
            samples, as in training.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([1.0, 2.0])
        >>> model = MLPRegressor(2, solver="sgd", max_iter=1, random_state=0)
        >>> first, last = model.partial_fit(X, y).inspect(X, y)
        >>> bool(np.allclose(last["delta"][:, 0], (last["a"][:, 0] - y) / 2))
        True
        """
        check_is_fitted(self)
        start, sample = preparation.looked_at(self, X, y, sample_weight, self._network.dtype)
        (plan,) = start.plans.values()
        return list(plan.inspect(start.flat, sample.X, sample.y, sample_weight=sample.weight))

    def _gradient_problem(
        self, X: Any, y: Any, sample_weight: Any = None, dtype: Any = np.float64
    ) -> tuple[Any, ...]:
        """Samples, a plan and a copy of the weights, in `dtype`, for looking at gradients.

        An estimator that is not fitted gives the weights that its training would start from. What
        is no chain of layers is looked at as any other network, in float64.
        """
        start, sample = preparation.looked_at(self, X, y, sample_weight, np.dtype(dtype))
        network, alpha = cast(MultilayerNetwork, start.network), self._rule().alpha
        if not network.architecture.is_chain:
            return network.compiled._gradient_problem(*sample, alpha)
        (plan,) = start.plans.values()
        return Problem(plan, start.flat, *sample, alpha)

    # The weights.

    def _show(self, start: Start) -> None:
        super()._show(start)
        if not self.__sklearn_is_fitted__() or start.flat is not self._views.flat:
            self._show_weights(cast(MultilayerNetwork, start.network))
        self.n_layers_ = len(self._views.sizes)

    @property
    def module_(self) -> Module:
        """The network, with what the user has put in the place of `coefs_` and `intercepts_`."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} is not fitted, wanted that before module_")
        with locking.swapping:
            self._absorb()
            return self._network.module

    def _flat(self) -> Array:
        """The weights, with what the user has put in the place of views copied in."""
        flat = super()._flat()
        self._absorb()
        return flat

    def _absorb(self) -> None:
        if self._views.absorb(self.coefs_, self.intercepts_):
            self._show_views()
            self._network.home.note_change()

    def _show_weights(self, network: MultilayerNetwork) -> None:
        self._views = Views(network.settle(), network.sizes, network.offsets)
        self._show_views(anew=True)

    def _show_views(self, *, anew: bool = False) -> None:
        """Have `coefs_` and `intercepts_` list the views of the buffer, as new lists if `anew`."""
        for name in ("coefs_", "intercepts_"):
            views = getattr(self._views, name.rstrip("_"))
            shown = getattr(self, name, None)
            if isinstance(shown, list) and not anew:
                shown[:] = views  # the same list, since the user may hold it
            else:
                setattr(self, name, list(views))

    # scikit-learn's protocols.

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("coefs_", "intercepts_", "_views"):  # made anew from the flat buffer
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._show_weights(self._network)

    def _is_stochastic(self) -> bool:
        """For `available_if`: whether `partial_fit` can be had."""
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit takes one of the solvers {STOCHASTIC_SOLVERS}; found {self.solver!r}."
            )
        return True
