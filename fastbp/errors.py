"""The one exception of fastbp's own: training met a number that is not finite.

Every other misuse raises ValueError or TypeError, whose sentence names the argument, what was found
and what was wanted.
"""


class NonFiniteError(ValueError):
    """A loss or a weight became infinite or NaN in training.

    The estimator stays usable: it holds the weights of the last whole epoch, or the starting
    weights where the first epoch failed. A learning rate that is too high or features on wild
    scales are the usual causes.

    Parameters
    ----------
    message : str
        The sentence that is shown.
    epoch : int, default=-1
        The epoch in which it happened, from 0, counted over all that the estimator was trained,
        warm starts and `partial_fit` included; for L-BFGS the iteration. -1 where it is not known.
    step : int, default=-1
        The step of that epoch (a batch each) in which it happened, from 0. -1 where it is not
        known.
    layer : int, default=-1
        The first layer with a number that is not finite, from 0. -1 where no layer but the loss
        itself overflowed.

    Examples
    --------
    >>> import warnings
    >>> from fastbp import MLPRegressor, NonFiniteError
    >>> X, y = [[1e3], [-1e3], [2e3]], [1.0, 2.0, 3.0]
    >>> model = MLPRegressor(4, solver="sgd", learning_rate_init=1e6, random_state=0)
    >>> try:
    ...     model.fit(X, y)
    ... except NonFiniteError as error:
    ...     print(error.epoch >= 0, error.step)
    True 0
    """

    epoch: int
    step: int
    layer: int

    def __init__(self, message: str, *, epoch: int = -1, step: int = -1, layer: int = -1) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.layer = layer
