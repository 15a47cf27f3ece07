"""Backpropagation held against finite differences, element by element.

Here is `check_gradients`. It knows no row of the table, only a loss and its gradient as functions
of one flat vector; the report that it returns is in gradreport.py. It is as long as it is because
the reasons for each step length and threshold stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from fastbp.gradreport import GradientReport, TensorCheck

Vector = NDArray[np.float64]

# The step that balances the error of a central difference, h^2/6 of the third derivative, against
# the rounding of the loss, eps/h of it: both are then about eps^(2/3) = 4e-11.
STEP = float(np.finfo(np.float64).eps ** (1 / 3))
# The steps tried for an element, in turn: shorter ones to get past a kink or a sharp bend, then
# longer ones for a gradient so small against the loss that rounding drowns it. Each is used
# together with its quarter.
STEPS = tuple(STEP * 2.0**power for power in (2, 0, -2, -4, -6, -8, -10, -12, -14, 4, 6, 8))
# Far above 4e-11 and far below the effect of any mistake. Rounding alone may reach it where a
# tensor's gradient is below 1e-4 of the loss, or 2e-6 of it with the longest of the steps.
TOLERANCE = 1e-6

NOISE_STEP = 2.0**-40  # between the values of the loss from which its rounding is estimated
NOISE_MARGIN = 4.0  # so many standard deviations of rounding have to fit into the tolerance

VANISHED = 1e-12  # a gradient wholly below this is checked on the rescaled problem
# Mean and standard deviation of every pre-activation there: most of the slopes are near 1, few
# samples are at a kink or beyond it, and fifty layers neither shrink a gradient nor blow it up.
CENTRE, SPREAD = 0.5, 0.2
ALL_ELEMENTS_UP_TO = 2000  # parameters; above, a sample is checked
SAMPLE = 500  # elements checked above that, shared out among the tensors
SAMPLE_OF_TENSOR = 5  # at least, where the tensor has as many
DIRECTIONS = 10  # random directions in the space of all parameters, checked beside the sample


class _Plan(Protocol):
    """What is asked of a plan."""

    @property
    def n_params(self) -> int: ...
    @property
    def tensors(self) -> Sequence[dict[str, Any]]: ...
    @property
    def dtype(self) -> Any: ...
    def loss_gradient(self, params: Vector, X: Any, y: Any, **options: Any) -> float: ...
    def inspect(self, params: Vector, X: Any, y: Any) -> list[dict[str, Vector]]: ...


def check_gradients(
    estimator_or_plan: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    params: Any = None,
    alpha: float = 0.0,
    tolerance: float = TOLERANCE,
    random_state: int = 0,
) -> GradientReport:
    """Compare the gradient of the training loss with finite differences, tensor by tensor.

    The loss is that of training: the weighted mean over the samples, penalty included. All
    arithmetic is float64; a float32 estimator, or a plan of a float32 module, is checked by a
    float64 plan of the same structure. Random masks are those of the first step.

    Each derivative is a central difference of the loss, (L(w + h) - L(w - h)) / 2h, made of SciPy's
    one-sided ones (`scipy.optimize.approx_fprime`). Its error is h^2/6 of the third derivative plus
    the rounding of L divided by h, least at h = eps^(1/3) = 6e-6 and then about 4e-11; Richardson's
    extrapolation from h and h/4 lowers the first part. A step counts only where it agrees with its
    quarter, in the central value and in the bend between the two one-sided ones; else other steps
    are tried, and an element that none settles is undecided: the loss has a kink there, and its
    one-sided differences disagree however short the step.

    A tensor whose gradient is wholly below 1e-12, or too small to be seen in the loss, is checked
    on a rescaled problem, and the report says so: the same network and data, with weights and
    biases scaled and shifted unit by unit so that no unit is saturated or dead; of a module, with
    values as training starts from, all moved a little. Where a gradient of a module's is zero there
    too, as that of a bias before a norm, and the differences are nothing but rounding, its errors
    are measured by the largest gradient of all.

    Parameters
    ----------
    estimator_or_plan : estimator, Plan, or float64 Plan of the engine
        What to check. An estimator of this package is checked at its fitted weights, or before
        `fit` at those from which its training would start, with its own penalty (the factors of
        groups left out); what `compile` makes of a module and its loss, at the module's values.
    X : array-like or CSR matrix of shape (n_samples, n_features)
        Samples; of networks other than multilayer perceptrons, as these take them. The time grows
        with their number times that of the parameters: a few dozen are enough.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets: as for `fit` with an estimator, encoded as the loss wants them with a plan. X and y
        are dicts where a module has several inputs, or losses.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, not negative; None is 1 for all.
    params : array-like of shape (n_params,), default=None
        The point at which a plan of the engine is checked; an error elsewhere.
    alpha : float, default=0.0
        Strength of the L2 penalty, at least 0. For a plan of the engine only.
    tolerance : float, default=1e-6
        The error that passes, above 0. The default is far above the error of the differences and
        far below that of any mistake.
    random_state : int, default=0
        Seed of the sample of elements and of the directions, which are used above 2,000 parameters.

    Returns
    -------
    GradientReport
        `report.ok` is the verdict, `print(report)` the table.

    Raises
    ------
    TypeError
        For something that is neither a plan nor an estimator of this package, or options that
        belong to another kind.
    ValueError
        For a plan that is not float64, wrong `params`, `tolerance` or `random_state`, or a loss
        that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import MLPRegressor, check_gradients
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> y = X[:, 0] ** 2
    >>> model = MLPRegressor((4,), activation="tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> report = check_gradients(model, X, y)
    >>> report.ok
    True
    >>> [tensor.name for tensor in report.tensors]
    ['layer0.weight', 'layer0.bias', 'layer1.weight', 'layer1.bias']
    """
    if not (isinstance(tolerance, Real) and tolerance > 0):
        raise ValueError(f"check_gradients: tolerance is {tolerance!r}, wanted a number above 0")
    rng = _generator(random_state)
    problem = _problem(estimator_or_plan, X, y, sample_weight, params, alpha)
    sampled = problem.plan.n_params > ALL_ELEMENTS_UP_TO
    checker = _Checker(problem, sampled, tolerance, rng)
    tensors = tuple(checker.check(tensor) for tensor in problem.plan.tensors)
    directions = _check_directions(problem, tolerance, rng) if sampled else None
    n_params = sum(_size(tensor) for tensor in problem.plan.tensors)
    return GradientReport(tensors, directions, n_params, tolerance)


def _generator(random_state: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"check_gradients: random_state is {random_state!r}, wanted an int of at least 0"
        ) from error


# ------------------------------------------------------------------------------------- the problem


@dataclass(frozen=True)
class _Problem:
    """A loss of one flat vector, and the point at which its gradient is checked."""

    plan: _Plan
    params: Vector
    X: Any
    y: Any
    sample_weight: Any
    alpha: float
    other_params: Vector | None = None  # where to check what cannot be seen there

    def loss(self, params: Vector, grad: Vector | None = None) -> float:
        options = {"sample_weight": self.sample_weight, "alpha": self.alpha}
        return self.plan.loss_gradient(params, self.X, self.y, grad=grad, **options)

    @cached_property
    def gradient(self) -> Vector:
        grad = np.empty(self.plan.n_params)
        loss = self.loss(self.params, grad)
        if not np.isfinite(loss):
            raise ValueError(f"check_gradients: the loss at this point is {loss}, wanted finite")
        return grad

    @cached_property
    def rescaled(self) -> _Problem:
        """The same network with every unit's pre-activation at mean CENTRE and deviation SPREAD.

        Weights and biases are scaled and shifted for it layer by layer, from the input on. Units
        that do not vary over the samples stay as they are. (Of what is no chain of layers, it is
        the same network at another point that whoever made the problem knows.)
        """
        if self.other_params is not None:
            return replace(self, params=self.other_params)
        params = self.params.copy()
        tensors = self.plan.tensors  # the weights and the bias of a layer, one after the other
        for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
            z = self.plan.inspect(params, self.X, self.y)[weight["layer"]]["z"]
            mean, deviation = z.mean(axis=0), z.std(axis=0)
            varies = deviation > 0
            factor = np.divide(SPREAD, deviation, out=np.ones_like(deviation), where=varies)
            bias_now = _part(params, bias)
            _part(params, weight)[:] *= factor
            bias_now[:] = np.where(varies, (bias_now - mean) * factor + CENTRE, bias_now)
        return replace(self, params=params)

    def along(self, indices: NDArray[np.intp]) -> Callable[[Vector], float]:
        """The loss as a function of some of the parameters."""
        work = self.params.copy()

        def loss(values: Vector) -> float:
            work[indices] = values
            return self.loss(work)

        return loss


def _problem(
    estimator_or_plan: Any, X: Any, y: Any, sample_weight: Any, params: Any, alpha: float
) -> _Problem:
    found = type(estimator_or_plan).__name__
    if isinstance(estimator_or_plan, type):
        raise TypeError(
            f"check_gradients: estimator_or_plan is the class {estimator_or_plan.__name__}, wanted "
            f"an instance of it"
        )
    if hasattr(estimator_or_plan, "_gradient_problem"):
        if params is not None or alpha != 0:
            raise TypeError(
                f"check_gradients: params and alpha come from the {found}; they go with a plan only"
            )
        return _Problem(*estimator_or_plan._gradient_problem(X, y, sample_weight))
    if not hasattr(estimator_or_plan, "loss_gradient"):
        raise TypeError(
            f"check_gradients: estimator_or_plan is a {found}, wanted an estimator of fastbp, or "
            f"the Plan that compile() makes of a module and its loss"
        )
    plan: _Plan = estimator_or_plan
    if np.dtype(plan.dtype) != np.float64:
        raise ValueError(
            f"check_gradients: the plan is {np.dtype(plan.dtype)}, wanted float64: the differences "
            f"of a coarser loss are mostly rounding"
        )
    if params is None:
        raise TypeError("check_gradients: params is missing, wanted the point to check the plan at")
    point = np.array(params, dtype=np.float64)
    if point.shape != (plan.n_params,):
        raise ValueError(
            f"check_gradients: params has shape {point.shape}, wanted ({plan.n_params},)"
        )
    return _Problem(plan, point, X, y, sample_weight, alpha)


# --------------------------------------------------------------------------------------- the check


@dataclass(frozen=True)
class _Checker:
    """How tensors are checked, one after another."""

    problem: _Problem
    sampled: bool
    tolerance: float
    rng: np.random.Generator

    def check(self, tensor: dict[str, Any]) -> TensorCheck:
        elements = self._elements(tensor)
        found = self._compare(self.problem, tensor, elements)
        magnitude = _magnitude(_part(self.problem.gradient, tensor))
        if found.hidden or (magnitude < VANISHED and not found.contradicts(self.tolerance)):
            problem = self.problem.rescaled
            again = self._compare(problem, tensor, elements)
            largest = _magnitude(problem.gradient)
            vanishes = again.vanishes and _magnitude(again.analytic) < VANISHED * largest
            least = largest if vanishes and self.problem.other_params is not None else 0.0
            return again.named(
                tensor["name"], tensor["shape"], elements, rescaled=True, least=least
            )
        return found.named(tensor["name"], tensor["shape"], elements)

    def _elements(self, tensor: dict[str, Any]) -> NDArray[np.intp]:
        """Flat places in the tensor: all, or a sample."""
        size = _size(tensor)
        if not self.sampled:
            return np.arange(size)
        share = max(SAMPLE_OF_TENSOR, SAMPLE // len(self.problem.plan.tensors))
        # The largest belongs to the sample, since errors are measured by it.
        largest = np.argmax(np.abs(_part(self.problem.gradient, tensor)))
        return np.union1d(self.rng.permutation(size)[:share], [largest])

    def _compare(
        self, problem: _Problem, tensor: dict[str, Any], elements: NDArray[np.intp]
    ) -> Comparison:
        places = int(tensor["offset"]) + elements
        return compare(
            problem.along(places), problem.params[places], problem.gradient[places], self.tolerance
        )


def _check_directions(problem: _Problem, tolerance: float, rng: np.random.Generator) -> TensorCheck:
    directions = rng.standard_normal((DIRECTIONS, problem.params.size))
    trained = np.zeros(problem.params.size, dtype=bool)
    for tensor in problem.plan.tensors:
        _part(trained, tensor)[...] = True
    directions[:, ~trained] = 0
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    result = compare(
        lambda steps: problem.loss(problem.params + steps @ directions),
        np.zeros(DIRECTIONS),
        directions @ problem.gradient,
        tolerance,
    )
    name, places = f"{DIRECTIONS} directions", np.arange(DIRECTIONS)
    return result.named(name, (DIRECTIONS,), places)


def _size(tensor: dict[str, Any]) -> int:
    return int(np.prod(tensor["shape"]))


def _part(vector: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """A tensor's part of a flat vector, as a view of its shape."""
    start = int(tensor["offset"])
    return vector[start : start + _size(tensor)].reshape(tuple(tensor["shape"]))


# --------------------------------------------------------------------------------- the differences


@dataclass(frozen=True)
class Comparison:
    """Derivatives by backpropagation and by differences; settled tells where the latter count.

    hidden tells that all are so small that the rounding of the loss drowns them at a step of STEP,
    and that this left some unsettled; vanishes, that moreover all differences are no more than
    such rounding.
    """

    analytic: Vector
    numeric: Vector
    settled: NDArray[np.bool_]
    hidden: bool
    vanishes: bool

    def contradicts(self, tolerance: float) -> bool:
        """Whether a settled difference shows the derivative by backpropagation to be wrong."""
        return self.named("", (self.settled.size,), np.arange(self.settled.size)).error > tolerance

    def named(
        self,
        name: str,
        shape: tuple[int, ...],
        elements: NDArray[np.intp],
        *,
        rescaled: bool = False,
        least: float = 0.0,
    ) -> TensorCheck:
        """The worst settled element as a TensorCheck; `elements` are flat places in the tensor.

        Errors are relative to the largest magnitude. Where `least` is above 0, they are relative to
        it if that is larger, and all elements count.
        """
        settled = self.settled | (least > 0)
        n_checked = settled.size
        undecided = n_checked - int(np.count_nonzero(settled))
        if undecided == n_checked:
            nan = float("nan")
            return TensorCheck(name, shape, n_checked, undecided, nan, None, nan, nan, rescaled)
        distance = np.where(settled, np.abs(self.analytic - self.numeric), -1.0)
        distance[~np.isfinite(self.analytic)] = np.inf
        largest = max(least, _magnitude(self.analytic), _magnitude(self.numeric[settled]))
        worst = int(np.argmax(distance))
        error = float(distance[worst] / largest) if distance[worst] > 0 else 0.0
        place = np.unravel_index(elements[worst], shape)
        return TensorCheck(
            name=name,
            shape=shape,
            n_checked=n_checked,
            undecided=undecided,
            error=error,
            index=tuple(int(i) for i in place),
            analytic=float(self.analytic[worst]),
            numeric=float(self.numeric[worst]),
            rescaled=rescaled,
        )


def compare(
    f: Callable[[Vector], float], point: Vector, analytic: Vector, tolerance: float
) -> Comparison:
    """Differences of f by each of its arguments at `point`, beside the derivatives claimed.

    With forward F and backward B one-sided differences, C = (F + B) / 2 is the central one and
    F - B the bend, h f'' where f is smooth. From a step h and its quarter the derivative is
    (16 C(h/4) - C(h)) / 15, free of the error of order h^2. They settle an argument if that differs
    from C(h/4) by less than an eighth of the tolerance (a kink in f'' makes it err by four times
    the difference), and if the bend shrinks to a quarter. A kink at the point leaves the bend as it
    is; one within the step moves C or the bend. Where the rounding of f could use up the tolerance,
    agreement would be chance, and such a step is left out.
    """
    numeric = np.zeros_like(point)
    settled = np.zeros(point.size, dtype=bool)
    noise = NOISE_MARGIN * _rounding(f, point)
    lengths = np.maximum(1.0, np.abs(point))
    allowed = np.inf
    for step in STEPS:
        audible = noise / (step / 4 * lengths) <= allowed
        (open_,) = np.nonzero(~settled & audible)
        if open_.size == 0:
            continue
        central, bend = _two_sided(f, point, open_, step * lengths[open_])
        central_quarter, bend_quarter = _two_sided(f, point, open_, step / 4 * lengths[open_])
        correction = (central_quarter - central) / 15
        numeric[open_] = central_quarter + correction
        allowed = tolerance * max(_magnitude(analytic), _magnitude(numeric))
        steady = np.abs(correction) <= allowed / 8
        # A jump J of the slope leaves 3 J here, and an error of J / 2 in the derivative.
        smooth = np.abs(bend - 4 * bend_quarter) <= 4 * allowed
        audible = noise / (step / 4 * lengths) <= allowed
        settled[open_] = (steady & smooth & audible[open_]) | (allowed == 0)
    largest = max(_magnitude(analytic), _magnitude(numeric))
    drowned = noise / STEP > tolerance * largest and not settled.all()
    rounding = bool((np.abs(numeric) <= noise / (STEP * lengths)).all())
    return Comparison(
        analytic, numeric, settled, hidden=bool(drowned), vanishes=bool(drowned) and rounding
    )


def _rounding(f: Callable[[Vector], float], point: Vector) -> float:
    """Standard deviation of the rounding errors of f near a point, an eps of f at least.

    Over steps so short, third differences hold nothing but rounding; a k-th difference has the
    variance of (2k choose k) single values (Hamming, Introduction to Applied Numerical Analysis).
    """
    # Powers of two, which add to the point without rounding it.
    steps = NOISE_STEP * np.exp2(np.ceil(np.log2(np.maximum(1.0, np.abs(point)))))
    values = np.array([f(point + k * steps) for k in range(1, 12)])
    spread = np.sqrt(np.mean(np.diff(values, 3) ** 2) / comb(6, 3))
    return float(max(spread, np.finfo(np.float64).eps * abs(values[0])))


def _magnitude(vector: Vector) -> float:
    """The largest finite magnitude, 0 if there is none."""
    return float(np.max(np.abs(vector), initial=0.0, where=np.isfinite(vector)))


def _two_sided(
    f: Callable[[Vector], float], point: Vector, arguments: NDArray[np.intp], steps: Vector
) -> tuple[Vector, Vector]:
    """Central difference and bend (forward minus backward difference) by some arguments of f."""
    full = point.copy()

    def restricted(values: Vector) -> float:
        full[arguments] = values
        return f(full)

    forward = approx_fprime(point[arguments], restricted, steps)
    backward = approx_fprime(point[arguments], restricted, -steps)
    return (forward + backward) / 2, forward - backward
