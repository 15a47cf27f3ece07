"""Training as scikit-learn's callbacks see it (its 1.9 and later): `fit` is a task, and each epoch,
or iteration of L-BFGS, is one of its subtasks.

An estimator without callbacks has nothing of this done. Where an epoch ends is `stochastic`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastbp.estimators.built import Start
from fastbp.estimators.holding import Passed
from fastbp.nn.parameter import Array
from fastbp.train.state import TrainingState

try:
    from sklearn.callback import CallbackSupportMixin as Supporting
    from sklearn.callback import with_callbacks
except ImportError:  # scikit-learn before 1.9

    class Supporting:  # type: ignore[no-redef]
        """Nothing: there are no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as it is."""
        return method


if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained
    from fastbp.estimators.preparation import Target

__all__ = ["Supporting", "Tasks", "with_callbacks"]


class Tasks:
    """What callbacks are told of a training call.

    Parameters
    ----------
    estimator : estimator
    start : Start
        The network that is trained.
    target : Target
    passed : Passed
        Samples as the caller has passed them.
    sample_weight : array-like or None
        As it was passed.
    n_tasks : int
        Epochs, or iterations, at most.
    """

    def __init__(
        self,
        estimator: BaseTrained,
        start: Start,
        target: Target,
        passed: Passed,
        sample_weight: Any,
        n_tasks: int,
    ) -> None:
        self._estimator, self._start, self._target = estimator, start, target
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._told = {"estimator": estimator, **passed._asdict(), "metadata": metadata}
        self._whole = estimator._init_callback_context(max_subtasks=n_tasks)
        self._whole.call_on_fit_task_begin(**self._told)
        self._task: Any = None
        self._name = "iteration" if estimator._by_lbfgs else "epoch"

    def begin(self, params: Array) -> None:
        """An epoch begins at these weights."""
        self._task = self._whole.subcontext(task_name=self._name)
        self._task.call_on_fit_task_begin(**self._told, **self._fitted(params))

    def end(self, params: Array) -> bool:
        """An epoch has ended at these weights; whether a callback wants no more."""
        return bool(self._task.call_on_fit_task_end(**self._told, **self._fitted(params)))

    def finish(self, params: Array) -> None:
        """Training is over, and the model is that of these weights."""
        self._whole.call_on_fit_task_end(**self._told, **self._fitted(params))

    def _fitted(self, params: Array) -> dict[str, Any]:
        return {"reconstruction_attributes": lambda: self._as_if_over(params)}

    def _as_if_over(self, params: Array) -> dict[str, Any]:
        """The attributes of an estimator whose training has ended at these weights."""
        shown, network = copy.copy(self._estimator), copy.deepcopy(self._start.network)
        flat = network.settle()
        flat[...] = params
        shown.__dict__.pop("_network", None)  # of a training before
        shown._show(Start(network, {}, flat))
        shown._network, shown._plans, shown._training_state = network, {}, TrainingState(0)
        shown.__dict__.update(self._target.fitted)
        of_callbacks = ("_skl_callbacks", "_callback_fit_ctx", "_parent_callback_ctx")
        return {k: v for k, v in vars(shown).items() if not k.startswith(of_callbacks)}
