"""Hidden layers of fitted estimators as features: `transform`, by scikit-learn's conventions.

Which layer is meant is told here; what runs, in `fastbp.nn.hidden`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import columns
from fastbp.estimators.base import BaseTrained
from fastbp.estimators.built import BuiltNetwork
from fastbp.estimators.docs import documented
from fastbp.nn import locking
from fastbp.nn.hidden import Activations
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array
from fastbp.train import threads


class _Activating(BaseTrained):
    """`transform`.

    No transformer by itself, so that scikit-learn names no columns here: they depend on the layer.
    """

    @documented
    def transform(self, X: Any, layer: int | str | None = None) -> Any:
        """What a hidden layer makes of samples, as features for another model.

        As in `predict` there are no random masks, and batch normalisation goes by its running
        statistics; a sample's activations do not depend on the other samples.

        Parameters
        ----------
        <shared features>
        layer : int, str or None, default=None
            Which part of `module_`: its path, as in ``module_.modules()``, or its place among the
            parts of a `Sequential`, as in ``module_[layer]``, from the end if negative: of a
            multilayer perceptron -1 is the raw output and -2 the last hidden layer, behind its
            activation. What it returned is taken, at its last call if there are several. None is
            what the last layer with a matrix of weights reads: the last hidden layer, if that is
            followed by the output's alone.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_units), of the weights' dtype
            Of layers with several axes the elements of a sample in order, the last axis fastest. A
            data frame if `set_output` asks for one.

        Raises
        ------
        <shared errors of prediction>
            Or there is no such layer or no hidden one, or it makes nothing of samples; the message
            lists those that there are.
        TypeError
            `layer` is of another type.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier((5, 3), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.transform(X).shape
        (4, 3)
        >>> model.transform(X, layer=1).shape  # behind the first activation
        (4, 5)
        """
        check_is_fitted(self)
        found = _Part(self, layer)
        if "_sklearn_output_config" in vars(self):  # what set_output was told, as clone passes on
            found._sklearn_output_config = self._sklearn_output_config
        return found.transform(X)

    def _activations(self, X: Any, layer: int | str | None) -> Array:
        X = self._features(X)
        with locking.swapping:
            flat, network = self._flat(), self._network
            look = network.look(_hidden, scipy.sparse.issparse(X), _path(self.module_, layer))
        made = look(flat, network.named(X), threads.resolve(self.n_threads))
        return made.reshape(len(made), -1)

    def _n_units(self, layer: int | str | None) -> int:
        with locking.swapping:
            self._flat()
            network, part = self._network, _path(self.module_, layer)
            return int(np.prod(network.look(_hidden, _built_for_sparse(network), part).shape))


class _Part(TransformerMixin, BaseEstimator):
    """A layer of a fitted estimator: scikit-learn gives the columns of `transform` its names."""

    def __init__(self, of: _Activating, layer: int | str | None) -> None:
        self.of = of
        self.layer = layer

    def transform(self, X: Any) -> Array:
        """What the layer makes of samples."""
        return self.of._activations(X, self.layer)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Of its units."""
        prefix = type(self.of).__name__.lower()
        names = [f"{prefix}{i}" for i in range(self.of._n_units(self.layer))]
        return np.array(names, dtype=object)


class Transforming(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Activating):
    """What makes a transformer of an estimator with a network in it."""

    @property
    def _n_features_out(self) -> int:
        """scikit-learn's name for the number of columns of `transform`."""
        check_is_fitted(self)
        return self._n_units(None)

    def get_feature_names_out(
        self, input_features: Any = None, layer: int | str | None = None
    ) -> Array:
        """Names of the columns of `transform`: that of the class and a number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked, against the names of the features in training.
        layer : int, str or None, default=None
            As of `transform`.

        Returns
        -------
        names : ndarray of str objects of shape (n_units,)

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            There is no such layer, or the features had other names.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [1.0]]), np.array([-2.0, 2.0])
        >>> model = MLPRegressor((5, 2), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.get_feature_names_out()
        array(['mlpregressor0', 'mlpregressor1'], dtype=object)
        """
        check_is_fitted(self)
        if layer is not None:
            return _Part(self, layer).get_feature_names_out()
        names: Array = super().get_feature_names_out(input_features)
        return names

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        kept = self.dtype is None and not columns.are_wanted(self)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"] if kept else []
        return tags


def _hidden(network: BuiltNetwork, sparse: bool, part: str | None) -> Activations:
    return Activations(network.module, network.inputs(sparse), part)


def _built_for_sparse(network: BuiltNetwork) -> bool:
    return getattr(network.home.inputs, "content", "") == "sparse"


def _path(module: Module, layer: int | str | None) -> str | None:
    """The path of a part that is named by its path or place."""
    if layer is None or isinstance(layer, str):
        return layer
    try:
        place = operator.index(layer)
    except TypeError:
        raise TypeError(
            f"layer: found {layer!r}, wanted the path of a part of module_, its place, or None"
        ) from None
    paths = [path for path, _ in module.children()]
    if not -len(paths) <= place < len(paths):
        raise ValueError(
            f"layer: found {place}, wanted a place from {-len(paths)} to {len(paths) - 1}: module_"
            f" has {len(paths)} parts, {paths}"
        )
    return paths[place]
