"""Whom displays are asked about: fitted estimators of this package, or an error in words."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastbp.estimators.base import BaseTrained


def fitted_network(estimator: Any, asker: str) -> BaseTrained:
    """The estimator, where it is a fitted one of fastbp.

    Parameters
    ----------
    estimator : object
        What the user gave.
    asker : str
        The display, for errors.

    Returns
    -------
    BaseTrained

    Raises
    ------
    TypeError
        It is no estimator of this package.
    NotFittedError
        It is not fitted.
    """
    if not isinstance(estimator, BaseTrained):
        hint = ""
        if hasattr(estimator, "best_estimator_"):
            hint = "; that of a search is its best_estimator_"
        elif hasattr(estimator, "named_steps"):
            hint = "; that of a Pipeline is its last step, pipeline[-1]"
        raise TypeError(
            f"{asker}: estimator is a {type(estimator).__name__}, wanted MLPClassifier,"
            f" MLPRegressor, NetworkClassifier or NetworkRegressor of fastbp{hint}"
        )
    check_is_fitted(estimator)
    return estimator
