"""The frozen snapshot of predict: the same answers, whatever becomes of the estimator."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import IRIS, over_dtypes
from sklearn.exceptions import NotFittedError

from fastbp import MLPClassifier, MLPRegressor, _core
from fastbp.testing import network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = IRIS
NAMES = np.array(["setosa", "versicolor", "virginica"])
TARGETS = {
    "binary": Y > 0,
    "multiclass": NAMES[Y],
    "multilabel": np.eye(3, dtype=int)[Y],
    "scores": Y,
    "values": Y + 0.5,
    "several values": np.stack([Y, 3.0 * Y], axis=1),
}


def fitted(target, dtype=np.float64):
    options = {"max_iter": 5, "random_state": 0, "dtype": dtype}
    if "values" in target:
        return MLPRegressor((20, 7), **options).fit(X, TARGETS[target])
    loss = "hinge" if target == "scores" else "log_loss"
    return MLPClassifier((20, 7), loss=loss, **options).fit(X, TARGETS[target])


@over_dtypes
@pytest.mark.parametrize("target", TARGETS)
def test_it_answers_as_predict_does(target, dtype):
    model = fitted(target, dtype)
    samples = X.astype(dtype)
    predict = model.predictor()
    for rows in (samples, samples[:1], samples[::2, ::-1], np.asfortranarray(samples), samples[:0]):
        if len(rows):
            wanted = model.predict(np.ascontiguousarray(rows))
            found = predict(rows)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        else:
            assert len(predict(rows)) == 0
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predict))(samples), predict(samples))


def test_it_is_a_snapshot():
    model = fitted("values")
    before = model.predict(X)
    predict = model.predictor()
    model.coefs_[0][:] = 0
    np.testing.assert_array_equal(predict(X), before)
    copy = pickle.loads(pickle.dumps(predict))
    model.fit(2 * X, -Y)
    for snapshot in (predict, copy):
        np.testing.assert_array_equal(snapshot(X), before)
    assert not np.array_equal(model.predictor()(X), before)


def test_edits_before_it_is_made_count():
    model = fitted("values")
    model.intercepts_[-1][:] += 1000
    model.coefs_ = [2 * w for w in model.coefs_]
    np.testing.assert_array_equal(model.predictor()(X), model.predict(X))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (X.astype(np.float32), TypeError, "X: found dtype float32, wanted float64"),
        (X[:, :3], ValueError, "X: found 3 columns, wanted 4"),
        (X[0], ValueError, "X: found 1 dimensions, wanted 2"),
        (X.tolist(), TypeError, "X: found list, wanted a numpy array"),
        (sp.csr_array(X[:10]), ValueError, "X: found sparse samples, wanted dense"),
    ],
)
def test_shape_and_dtype_are_checked(wrong, error, message):
    with pytest.raises(error, match=message):
        fitted("values").predictor()(wrong)


def test_it_needs_a_fitted_model():
    with pytest.raises(NotFittedError):
        MLPRegressor().predictor()


@pytest.mark.threads
def test_many_threads_may_call_one():
    net = network((64, 128, 10), ("relu", {}), n_samples=300)
    frozen = net.plan.freeze(net.params)
    wanted = net.plan.predict(net.params, net.X)

    def work(i):
        return np.array_equal(frozen.predict(net.X, n_threads=1 + i % 3), wanted)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


@over_dtypes
def test_frozen_plans_read_sparse_samples_too(dtype):
    net = network((9, 20, 3), dtype=dtype, sparse=True, n_samples=80)
    found = net.plan.freeze(net.params).predict(net.X, raw=True)
    np.testing.assert_array_equal(found, net.plan.predict(net.params, net.X, raw=True))


def test_freezing_may_run_out_of_memory():
    net = network((6, 9, 4), n_samples=5)
    for nth in (1, 2):
        _core.fail_allocation(nth)
        try:
            with pytest.raises(MemoryError):
                net.plan.freeze(net.params)
        finally:
            _core.fail_allocation(0)
    np.testing.assert_array_equal(
        net.plan.freeze(net.params).predict(net.X), net.plan.predict(net.params, net.X)
    )


def test_repeated_calls_allocate_nothing():
    net = network((6, 9, 4), n_samples=5)
    frozen = net.plan.freeze(net.params)
    frozen.predict(net.X)
    before = _core.allocation_count()
    for _ in range(20):
        frozen.predict(net.X)
    assert _core.allocation_count() == before
