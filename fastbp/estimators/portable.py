"""How fitted estimators leave Python: as a file of arrays, or as an ONNX model.

What is written is told in `saving` and `exporting`, which are read only when they are asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

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

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The fitted estimator as an ONNX model, which runs without Python and fastbp.

        Its inputs are "X", or the names of several inputs, float32 or, for what embeddings look up,
        int64; samples come along the first axis, in any number. Its outputs are those of skl2onnx
        without ZipMap: "label" and "probabilities" of classifiers ("scores" where the loss gives no
        probabilities), "variable" of shape (n_samples, n_outputs) of regressors. Arithmetic is in
        float32, whatever the dtype of the weights; the outputs in onnxruntime agree with
        `predict_proba` or `predict` to about 1e-5 of their size. Sparse samples come dense.

        Parameters
        ----------
        path : str or path-like, default=None
            A file to write the model to.

        Returns
        -------
        model : onnx.ModelProto
            Of opset 18.

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ImportError
            The onnx package is not installed: the extra is ``fastbp[onnx]``.
        ValueError
            A part of the network, such as a Function of Python, has no form in ONNX, or there are
            columns of categories; the message names it. Or weights are too large for float32 or for
            ONNX (2 GB).

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", random_state=0).fit(X, y)
        >>> [output.name for output in model.to_onnx().graph.output]
        ['label', 'probabilities']
        """
        from fastbp.estimators.exporting import to_onnx

        return to_onnx(cast("BaseTrained", self), path)
