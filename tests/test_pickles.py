"""Estimators through pickle, joblib and skops: small, without cycles, and of a known form."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone

import fastbp
from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor, nn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
TABLE = rng.standard_normal((30, 20))
SERIES = rng.standard_normal((30, 6, 2)).astype(np.float32)
CLASSES = np.array(["a", "b", "c"])[np.arange(30) % 3]
LSTM = nn.Sequential(nn.LSTM(4, output="last"), nn.Linear(1))
CONV = nn.Sequential(nn.Conv1d(4, 3), nn.BatchNorm1d(), nn.ReLU(), nn.Flatten(), nn.Linear(3))

CASES = [
    (MLPClassifier((50, 50), max_iter=2), TABLE, CLASSES),
    (MLPRegressor(300, max_iter=2, early_stopping=True), TABLE, TABLE[:, 0]),
    (MLPRegressor(50, solver="lbfgs", max_iter=2), TABLE, TABLE[:, :2]),
    (NetworkClassifier(max_epochs=2), TABLE, CLASSES),
    (NetworkClassifier(CONV, max_epochs=2), SERIES, CLASSES),
    (NetworkRegressor(LSTM, max_epochs=2, early_stopping=True), SERIES, TABLE[:, 0]),
]
each_case = pytest.mark.parametrize(
    ("model", "X", "y"), CASES, ids=[f"{i}-{type(one[0]).__name__}" for i, one in enumerate(CASES)]
)


def fitted(model, X, y):
    return clone(model).set_params(random_state=0).fit(X, y)


def bits(model, X):
    return np.asarray(getattr(model, "predict_proba", model.predict)(X)).tobytes()


@each_case
def test_skops_keeps_estimators(model, X, y):
    skops = pytest.importorskip("skops.io", reason="the extra 'test' has skops")
    model = fitted(model, X, y)
    data = skops.dumps(model)
    trusted = skops.get_untrusted_types(data=data)
    assert all(name.startswith("fastbp.") for name in trusted)
    loaded = skops.loads(data, trusted=trusted)
    assert bits(loaded, X) == bits(model, X)
    assert loaded._network.module is loaded.module_
    # Its weights are one array still: what is done to a layer is done to the model.
    next(iter(loaded.module_.parameters().values())).data[...] = 0
    assert bits(loaded, X) != bits(model, X)
    assert bits(loaded.fit(X, y), X) == bits(model.fit(X, y), X)


@each_case
def test_joblib_maps_weights_into_memory(model, X, y, tmp_path):
    model = fitted(model, X, y)
    joblib.dump(model, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(loaded.module_._built().flat, np.memmap)
    assert bits(loaded, X) == bits(model, X)


@each_case
def test_pickles_are_hardly_larger_than_weights(model, X, y):
    model = fitted(model, X, y)
    weights = model.n_params_ * model._network.dtype.itemsize
    assert len(pickle.dumps(model)) <= 1.1 * weights + 20_000


def test_pickles_of_what_goes_on_have_its_state():
    model = fitted(MLPClassifier((80, 80), max_iter=2, warm_start=True), TABLE, CLASSES)
    weights = model.n_params_ * model._network.dtype.itemsize
    assert len(pickle.dumps(model)) > 3 * weights  # Adam's two vectors beside them


@each_case
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_predict(model, X, y, copied):
    model = fitted(model, X, y)
    assert bits(copied(model), X) == bits(model, X)


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ((2, "9.1"), f"form 2, made by fastbp 9.1; fastbp {fastbp.__version__} wants form 1"),
        ((0, "0.0.1"), "form 0, made by fastbp 0.0.1"),
        (None, "without a number"),
    ],
)
@pytest.mark.parametrize("kind", [MLPClassifier, NetworkRegressor])
def test_states_of_other_forms_name_both_versions(kind, number, found):
    y = CLASSES if kind is MLPClassifier else TABLE[:, 0]
    state = kind(random_state=0).fit(TABLE, y).__getstate__()
    assert state.pop("_state_of") == (1, fastbp.__version__)
    if number is not None:
        state["_state_of"] = number
    with pytest.raises(ValueError, match=f"{kind.__name__}: found a state .*{found}"):
        kind().__setstate__(state)
