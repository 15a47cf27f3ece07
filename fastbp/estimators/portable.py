"""How fitted estimators leave Python: as a file of arrays.

What is written is told in `saving`, which is read only when it is asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained


class Portable:
    """The methods by which estimators are written."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, which `fastbp.load` reads.

        The file is in the safetensors format: arrays, and the rest as JSON in its metadata. There
        is no code in it, so files of strangers may be loaded, which pickles may not. It has
        everything: parameters, labels, names of features, weights, and the state of training. A
        file of that name is replaced in one step once the new one is complete.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            A parameter or attribute is no value but code, and so cannot be written: a function as
            `network` or `scoring`, a splitter, an `nn.Lambda`; the message names it. pickle, joblib
            and skops keep those. Or a parameter is invalid, or a weight is not finite.
        OSError
            The file cannot be written; what was there before is there still.

        Examples
        --------
        >>> import os
        >>> import tempfile
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array(["a", "a", "b", "b"])
        >>> model = MLPClassifier(4, solver="lbfgs", random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     model.save(path)
        ...     fastbp.load(path).predict([[-2.0], [2.0]])
        array(['a', 'b'], dtype='<U1')
        """
        from fastbp.estimators.saving import save

        save(cast("BaseTrained", self), path)
