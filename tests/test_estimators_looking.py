"""Gradients that estimators show: held against finite differences, NumPy, tensors, and training."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers import IRIS, STEP, flat, short_training, small, small_network
from looked_at import (
    CSR,
    DENSE,
    LABELS,
    NUMBERS,
    OTHERS,
    PAIRS,
    SEVERAL,
    TABLE,
    TWO,
    Shop,
    loss_of_one,
    on_tensors,
)
from sklearn.exceptions import NotFittedError

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor, compile, nn
from fastbp.nn.looking import InputGradients, SampleGradients

pytestmark = short_training

X, Y = IRIS
ALL = DENSE | OTHERS
over_all = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
EPS = np.finfo(np.float64).eps


def close(found, wanted, rounding):
    """Within so many roundings of the largest element: the elements are sums of such terms."""
    assert found.shape == wanted.shape
    scale = max(np.abs(wanted).max(), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=rounding * EPS * scale)


# ------------------------------------------------------------------------------ gradients by inputs


@over_all
def test_input_gradient_is_that_of_tensors(make):
    model, samples, _ = make()
    found = model.input_gradient(samples)
    z, leaves = on_tensors(model, samples)
    found = found if isinstance(samples, dict) else {next(iter(leaves)): found}
    for k in range(z.shape[1]):
        z, leaves = on_tensors(model, samples)
        z[:, k].sum().backward()
        assert set(found) == set(leaves)
        for name, leaf in leaves.items():
            # Sums of some hundred terms, in other orders.
            close(found[name][:, k], leaf.grad, 500)


@over_all
def test_input_gradient_agrees_with_finite_differences(make):
    model, samples, _ = make()
    found = model.input_gradient(samples)
    parts = samples if isinstance(samples, dict) else {"": samples}
    found = found if isinstance(samples, dict) else {"": found}
    direction = np.random.default_rng(2)
    for name, slopes in found.items():
        given = parts[name]
        along = np.where(given == -9.0, 0, direction.standard_normal(given.shape))
        along /= np.sqrt((along**2).sum(axis=tuple(range(1, given.ndim)), keepdims=True))

        def raw(t, name=name, given=given, along=along):
            moved = given + t * along
            return model._output({**parts, name: moved} if name else moved, raw=True)

        numeric = (raw(STEP) - raw(-STEP)) / (2 * STEP)
        axes = tuple(range(2, slopes.ndim))
        exact = (slopes * along[:, None]).sum(axis=axes)
        # h^2/6 f''' + eps f/h is 4e-11 for f of size and curvature 1; the third derivative along
        # a direction of length 1 is up to some 100 where samples are normalised.
        np.testing.assert_allclose(exact, numeric, rtol=0, atol=1e-8)


def test_input_gradient_of_a_dense_network_is_that_of_numpy():
    rng = np.random.default_rng(4)
    model = MLPRegressor((7, 5), "tanh", max_iter=3, random_state=0).fit(TABLE, PAIRS)
    samples = rng.standard_normal((2500, 5))  # more than are looked at in one pass
    (w1, w2, w3), (b1, b2, _) = model.coefs_, model.intercepts_
    a1 = np.tanh(samples @ w1 + b1)
    a2 = np.tanh(a1 @ w2 + b2)
    # dz/dx = W1 diag(1 - a1^2) W2 diag(1 - a2^2) W3, of each sample.
    wanted = np.einsum("ih,nh,hk,nk,ko->noi", w1, 1 - a1**2, w2, 1 - a2**2, w3)
    found = model.input_gradient(samples)
    assert found.shape == (2500, 2, 5)
    close(found, wanted, 100)  # 5 + 7 terms, and 1 - a^2 with the rounding of tanh
    np.testing.assert_array_equal(model.input_gradient(samples, output=1), found[:, 1])
    assert model.input_gradient(samples[:3], output=np.int64(0)).shape == (3, 5)


def test_input_gradient_is_of_the_dtype_of_the_weights():
    model = MLPClassifier(6, max_iter=3, random_state=0).fit(X.astype(np.float32), Y)
    exact = copy.deepcopy(model)
    assert model.input_gradient(X).dtype == np.float32
    exact = MLPClassifier(6, max_iter=1, random_state=0).fit(X, Y)
    for to, of in zip(
        exact.coefs_ + exact.intercepts_, model.coefs_ + model.intercepts_, strict=True
    ):
        to[...] = of
    # Two layers, sums of up to 6 terms of size 1.
    np.testing.assert_allclose(
        model.input_gradient(X), exact.input_gradient(X), rtol=0, atol=50 * np.finfo("f4").eps
    )


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkRegressor])
@pytest.mark.parametrize("standardize", [False, True])
def test_input_gradient_is_by_the_features_as_they_are_given(kind, standardize):
    frame = pd.DataFrame(TABLE * [1, 10, 0.1, 3, 1] + 5, columns=list("abcde"))
    frame.insert(1, "word", np.array(["x", "y", "z"])[LABELS])
    frame.loc[[3, 7], "c"] = np.nan
    given = {"standardize": standardize, "allow_nan": True, "categorical_features": ["word"]}
    model = (
        kind(random_state=0, activation="tanh", **given)
        if kind is MLPClassifier
        else (kind(nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(1)), random_state=0, **given))
    )
    limit = "max_iter" if kind is MLPClassifier else "max_epochs"
    model.set_params(**{limit: 3, "dtype": "float64"}).fit(frame, LABELS)
    found = model.input_gradient(frame)
    assert found.shape == (24, 3 if kind is MLPClassifier else 1, 6)
    for j, name in enumerate(frame):
        if name == "word":
            assert np.isnan(found[..., j]).all()
            continue
        up, down = frame.copy(), frame.copy()
        h = STEP * frame[name].std()
        up[name] += h
        down[name] -= h
        numeric = (model._output(up, raw=True) - model._output(down, raw=True)) / (2 * h)
        there = frame[name].notna().to_numpy()
        # As above, in units of the spread; without scaling inputs are up to 30.
        error = np.abs(found[there, :, j] - numeric[there]) * frame[name].std()
        assert error.max() < 1e-7
        assert np.isnan(found[~there, :, j]).all()
    assert np.isnan(model.input_gradient(frame, 0)[[3, 7], 3]).all()
    assert np.isfinite(model.per_sample_gradient_norms(frame, LABELS)).all()
    assert model.transform(frame).shape == (24, model._n_features_out)


def test_inputs_without_gradient_or_without_effect():
    class Half(nn.Module):
        def __init__(self):
            self.head = nn.Linear(1)

        def forward(self, a, b):
            return self.head(a)

    given = {"a": TABLE, "b": TABLE}
    model = NetworkRegressor(Half(), max_epochs=1, random_state=0).fit(given, NUMBERS)
    found = model.input_gradient(given)
    assert found["a"].all()
    assert not found["b"].any()
    assert found["b"].shape == (len(TABLE), 1, 5)

    words = np.random.default_rng(0).integers(0, 9, (24, 3))
    network = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(3))
    reader = NetworkClassifier(network, max_epochs=1).fit(words, LABELS)
    with pytest.raises(TypeError, match=r"looks? up.*wanted numbers: between integers there is no"):
        reader.input_gradient(words)

    shop = NetworkRegressor(Shop(), max_epochs=1).fit(SEVERAL, NUMBERS)
    assert {name: one.shape for name, one in shop.input_gradient(SEVERAL, 0).items()} == {
        "sizes": (24, 5),
        "ages": (24, 3),
    }


def test_as_many_inputs_as_a_network_has():
    class Eight(nn.Module):
        def __init__(self):
            self.head = nn.Linear(1)

        def forward(self, a, b, c, d, e, f, g, h):
            return self.head(a + 2 * b + c + d + e + f + g + h)

    given = dict.fromkeys("abcdefgh", TABLE)
    model = NetworkRegressor(Eight(), max_epochs=1, dtype="float64").fit(given, NUMBERS)
    found, slope = model.input_gradient(given, 0), model.module_.head.weight.data[:, 0]
    assert [*found] == [*given]
    close(found["b"], np.tile(2 * slope, (24, 1)), 0)
    close(found["h"], np.tile(slope, (24, 1)), 0)


def test_what_input_gradient_refuses():
    model = MLPClassifier(4, max_iter=1).fit(CSR, LABELS)
    with pytest.raises(TypeError, match="X is sparse, and its gradient would be dense"):
        model.input_gradient(CSR)
    assert model.input_gradient(CSR.toarray()).shape == (24, 3, 5)
    for output in (3, -1, "setosa", 0.5):
        with pytest.raises(ValueError, match=r"output: found .*wanted the place .*, 0 to 2"):
            model.input_gradient(TABLE, output)
    with pytest.raises(ValueError, match="features"):
        model.input_gradient(TABLE[:, :3])


# ---------------------------------------------------------------------------------- of the training


def step(model, *data, rate=1.0, **given):
    """What one step of gradient descent on all samples takes from each parameter."""
    before = {name: one.data.copy() for name, one in model.module_.parameters().items()}
    model.partial_fit(*data, **given)
    after = model.module_.parameters()
    return {name: (one - after[name].data) / rate for name, one in before.items()}


STEPS = {
    "plain": ({}, None),
    "penalty": ({"alpha": 3.0}, None),
    "weighted": ({"alpha": 3.0}, np.linspace(0, 3, 150)),
    "classes": ({"class_weight": {0: 2.0, 1: 0.5}, "loss": "focal"}, np.linspace(0, 3, 150)),
}


@pytest.mark.parametrize(("given", "weight"), STEPS.values(), ids=STEPS)
def test_loss_gradient_is_what_a_step_takes_from_the_parameters(given, weight):
    model = MLPClassifier(
        6, "tanh", solver="sgd", momentum=0, learning_rate_init=1.0, batch_size=150, **given
    ).partial_fit(X, Y, classes=[0, 1, 2])
    gradient, loss = model.loss_gradient(X, Y, weight, return_loss=True)[::-1]
    assert model.loss_gradient(X, Y, weight).keys() == gradient.keys()
    taken = step(model, X, Y, weight)
    assert [*gradient] == [*model.module_.parameters()]
    for name, one in gradient.items():
        # The difference of weights of size 1 has their rounding; the order of sums may differ.
        np.testing.assert_allclose(one, taken[name], rtol=0, atol=20 * EPS)
    assert loss == pytest.approx(model.loss_curve_[-1], rel=20 * EPS)


def test_loss_gradient_of_networks_has_their_factors_and_leaves_what_is_frozen():
    network = nn.Sequential(
        nn.Linear(4), nn.BatchNorm1d(), nn.Tanh(), nn.Linear(4), nn.Tanh(), nn.Linear(3)
    ).freeze("3")
    model = NetworkClassifier(
        network,
        optimizer="sgd",
        learning_rate_init=1.0,
        alpha=3.0,
        decay_factors={"0": 0.5, "*.bias": 7.0},
        batch_size=150,
        dtype="float64",
    ).partial_fit(X, Y, classes=[0, 1, 2])
    loss, gradient = model.loss_gradient(X, Y, return_loss=True)
    taken = step(model, X, Y)
    idle = {"3.weight", "3.bias", "1.running_moments"}
    assert idle < set(gradient)
    for name, one in gradient.items():
        if name in idle:
            assert not one.any()
        else:
            assert one.any()
            np.testing.assert_allclose(one, taken[name], rtol=0, atol=50 * EPS)
    assert loss == pytest.approx(model.loss_curve_[-1], rel=50 * EPS)


def test_loss_gradient_of_sparse_samples_and_without_a_penalty():
    model = MLPRegressor(4, solver="adamw", alpha=2.0, max_iter=2).fit(CSR, PAIRS)
    sparse, dense = (model.loss_gradient(x, PAIRS) for x in (CSR, CSR.toarray()))
    z = CSR @ model.coefs_[0] + model.intercepts_[0]
    a = np.maximum(z, 0)
    residual = (a @ model.coefs_[1] + model.intercepts_[1] - PAIRS) / len(PAIRS)
    for found in (sparse, dense):
        close(found["2.weight"], a.T @ residual, 100)
        close(found["2.bias"], residual.sum(axis=0), 100)


def test_loss_gradient_is_of_full_precision():
    model = small(max_epochs=2, precision="bf16", dtype="float32").fit(X, Y)
    full = small(max_epochs=2, dtype="float32").fit(X, Y)
    flat(full)[:] = flat(model)
    for name, one in model.loss_gradient(X, Y).items():
        np.testing.assert_array_equal(one, full.loss_gradient(X, Y)[name])


def test_balanced_classes_are_those_of_the_samples_that_are_looked_at():
    model = MLPClassifier(6, max_iter=2, class_weight="balanced", random_state=0).fit(X, Y)
    some = np.r_[:50, 60:70, 140:150]
    shares = {0: 70 / 3 / 50, 1: 70 / 3 / 10, 2: 70 / 3 / 10}
    weights = np.array([shares[label] for label in Y[some]])
    balanced = model.loss_gradient(X[some], Y[some])
    deltas = model.inspect(X[some], Y[some])[-1]["delta"]
    model.set_params(class_weight=None)
    for name, one in model.loss_gradient(X[some], Y[some], weights).items():
        close(balanced[name], one, 20)  # weights that are rounded otherwise
    close(deltas, model.inspect(X[some], Y[some], weights)[-1]["delta"], 20)


# ------------------------------------------------------------------------- gradients of each sample


@over_all
def test_norms_are_those_of_one_sample_at_a_time(make):
    model, samples, y = make()
    trained = [one for one in model.module_.parameters().values() if one.trainable]
    wanted = []
    for i in range(len(y)):
        loss_of_one(model, samples, y, i).backward()
        wanted.append(np.sqrt(sum((one.tensor.grad**2).sum() for one in trained)))
    found = model.per_sample_gradient_norms(samples, y)
    assert found.dtype == np.float64
    # A gradient's elements are sums of some hundred terms.
    np.testing.assert_allclose(found, wanted, rtol=500 * EPS, atol=500 * EPS * max(wanted))


@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_dense_networks_are_looked_at_in_one_pass(make, monkeypatch):
    model, samples, y = make()
    wanted = model.set_params(alpha=0.0).per_sample_gradient_norms(samples, y)
    monkeypatch.setattr(SampleGradients, "_one_by_one", None)
    np.testing.assert_array_equal(model.per_sample_gradient_norms(samples, y), wanted)
    for i in range(3):
        gradient = model.loss_gradient(samples[i : i + 1], y[i : i + 1]).values()
        norm = np.sqrt(sum((one**2).sum() for one in gradient))
        assert norm == pytest.approx(wanted[i], rel=100 * EPS)


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_looked_at_sample_by_sample(make, monkeypatch):
    model, samples, y = make()
    monkeypatch.setattr(SampleGradients, "_by_layers", None)
    assert model.per_sample_gradient_norms(samples, y).shape == y.shape[:1]


def test_norms_of_sparse_and_of_many_samples():
    model = MLPClassifier(4, "tanh", max_iter=1).fit(CSR, TWO)
    sparse = model.per_sample_gradient_norms(CSR, TWO)
    close(sparse, model.per_sample_gradient_norms(CSR.toarray(), TWO), 50)
    many, labels = scipy.sparse.vstack([CSR] * 100).tocsr(), np.tile(TWO, 100)
    close(model.per_sample_gradient_norms(many, labels), np.tile(sparse, 100), 50)


def test_norms_heed_no_weights_of_classes():
    model = MLPClassifier(4, max_iter=1, class_weight={0: 9.0}, random_state=0).fit(X, Y)
    found = model.per_sample_gradient_norms(X, Y)
    np.testing.assert_array_equal(
        found, model.set_params(class_weight=None).per_sample_gradient_norms(X, Y)
    )
    model.set_params(class_weight="balanced")
    # Divided by 9, and multiplied, in place of 150.
    close(found[:9], model.per_sample_gradient_norms(X[:9], Y[:9]), 20)


# -------------------------------------------------------------------------------------- all of them


def test_nothing_runs_again_to_be_looked_at():
    model, *_ = OTHERS["in parts that run again"]()
    trained = compile(model.module_, "softmax_cross_entropy").core
    assert any(node["runs_again"] for node in trained.nodes)
    given = model.module_, model.module_._home.inputs
    for look in (InputGradients(*given), SampleGradients(*given, nn.SoftmaxCrossEntropy())):
        assert not any(node["runs_again"] for node in look.core.nodes)


LOOKS = {
    "input_gradient": lambda model: model.input_gradient(X),
    "loss_gradient": lambda model: model.loss_gradient(X, Y)["0.weight"],
    "per_sample_gradient_norms": lambda model: model.per_sample_gradient_norms(X, Y),
}
over_looks = pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
over_kinds = pytest.mark.parametrize(
    "kind", [MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor]
)


def quickly(kind):
    if issubclass(kind, (MLPClassifier, MLPRegressor)):
        return kind(8, max_iter=2, random_state=0)
    return kind(small_network(3 if kind is NetworkClassifier else 1), max_epochs=2, random_state=0)


@over_kinds
@over_looks
def test_looking_wants_a_fitted_model_and_changes_none(kind, look):
    with pytest.raises(NotFittedError):
        look(quickly(kind))
    model = quickly(kind).fit(X, Y)
    before, size = flat(model).copy(), len(pickle.dumps(model))
    first = look(model)
    np.testing.assert_array_equal(look(model), first)
    np.testing.assert_array_equal(flat(model), before)
    assert len(pickle.dumps(model)) == size
    np.testing.assert_array_equal(look(pickle.loads(pickle.dumps(model))), first)
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(look, [model] * 8):
            np.testing.assert_array_equal(one, first)


@over_kinds
@over_looks
def test_looking_goes_by_the_weights_as_they_are(kind, look):
    model = quickly(kind).fit(X, Y)
    first = look(model)
    weight = next(iter(model.module_.parameters().values()))
    weight.data[...] += 0.5
    assert not np.array_equal(look(model), first)
    weight.data[...] -= 0.5
    model.fit(X, Y)
    np.testing.assert_allclose(look(model), first, rtol=0, atol=1e-4)  # float32 of some


@over_kinds
def test_what_is_frozen_later_counts_no_more(kind):
    model = quickly(kind).fit(X, Y)
    before = model.per_sample_gradient_norms(X, Y)
    model.module_.freeze("0")
    assert (model.per_sample_gradient_norms(X, Y) < before).any()
    assert not model.loss_gradient(X, Y)["0.weight"].any()
