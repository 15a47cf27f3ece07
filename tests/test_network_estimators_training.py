"""How estimators of any network train: as `fit` does, with its techniques, and ever on."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from helpers import IRIS, flat, same_history, short_training, small, small_network

import fastbp
from fastbp import NetworkClassifier, _core, fit, nn, optim

pytestmark = short_training

X, Y = IRIS


def assert_same(a, b):
    np.testing.assert_array_equal(flat(a), flat(b))
    assert same_history(a.history_, b.history_)
    for name in ("t_", "loss_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert getattr(a, name) == getattr(b, name)


# ------------------------------------------------------------------------------ beside `fastbp.fit`


def test_training_is_that_of_fit():
    model = small(max_epochs=4, schedule=optim.InverseScaling(0.1), dtype="float32").fit(X, Y)
    module = small_network().build(4, seed=5)
    result = fit(
        module,
        "softmax_cross_entropy",
        X.astype(np.float32),
        Y,
        schedule=optim.InverseScaling(0.1),
        alpha=0.0001,
        batch_size=16,
        max_epochs=4,
    )
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert model.loss_curve_ == result.history["loss"]


TECHNIQUES = {
    "clipped": {"clip_norm": 0.1},
    "clipped elements": {"clip_value": 0.01, "optimizer": "sgd"},
    "groups": {"rate_factors": {"*": 0.5, "0": 0.0}, "decay_factors": {"*.bias": 3.0, "3": 0.0}},
    "several batches": {"accumulate": 3, "history": "step"},
    "decay": {"optimizer": "adamw", "decay_factors": {"0": 0.0}},
}


@pytest.mark.parametrize("given", TECHNIQUES.values(), ids=TECHNIQUES)
def test_techniques_are_those_of_fit(given):
    given = {"alpha": 0.3, "learning_rate_init": 0.05} | given
    model = small(max_epochs=3, dtype="float32", **given).fit(X, Y)
    module = small_network().build(4, seed=5)
    given = {"batch_size": 16, "max_epochs": 3} | given
    result = fit(module, "softmax_cross_entropy", X.astype(np.float32), Y, **given)
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert same_history(model.history_, result.history)
    plain = {"alpha": 0.3, "learning_rate_init": 0.05, "optimizer": given.get("optimizer", "adam")}
    without = small(max_epochs=3, dtype="float32", **plain).fit(X, Y)
    assert not np.array_equal(flat(model), flat(without))


def test_a_limit_of_memory_is_kept_with_the_bits_of_none(monkeypatch):
    cut = []

    class Spy(_core.Training):
        def __init__(self, *data, **given):
            cut.append((given["batch_size"], given["accumulate"]))

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", Spy)
    rng = np.random.default_rng(0)
    many, y = rng.standard_normal((1024, 4)).astype(np.float32), rng.integers(0, 3, 1024)
    given = {"batch_size": 1024, "max_epochs": 2, "n_threads": 1}
    free = small(**given).fit(many, y)
    # Of twice 512 samples: the plan says what is taken, the data not counted.
    total = free._network.compiled.memory(512, accumulate=2, optimizer="adam", n_samples=1024)
    limit = total["total"]
    held = small(memory_limit=limit, **given).fit(many, y)
    np.testing.assert_array_equal(flat(free), flat(held))
    assert cut == [(1024, 1), (512, 2)]
    with pytest.raises(ValueError, match=r"memory_limit: found 1000 bytes, wanted at least"):
        small(memory_limit=1000, **given).fit(many, y)


def test_lbfgs_is_that_of_fit():
    def quiet(n_outputs=3):
        return nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(n_outputs))

    model = NetworkClassifier(quiet(), optimizer="lbfgs", tol=1e-3, random_state=5).fit(X, Y)
    module = quiet().build(4, seed=5, dtype=np.float64)
    result = fit(
        module,
        "softmax_cross_entropy",
        X,
        Y,
        optimizer="lbfgs",
        alpha=0.0001,
        tol=1e-3,
        max_epochs=200,
    )
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert same_history(model.history_, result.history)
    assert [*model.history_] == ["loss"]
    assert model.n_iter_ == result.n_epochs < 200
    assert model.score(X, Y) > 0.95
    for name in ("loss_curve_", "best_loss_", "validation_scores_", "partial_fit"):
        assert not hasattr(model, name)
    before = pickle.loads(pickle.dumps(model))
    model.set_params(warm_start=True).fit(X, Y)
    assert model.loss_ <= before.loss_ and model.n_iter_ < before.n_iter_
    # What it cannot do leaves the model as it was.
    history = model.history_
    model.module_ = small_network().build(4, dtype=np.float64)
    with pytest.raises(ValueError, match="found 'lbfgs' for a network with 'dropout'"):
        model.fit(X, Y)
    assert model.history_ is history
    for name, value in {"batch_size": 16, "early_stopping": True, "clip_norm": 1.0}.items():
        with pytest.raises(ValueError, match=f"{name}: found {value} beside optimizer='lbfgs'"):
            NetworkClassifier(quiet(), optimizer="lbfgs", **{name: value}).fit(X, Y)


# --------------------------------------------------------------------------------- training goes on

CASES = {
    "rule": {"optimizer": "momentum", "optimizer_params": {"momentum": 0.5}},
    "schedule": {"schedule": optim.InverseScaling(0.1), "n_threads": 2},
    "plateau": {"schedule": optim.ReduceOnPlateau(0.5, patience=0)},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.5},
    "score": {"early_stopping": True, "schedule": optim.ReduceOnPlateau(0.5, "max", patience=0)},
    "float32": {"dtype": "float32", "optimizer": "lion", "history": "step"},
    "mixed": {"precision": "fp16", "optimizer": "adam"},
    "groups": {"rate_factors": {"0": 0.3}, "decay_factors": {"*": 2.0}, "clip_norm": 0.5},
    "several batches": {"accumulate": 2, "optimizer": "nadam"},
}


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_three_epochs_and_three_more_equal_six(given):
    given = {"warm_start": True} | given
    whole, halves = small(max_epochs=6, **given), small(max_epochs=3, **given)
    whole.fit(X, Y)
    halves = pickle.loads(pickle.dumps(halves.fit(X, Y))).fit(X, Y)
    assert_same(halves, whole)
    assert (halves.n_iter_, whole.n_iter_) == (3, 6)
    assert_same(small(max_epochs=6, **given | {"warm_start": False}).fit(X, Y), whole)
    for model in (halves, whole):
        model.set_params(max_epochs=2).fit(X, Y)
    assert_same(halves, whole)


def test_a_plateau_follows_what_is_held_out():
    model = small(max_epochs=12, **CASES["score"]).fit(X, Y)
    expected = CASES["score"]["schedule"].rates(model.history_["validation_score"])[:-1]
    np.testing.assert_array_equal(model.history_["learning_rate"], expected)
    assert expected[-1] < expected[0]


def test_partial_fit_keeps_the_state_and_equals_fit():
    whole, parts = small(max_epochs=4).fit(X, Y), small()
    for i in range(4):
        parts.partial_fit(X, Y, classes=np.unique(Y))
        if i == 1:
            parts = pickle.loads(pickle.dumps(parts))
    assert_same(parts, whole)
    assert parts.n_iter_ == 1


def test_pickles_are_small_and_share_nothing(tmp_path):
    model = NetworkClassifier(max_epochs=2, warm_start=True).fit(X, Y)
    n_bytes = flat(model).nbytes
    assert 3 * n_bytes < len(pickle.dumps(model)) < 3 * n_bytes + 6000
    model.set_params(warm_start=False).fit(X, Y)
    assert n_bytes < len(pickle.dumps(model)) < n_bytes + 6000
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        twin.module_[0].weight.data[0, 0] += 1
        assert not np.array_equal(twin.predict_proba(X), model.predict_proba(X))
    model.set_params(warm_start=True)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not flat(mapped).flags.writeable
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))
    assert_same(mapped.fit(X, Y), model.fit(X, Y))


def test_the_module_may_be_edited_and_frozen():
    model = small(max_epochs=2, warm_start=True).fit(X, Y)
    before = model.predict_proba(X)
    model.module_[0].weight.data = np.zeros((4, 8))
    assert not np.array_equal(model.predict_proba(X), before)
    assert np.ptp(model.predict_proba(X), axis=0).max() == 0  # nothing of X is left
    loss = nn.SoftmaxCrossEntropy()(model.module_(X), Y)
    model.partial_fit(X, Y)
    with pytest.raises(RuntimeError, match="changed"):  # the weights since then
        loss.backward()
    model.module_[0].weight.data = np.zeros((4, 8))
    model.module_.freeze("0")
    model.fit(X, Y)
    assert not model.module_[0].weight.data.any()
    model.module_.parameters()["3.bias"].data[0] = np.nan
    with pytest.raises(ValueError, match=r"module_: parameter '3.bias' holds infinite or NaN"):
        model.fit(X, Y)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_gradients_are_checked_in_full_precision(precision):
    model = NetworkClassifier(precision=precision, max_epochs=2, random_state=0, dtype="float32")
    assert fastbp.check_gradients(model, X[:20], Y[:20]).ok
    assert fastbp.check_gradients(model.fit(X, Y), X[:20], Y[:20]).ok
    assert model.precision == precision


def test_lbfgs_refuses_mixed_precision():
    model = NetworkClassifier(optimizer="lbfgs", precision="bf16", dtype="float32")
    with pytest.raises(ValueError, match="precision"):
        model.fit(X, Y)


def test_a_network_that_was_built_into_another_is_missed():
    model = NetworkClassifier(max_epochs=2, random_state=0).fit(X, Y)
    before = model.predict(X)
    nn.Sequential(copy.deepcopy(model.module_), nn.Linear(2)).build(4)
    np.testing.assert_array_equal(model.predict(X), before)
    nn.Sequential(model.module_, nn.Linear(2)).build(4)
    for call in (model.predict, lambda _: pickle.dumps(model), lambda _: model.partial_fit(X, Y)):
        with pytest.raises(RuntimeError, match=r"module_: found it built .*deepcopy"):
            call(X)
