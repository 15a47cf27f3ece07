"""predict_log_proba: exact where probabilities round to 0 or 1, and the logarithm elsewhere."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from fastbp import MLPClassifier
from fastbp.estimators.losses import CLASSIFICATION, likelihood
from fastbp.nn.rows import rows

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
TARGETS = {"binary": Y > 0, "multiclass": Y, "multilabel": np.eye(3, dtype=int)[Y]}
PROBABLE = [name for name in CLASSIFICATION if name != "hinge"]


@pytest.fixture(params=[np.float32, np.float64])
def dtype(request):
    return request.param


def fitted(target, loss, dtype):
    model = MLPClassifier(5, loss=loss, solver="lbfgs", dtype=dtype, random_state=0, max_iter=20)
    return model.fit(X, TARGETS[target])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("loss", PROBABLE)
@pytest.mark.parametrize("target", TARGETS)
def test_log_probabilities(target, loss, dtype, scale):
    model = fitted(target, loss, dtype)
    features = scale * X
    found = model.predict_log_proba(features)
    assert found.dtype == dtype
    raw = model._output(features, raw=True).astype(np.longdouble)
    if target == "multiclass":
        gaps = raw - raw.max(axis=1, keepdims=True)
        others = np.exp(gaps).sum(axis=1, keepdims=True, where=gaps < 0)
        wanted = gaps - np.log1p(others)
    else:
        wanted = -np.logaddexp(0, -raw)
    if target == "binary":
        wanted = np.concatenate([-np.logaddexp(0, raw), wanted], axis=1)
    # A few roundings of terms no larger than the result, and of the engine's exp and log; what is
    # smaller than the smallest normal number may be 0.
    info = np.finfo(dtype)
    np.testing.assert_allclose(found, wanted, rtol=20 * info.eps, atol=info.smallest_normal)
    assert np.isfinite(found).all()
    assert not np.signbit(found[found == 0]).any()
    assert scale == 1.0 or (model.predict_proba(features) == 0).any()
    one = [model.predict_log_proba(features[i : i + 1])[0] for i in range(len(X))]
    np.testing.assert_array_equal(found, one)


def test_every_loss_with_probabilities_has_a_likelihood():
    for pair in CLASSIFICATION.values():
        for row in pair:
            if rows("loss")[row]["link"] != "identity":
                assert rows("loss")[likelihood(row)]["link"] == rows("loss")[row]["link"]
