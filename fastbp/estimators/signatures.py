"""The `__init__` of a regressor, made of that of the classifier with the same network.

Parameters of estimators are written once, and none of them is here but those that a regressor has
not got.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar, cast

_Init = TypeVar("_Init", bound=Callable[..., None])

_OF_CLASSES = ("class_weight", "calibration", "label_smoothing")


def of_regressor(init: _Init) -> _Init:
    """A classifier's `__init__` as that of a regressor: another loss, and nothing of classes.

    scikit-learn reads an estimator's parameters and defaults from the signature of its `__init__`.
    So the two estimators' common parameters are written once.
    """
    signature = inspect.signature(init)
    parameters = {**signature.parameters}
    of_classes = [name for name in _OF_CLASSES if name in parameters]
    for name in of_classes:
        del parameters[name]
    parameters["loss"] = parameters["loss"].replace(default="squared_error")

    @functools.wraps(init)
    def __init__(self: object, *given: object, **named: object) -> None:
        for name in of_classes:
            if name in named:
                raise TypeError(f"{type(self).__name__} has no parameter {name!r}")
        init(self, *given, **{"loss": "squared_error", **named})
        for name in of_classes:
            del vars(self)[name]

    # What scikit-learn reads; mypy knows of no such attribute.
    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*parameters.values()]
    )
    return cast(_Init, __init__)
