"""The update rule and the rates that the parameters of a multilayer perceptron's `solver` mean.

scikit-learn's names are told apart here, and what contradicts itself is refused. How rules and
rates act is the business of fastbp.train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastbp.nn.rows import rows
from fastbp.train.rates import Adaptive, InverseOfSamples, Rates, Steady, rates_of
from fastbp.train.rules import Rule

if TYPE_CHECKING:
    from fastbp.estimators.dense import BaseMLP

ALPHA = 0.0001
"""The default of `alpha`, scikit-learn's."""


def rule_of_solver(estimator: BaseMLP) -> Rule:
    """The update rule, and the penalty.

    Rules that decay weights have no penalty beside that: `alpha` is then their decay, unless there
    is a `weight_decay`.
    """
    row, alpha = estimator.solver, float(estimator.alpha)
    if row == "lbfgs":
        _refuse_decay(estimator)
        return Rule(row, {}, alpha)
    if row == "sgd" and estimator.momentum > 0:
        row = "nesterov" if estimator.nesterovs_momentum else "momentum"
    # A rule's attributes have the names of the estimator's parameters.
    names = {attr["name"] for attr in rows("rule")[row]["attrs"]}
    decay = {"weight_decay"} & names
    attributes = {name: float(getattr(estimator, name)) for name in names - decay}
    if decay:
        return Rule(row, {**attributes, "weight_decay": _decay(estimator)}, 0.0)
    _refuse_decay(estimator)
    return Rule(row, attributes, alpha)


def _decay(estimator: BaseMLP) -> float:
    alpha, decay = estimator.alpha, estimator.weight_decay
    if decay is None:
        return float(alpha)
    if alpha not in (0, ALPHA, decay):
        raise ValueError(
            f"weight_decay: found {decay!r} beside alpha={alpha!r}, which with"
            f" solver={estimator.solver!r} are the same decay, wanted one of them"
        )
    return float(decay)


def _refuse_decay(estimator: BaseMLP) -> None:
    if estimator.weight_decay:
        raise ValueError(
            f"weight_decay: found {estimator.weight_decay!r} beside solver={estimator.solver!r},"
            " wanted solver='adamw', whose update decays weights, or alpha, a penalty, in its place"
        )


def rates_of_solver(estimator: BaseMLP) -> Rates:
    """The learning rates."""
    rate, schedule = float(estimator.learning_rate_init), estimator.schedule
    if schedule is not None:
        if estimator.learning_rate != "constant":
            raise ValueError(
                f"schedule: found {schedule!r} beside learning_rate={estimator.learning_rate!r},"
                " wanted one of them: with learning_rate='constant' rates are the schedule's"
            )
        return rates_of(schedule, rate, scored=bool(estimator.early_stopping))
    if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
        return InverseOfSamples(rate, float(estimator.power_t))
    if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
        return Adaptive(rate)
    return Steady(rate)


def refuse_steps(**given: tuple[Any, bool]) -> None:
    """What L-BFGS has no use for, or cannot do: arguments, and whether each is at work."""
    for name, (found, at_work) in given.items():
        if at_work:
            raise ValueError(
                f"{name}: found {found!r} beside solver='lbfgs', which makes no steps and minimises"
                f" the loss of predictions; wanted another solver, or no {name}"
            )
