"""Which loss goes with which task, and so which output activation: the one place that pairs them.

An estimator's `loss` is a name of the task's language ("log_loss"); what runs is a row of the
engine's table ("softmax_cross_entropy"), which brings its link, the output activation. Everything
else is read from the table, so that a loss added there is on offer here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fastbp.nn.rows import rows


class Pair(NamedTuple):
    """The rows behind a classification loss.

    `independent` treats outputs one by one (binary and multilabel targets), `exclusive` is for
    classes of which exactly one holds; a loss that has no such row is applied to each class against
    the rest.
    """

    independent: str
    exclusive: str


_BY_TASK_NAME = {
    "log_loss": Pair("sigmoid_cross_entropy", "softmax_cross_entropy"),
    "focal": Pair("focal", "softmax_focal"),
}


def _of_targets(*targets: str) -> list[str]:
    return [name for name, row in rows("loss").items() if row["target"] in targets]


_PAIRED = {name for pair in _BY_TASK_NAME.values() for name in pair}

CLASSIFICATION = _BY_TASK_NAME | {
    name: Pair(name, name) for name in _of_targets("binary") if name not in _PAIRED
}
"""Losses of a classifier by name."""

REGRESSION = _of_targets("real", "nonnegative")
"""Losses of a regressor by name; each is the row of the same name."""

_SMOOTHING = "smoothing"

_ROW_TO_TASK_NAME = {row: name for name, pair in _BY_TASK_NAME.items() for row in pair}


def likelihood(loss: str) -> str:
    """The row that is the negative logarithm of the probability that the row `loss` predicts."""
    table = rows("loss")
    return next(
        row for row in CLASSIFICATION["log_loss"] if table[row]["link"] == table[loss]["link"]
    )


def classification_loss(name: object, owner: str) -> Pair:
    """The rows of a loss of the classifier `owner`, or a ValueError that says which there are."""
    word = name if isinstance(name, str) else ""
    if word in CLASSIFICATION:
        return CLASSIFICATION[word]
    hint = ""
    if word in REGRESSION:
        hint = f" {name!r} is a loss of regression: use it with a regressor, as MLPRegressor."
    elif word in _ROW_TO_TASK_NAME:
        hint = f" The loss that becomes {name!r} where it fits is {_ROW_TO_TASK_NAME[word]!r}."
    raise ValueError(
        f"The loss of {owner} must be one of {_listed(CLASSIFICATION)}; got {name!r} instead.{hint}"
    )


def smoothed(
    attributes: dict[str, float], name: str, params: object, smoothing: float
) -> dict[str, float]:
    """The attributes of a loss of classification, with an estimator's `label_smoothing`."""
    if not smoothing:
        return attributes
    takes = {attr["name"] for attr in rows("loss")[CLASSIFICATION[name].independent]["attrs"]}
    if _SMOOTHING not in takes:
        raise ValueError(
            f"label_smoothing: found {smoothing!r} beside loss={name!r}, wanted loss='log_loss',"
            " or 0"
        )
    if _SMOOTHING in attributes:
        raise ValueError(
            f"label_smoothing: found {smoothing!r} beside loss_params={params!r}, wanted one of"
            " them"
        )
    return {**attributes, _SMOOTHING: float(smoothing)}


def regression_loss(name: object, owner: str) -> str:
    """The row of a loss of the regressor `owner`, or a ValueError that says which there are."""
    word = name if isinstance(name, str) else ""
    if word in REGRESSION:
        return word
    hint = ""
    if word in CLASSIFICATION or word in _ROW_TO_TASK_NAME:
        hint = f" {name!r} is a loss of classification: use a classifier, as MLPClassifier."
    raise ValueError(
        f"The loss of {owner} must be one of {_listed(REGRESSION)}; got {name!r} instead.{hint}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
