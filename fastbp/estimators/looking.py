"""Gradients that fitted estimators show: by inputs, by parameters, and of each sample.

Checks what is asked for and by which names; what runs is the engine's, and in `fastbp.nn.looking`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import columns
from fastbp.estimators.built import BuiltNetwork
from fastbp.estimators.docs import documented
from fastbp.estimators.hidden import Transforming
from fastbp.estimators.preparation import Sample, weights_of
from fastbp.nn import locking
from fastbp.nn.compiled import Plan
from fastbp.nn.looking import InputGradients, SampleGradients
from fastbp.nn.parameter import Array
from fastbp.train import threads
from fastbp.train.groups import factors_of
from fastbp.train.reading import sample_weights


class Looking(Transforming):
    """What fitted estimators show of their network."""

    @documented
    def input_gradient(self, X: Any, output: int | None = None) -> Any:
        """The gradient of the raw outputs by the inputs, of each sample.

        The raw output is what the loss gets: the prediction of most regressors (of scaled targets
        with `standardize`), the logarithm of that of a 'poisson' regressor, and a classifier's
        scores before softmax or the logistic function, and before `calibration` divides them. As in
        `predict` there are no random masks, and batch normalisation goes by its running statistics.
        Exact, by one pass forward and back
        for each output, on one thread; saliency maps (Simonyan, Vedaldi and Zisserman 2013,
        arXiv:1312.6034) are its magnitudes.

        Parameters
        ----------
        X : {array-like, data frame} of shape (n_samples, n_features)
            The features, in the form that `fit` was given them; not sparse.
        output : int or None, default=None
            The place of one output, from 0; None is all. A classifier has one for each class or
            label, in the order of `classes_`, and of two classes one, for the second: so that of a
            label is ``np.searchsorted(model.classes_, label)``.

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_outputs, *input_shape), of the weights' dtype
            (n_samples, *input_shape) of one output. Of several inputs a dict of these, by name,
            of those that are numbers. By features as they are given: with `standardize` that is of
            each by its spread; NaN of categories and missing values, by which there is none.

        Raises
        ------
        <shared errors of prediction>
            Or there is no such output.
        TypeError
            X is sparse, since its gradient would not be; or the network looks all inputs up, as
            embeddings do: between integers there is no gradient.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X = np.random.default_rng(0).standard_normal((50, 2))
        >>> model = MLPRegressor(4, "identity", alpha=0, solver="lbfgs", random_state=0)
        >>> model.fit(X, 3 * X[:, 0] - X[:, 1]).input_gradient(X[:1]).round(2)
        array([[[ 3., -1.]]])
        """
        check_is_fitted(self)
        given, X = X, self._features(X)
        if scipy.sparse.issparse(X):
            raise TypeError(
                "input_gradient: X is sparse, and its gradient would be dense; wanted an array, as"
                " X.toarray()"
            )
        with locking.swapping:
            flat, network = self._flat(), self._network
            look = network.look(_by_inputs, False)
        outputs = range(look.n_outputs) if output is None else [_place(output, look.n_outputs)]
        inputs = network.named(X)
        if not look.real:
            raise TypeError(
                "input_gradient: found inputs that the network looks up, as embeddings do, wanted"
                " numbers: between integers there is no gradient; transform gives what the network"
                " makes of them"
            )
        found = dict(zip(look.real, look(flat, inputs, outputs), strict=True))
        if output is not None:
            found = {name: one[:, 0] for name, one in found.items()}
        if isinstance(X, Mapping):
            return found
        of_features = found[look.real[0]]  # beside it, at most the mask that was made of X
        if hasattr(self, "_columns"):
            return columns.gradients(self, self._columns, given, of_features)
        return of_features

    @documented
    def loss_gradient(
        self, X: Any, y: Any, sample_weight: Any = None, *, return_loss: bool = False
    ) -> Any:
        """The gradient of the training loss by all parameters.

        It is what a step of training on these samples follows, before it is clipped: of the mean
        of their losses by weights, `class_weight` among them ('balanced' by the shares that classes
        have in these samples), with the penalty, which is
        ``alpha / 2`` times the sum of squared weights, divided by the sum of sample weights, and
        nothing for rules with a decay of their own, as 'adamw'. Where a solver has converged on
        these samples, it is near zero. There are no random masks; batch normalisation goes by the
        moments of these samples. It takes as long as a step, without the update.

        Parameters
        ----------
        X, y, sample_weight
            Samples, as for `fit`; not every class has to occur in them.
        return_loss : bool, default=False
            Whether the loss is returned as well.

        Returns
        -------
        gradient : dict of str to ndarray, of the weights' dtype
            By the names of ``module_.parameters()`` arrays of their shapes; those that are not
            trained, as frozen ones, have zeros. Those of a multilayer perceptron's layers are the
            names of their places in `module_`: "0.weight" and "0.bias" of ``coefs_[0]`` and
            ``intercepts_[0]``, then, behind an activation, "2.weight" and so on.
        loss : float
            Only if `return_loss`; with the penalty, as in `loss_curve_`.

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            An array is not what it should be; the message names it.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
        >>> model = MLPRegressor(4, "tanh", solver="lbfgs", random_state=0).fit(X, y)
        >>> gradient = model.loss_gradient(X, y)
        >>> {name: one.shape for name, one in gradient.items()}
        {'0.weight': (1, 4), '0.bias': (4,), '2.weight': (4, 1), '2.bias': (1,)}
        >>> all(np.abs(one).max() < model.tol for one in gradient.values())  # it has converged
        True
        """
        network, flat, sample = self._looked_on(X, y, sample_weight)
        with locking.swapping:
            plan = network.look(_of_training, scipy.sparse.issparse(sample.X))
        rule, decay_factors = self._rule(), getattr(self, "decay_factors", None)
        factors = factors_of(decay_factors, plan.parameters, "decay_factors")
        grad = np.empty_like(flat)
        loss = plan.core.loss_gradient(
            flat,
            plan.samples(network.named(sample.X)),
            sample.y,
            sample_weight=sample.weight,
            alpha=rule.alpha if factors is None else 0.0,
            grad=grad,
            n_threads=threads.resolve(self.n_threads),
        )
        weight = len(sample.y) if sample.weight is None else np.sum(sample.weight, dtype=np.float64)
        gradient, parameters = dict[str, Array](), network.home.parameters
        for i, name in enumerate(plan.parameters):
            place, size = plan.core.parameters[i]["offset"], parameters[name].size
            part = slice(place, place + size)
            if factors is not None and parameters[name].penalised and parameters[name].trainable:
                # The penalty's part, where it differs: alpha f w / sum of sample weights.
                strength = rule.alpha * factors[i] / weight
                grad[part] += flat.dtype.type(strength) * flat[part]
                loss += 0.5 * strength * float(np.sum(np.square(flat[part], dtype=np.float64)))
            gradient[name] = grad[part].reshape(parameters[name].shape)
        return (loss, gradient) if return_loss else gradient

    @documented
    def per_sample_gradient_norms(self, X: Any, y: Any) -> NDArray[np.float64]:
        """How long the gradient of each sample's own loss by all parameters is.

        The L2 norm over all parameters that are trained, of the loss of that sample alone, without
        weights or the penalty: exactly, not as an estimate. Large ones are samples that training
        heeds most, hard ones and wrong labels among them. As in `predict` there are no random
        masks, and batch normalisation goes by its running statistics, or no sample would have a
        gradient of its own.

        Where all that is trained are dense layers, each used once, on samples without further axes,
        as in a multilayer perceptron, it takes a pass forward and back on one thread. Of ``z = a W
        + b`` with ``d = dloss/dz`` the gradient by W is the outer product of a and d, so that
        ``|dW|^2 + |db|^2 = |a|^2 |d|^2 + |d|^2`` (Goodfellow 2015, arXiv:1510.01799).
        For all other networks (positions, convolutions, recurrence, normalisation, shared or
        derived weights) each sample goes forward and back by itself, to the gradient by all
        parameters, which is then summed: n_samples gradients of batches of one, each of which reads
        all weights and writes as many numbers.

        Parameters
        ----------
        X, y
            Samples, as for `fit`; not every class has to occur in them.

        Returns
        -------
        norms : ndarray of shape (n_samples,), float64

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            An array is not what it should be; the message names it.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
        >>> y = 2 * X[:, 0]
        >>> y[3] = 5  # a typing error
        >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0).fit(X, y)
        >>> int(model.per_sample_gradient_norms(X, y).argmax())
        3
        """
        network, flat, sample = self._looked_on(X, y, None)
        with locking.swapping:
            look = network.look(_of_samples, scipy.sparse.issparse(sample.X))
        return look.norms(flat, network.named(sample.X), sample.y)

    def _looked_on(self, X: Any, y: Any, sample_weight: Any) -> tuple[BuiltNetwork, Array, Sample]:
        """The fitted network with its weights, and samples as they are for training."""
        check_is_fitted(self)
        X, y, dtype = self._data(X, y, fresh=False, dtype=self._network.dtype)
        with locking.swapping:
            target = self._targets(y, dtype, fresh=False, complete=False)
            flat, network = self._flat(), self._network
        weight = weights_of(sample_weights(sample_weight, y.shape[0], dtype), target, dtype)
        return network, flat, Sample(X, target.values, weight)


def _place(output: Any, n_outputs: int) -> int:
    """The place of one of the raw outputs."""
    try:
        place = operator.index(output)
    except TypeError:
        place = -1
    if not 0 <= place < n_outputs:
        raise ValueError(
            f"output: found {output!r}, wanted the place of one of the raw outputs, 0 to"
            f" {n_outputs - 1}, or None"
        )
    return place


# ------------------------------------------------------------------- what is compiled for looking


def _of_training(network: BuiltNetwork, sparse: bool) -> Plan:
    """The plan of training, in full precision."""
    return Plan(network.module, {"": (network.row(), 1.0)}, network.inputs(sparse))


def _by_inputs(network: BuiltNetwork, sparse: bool) -> InputGradients:
    return InputGradients(network.module, network.inputs(sparse))


def _of_samples(network: BuiltNetwork, sparse: bool) -> SampleGradients:
    return SampleGradients(network.module, network.inputs(sparse), network.row())
