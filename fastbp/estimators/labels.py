"""Class labels to targets of the engine and back.

Knows the three kinds of a classifier's target: binary and multiclass labels of any sortable type,
and multilabel indicators. Knows no loss.
"""

import reprlib
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from fastbp.nn.parameter import Array


class Labels(NamedTuple):
    """What a fitted classifier knows of its labels.

    Attributes
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        "binary" also where there is but one class.
    classes : ndarray of shape (n_classes,)
        Sorted labels; the numbers of the columns where multilabel.
    sparse : bool
        Whether multilabel indicators came as a sparse matrix, and so go back as one.
    """

    kind: str
    classes: Array
    sparse: bool = False

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return 1 if self.kind == "binary" else len(self.classes)

    def decode(self, scores: Array, threshold: float) -> Any:
        """Labels of predictions (n, n_outputs): of the largest, or of each above `threshold`."""
        if self.kind == "multiclass":
            return self.classes[scores.argmax(axis=1)]
        above = (scores > threshold).astype(np.int64)
        if self.kind == "multilabel":
            return scipy.sparse.csr_matrix(above) if self.sparse else above
        if len(self.classes) == 1:
            return np.repeat(self.classes, len(above))
        return self.classes[above[:, 0]]

    def accuracy(
        self, scores: Array, target: Array, sample_weight: Array | None, *, threshold: float
    ) -> float:
        """scikit-learn's accuracy of predictions (n, n_outputs) against targets of the engine."""
        if self.kind == "multiclass":
            wanted = target if target.ndim == 1 else target.argmax(axis=1)
            hits = scores.argmax(axis=1) == wanted
        else:
            hits = ((scores > threshold) == (target > 0.5)).all(axis=1)
        return float(np.average(hits, weights=sample_weight))


def learn(y: Any) -> tuple[Labels, Array]:
    """The labels in `y`, and `y` as indices (n,) of classes or indicators (n, n_labels)."""
    sparse = scipy.sparse.issparse(y)
    y = _checked(y)
    if y.ndim == 2:
        return Labels("multilabel", np.arange(y.shape[1]), sparse), y
    classes, indices = np.unique(y, return_inverse=True)
    return _of_classes(classes), indices


def declare(classes: Any, y: Any) -> Labels:
    """Labels for the `classes` that are named at the first `partial_fit`."""
    named = distinct(classes)
    if y.ndim == 2 and y.shape[1] > 1:
        if len(named) != y.shape[1]:
            raise ValueError(
                f"classes has {len(named)} labels, but y is an indicator matrix of {y.shape[1]}."
            )
        return Labels("multilabel", np.arange(y.shape[1]), scipy.sparse.issparse(y))
    return _of_classes(named)


def distinct(classes: Any) -> Array:
    """The labels that a user lists as `classes`, sorted, each once."""
    try:
        listed = np.asarray(classes)
        # A list of numbers and strings would become strings: as objects, they cannot be sorted.
        each = listed if isinstance(classes, np.ndarray) else np.asarray(classes, dtype=object)
        mixed = listed.dtype.kind in "US" and not all(isinstance(c, str | bytes) for c in each)
        missing = listed.dtype.kind in "fO" and any(c is None or c != c for c in listed)
        infinite = listed.dtype.kind == "f" and bool(np.isinf(listed).any())
        if listed.ndim == 1 and listed.size > 0 and not (mixed or missing or infinite):
            labels: Array = np.unique(listed)
            return labels
    except (TypeError, ValueError):  # ragged lists; labels without an order
        pass
    raise ValueError(
        f"classes is {reprlib.repr(classes)}; a list or 1-D array of at least one label, all of one"
        " kind and none missing, was wanted."
    )


def encode(labels: Labels, y: Any, *, complete: bool) -> Array:
    """`y` by known labels: indices (n,) or indicators (n, n_labels).

    With `complete` every known label has to occur, as at a warm start.
    """
    y = _checked(y)
    if (y.ndim == 2) != (labels.kind == "multilabel"):
        raise ValueError(
            f"y has shape {y.shape}, but the model was fitted to {labels.kind} targets"
            f" with {len(labels.classes)} classes."
        )
    if y.ndim == 2:
        if y.shape[1] != len(labels.classes):
            raise ValueError(
                f"y has {y.shape[1]} labels; the model was fitted to {len(labels.classes)}."
            )
        return np.asarray(y)
    found, inverse = np.unique(y, return_inverse=True)
    known = dict(zip(labels.classes.tolist(), range(len(labels.classes)), strict=True))
    new = [label for label in found.tolist() if label not in known]
    if new or (complete and len(found) < len(known)):
        wanted = "exactly" if complete else "no others than"
        raise ValueError(
            f"y has the classes {found.tolist()}; to go on, this model wants {wanted}"
            f" {labels.classes.tolist()}."
        )
    return np.array([known[label] for label in found.tolist()], dtype=np.intp)[inverse]


def _of_classes(classes: Array) -> Labels:
    return Labels("multiclass" if len(classes) > 2 else "binary", classes)


def _checked(y: Any) -> Array:
    """`y` as labels (n,) or dense indicators (n, n_labels); anything else is refused."""
    if scipy.sparse.issparse(y):
        y = y.toarray()
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    if y.ndim == 2 and not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"y has {y.shape[1]} columns with values other than 0 and 1; one label a sample, or an"
            " indicator matrix of 0 and 1, was wanted."
        )
    return np.asarray(y)
