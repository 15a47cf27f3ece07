"""L-BFGS: SciPy's L-BFGS-B, driven by the engine's loss and gradient over all samples.

SciPy keeps the memory of past gradients; it starts empty in every call. Vectors are float64 on
SciPy's side and of the plan's dtype on the engine's.
"""

import math
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from fastbp import _core
from fastbp.errors import NonFiniteError
from fastbp.nn.parameter import Array
from fastbp.ops.running import ROWS
from fastbp.train.notices import warn, warn_of_interruption
from fastbp.train.state import Onlooker, Problem, taken

# Samples that are looked at together for the layer at fault: their sums of every layer are in
# memory at once.
_BLOCK = 1024

# SciPy's status where a callback has asked for an end.
_STOPPED = 99


def minimise(
    problem: Problem,
    losses: list[float],
    *,
    max_iterations: int,
    max_evaluations: int | None = None,
    tol: float,
    verbose: bool,
    n_threads: int,
    onlooker: Onlooker | None = None,
) -> tuple[int, float]:
    """Minimise the loss over all samples, `problem.params` in place.

    Parameters
    ----------
    problem : Problem
        The samples, the weights to train and the penalty.
    losses : list of float
        Receives the loss after each iteration; one an iteration, also if an exception ends them.
    max_iterations, max_evaluations : int
        Bounds; reaching one gives a ConvergenceWarning. Of evaluations None is 20 an iteration.
    tol : float
        The largest component of the gradient at which the minimum counts as found.
    verbose : bool
        Print the loss after every iteration.
    n_threads : int
        Threads of each evaluation.
    onlooker : Onlooker or None
        Whoever is told of each iteration.

    Returns
    -------
    n_iterations : int
        Iterations made. Ctrl-C ends them with a UserWarning and the weights of the last.
    loss : float
        The loss at the weights; NaN if Ctrl-C came before the first iteration was over.

    Raises
    ------
    NonFiniteError
        The loss or a weight became infinite or NaN. After this and any other exception the weights
        are those of the last iteration.
    """
    if max_evaluations is None:  # a line search takes a few; SciPy itself gives up one after 20
        max_evaluations = 20 * max_iterations
    objective = _Objective(problem, n_threads)
    accepted = objective.start.copy()

    def after_iteration(intermediate_result: Any) -> None:  # the name tells SciPy what to pass
        if (
            onlooker is not None
        ):  # now that there is one: whether another follows, SciPy alone knows
            onlooker.begin(accepted.astype(problem.params.dtype))
        accepted[...] = intermediate_result.x
        losses.append(float(intermediate_result.fun))
        if verbose:
            print(f"Iteration {len(losses)}, loss = {losses[-1]:.8f}")
        if onlooker is not None and onlooker.end(accepted.astype(problem.params.dtype)):
            raise StopIteration

    try:
        result = scipy.optimize.minimize(
            objective,
            objective.start,
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration,
            options={"maxiter": max_iterations, "maxfun": max_evaluations, "gtol": tol},
        )
        problem.params[...] = result.x
        if not (math.isfinite(result.fun) and np.isfinite(problem.params).all()):
            raise _not_finite(problem, len(losses))
    except BaseException as error:
        problem.params[...] = accepted
        if not isinstance(error, KeyboardInterrupt):
            raise
        warn_of_interruption(len(losses), "iteration", shown="last")
        return len(losses), losses[-1] if losses else math.nan
    if result.status not in (0, _STOPPED):
        warn(
            f"L-BFGS has not converged after {result.nit} iterations and {result.nfev} evaluations"
            f" (at most {max_iterations} and {max_evaluations}): {result.message}. Larger limits or"
            " standardised features may help.",
            ConvergenceWarning,
        )
    return min(int(result.nit), max_iterations), float(result.fun)


def refuse_steps(**given: tuple[Any, Any]) -> None:
    """L-BFGS has no steps: arguments that belong to them, each given and as they have to be."""
    for name, (found, wanted) in given.items():
        if found is not wanted and not (isinstance(found, str) and found == wanted):
            raise ValueError(f"{name}: found {found!r} beside optimizer='lbfgs', wanted {wanted!r}")


def refuse_what_varies(plan: _core.Plan) -> None:
    """Random masks, and what couples a batch: their loss in training is not that of predictions."""
    for node in plan.nodes:
        row = None if node["kind"] == "callback" else ROWS.get(node["name"])
        if row is not None and (row["random"] or not row["row_independent"]):
            raise ValueError(
                f"optimizer: found 'lbfgs' for a network with {node['name']!r}, wanted one whose "
                "loss in training is that of its predictions"
            )


class _Objective:
    """The loss and its gradient at a vector, as SciPy asks for them."""

    def __init__(self, problem: Problem, n_threads: int) -> None:
        self._problem, self._n_threads = problem, n_threads
        self._gradient = np.empty_like(problem.params)
        self.start = problem.params.astype(np.float64)

    def __call__(self, vector: Array) -> tuple[float, Array]:
        problem = self._problem
        problem.params[...] = vector
        loss = problem.plan.loss_gradient(
            problem.params,
            problem.X,
            problem.y,
            sample_weight=problem.sample_weight,
            alpha=problem.alpha,
            grad=self._gradient,
            n_threads=self._n_threads,
        )
        return loss, self._gradient.astype(np.float64)


def _not_finite(problem: Problem, iteration: int) -> NonFiniteError:
    """The error for weights at which the loss is not finite, naming the first layer at fault."""
    culprit = _culprit(problem)
    where = f"layer {culprit}" if culprit >= 0 else "the loss itself"
    return NonFiniteError(
        f"The loss became infinite or NaN in iteration {iteration} of L-BFGS, first in {where}."
        " Features or targets on a wild scale are the usual cause; standardise them.",
        epoch=iteration,
        step=0,
        layer=culprit,
    )


def _culprit(problem: Problem) -> int:
    """The first layer with a sum that is not finite, by any sample; -1 if there is none."""
    n_samples = problem.n_samples
    first = math.inf
    for start in range(0, n_samples, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n_samples))
        X, y = taken(problem.X, rows), taken(problem.y, rows)
        values, _ = problem.plan.trace(problem.params, X, y)
        for n, node in enumerate(problem.plan.nodes):
            if not all(np.isfinite(values[v]).all() for v in node["results"]):
                first = min(first, n)
                break
    if first == math.inf:
        return -1
    # A layer is a node with weights, and what follows up to the next of them.
    return sum(1 for layer in problem.plan.layers if layer["node"] <= first) - 1
