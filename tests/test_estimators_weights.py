"""Weights of the estimators: how they are drawn, and what becomes of edits, wrong ones too.

That training goes on from edited weights is in test_estimators_continuation.py.
"""

import copy
import pickle

import numpy as np
import pytest
from helpers import IRIS, fitted, over_estimators, short_training
from sklearn.exceptions import ConvergenceWarning

from fastbp import MLPRegressor, nn
from fastbp.nn.initializers import INITIALIZERS

pytestmark = short_training

X, Y = IRIS


# -------------------------------------------------------------------------------------------- drawn


@pytest.mark.parametrize("name", INITIALIZERS)
def test_weight_init(name):
    model = MLPRegressor((500, 400), "tanh", weight_init=name, random_state=0)
    problem = model._gradient_problem(X, Y)
    tensors = {t["name"]: t for t in problem.plan.tensors}
    start = tensors["layer1.weight"]["offset"]
    weights = problem.params[start : start + 500 * 400]
    wanted = {"glorot": 2 / 900, "he": 2 / 500, "lecun": 1 / 500}[name.split("_")[0]]
    # The relative error of a standard deviation from 200,000 draws is at most 0.16 %.
    assert weights.std() == pytest.approx(np.sqrt(wanted), rel=0.01)
    assert abs(weights.mean()) < 5 * np.sqrt(wanted / 200_000)
    if name.endswith("uniform"):
        assert np.abs(weights).max() <= np.sqrt(3 * wanted)
    for tensor in problem.plan.tensors[1::2]:
        biases = problem.params[tensor["offset"] : tensor["offset"] + tensor["shape"][0]]
        assert biases.any() == (name == "glorot_uniform")  # scikit-learn draws them


@over_estimators
def test_the_weights_are_those_of_the_module(kind):
    model = kind((5, 4), "tanh", max_iter=3, random_state=0).fit(X, Y)
    names = [f"{i}.{what}" for i in (0, 2, 4) for what in ("weight", "bias")]
    for one in (model, pickle.loads(pickle.dumps(model))):
        views = [view for pair in zip(one.coefs_, one.intercepts_, strict=True) for view in pair]
        parameters = one.module_.parameters()
        assert [*parameters] == names
        for name, view in zip(names, views, strict=True):
            assert np.shares_memory(parameters[name].data, view)
        before = one.predict(X)
        raw = one.module_(X).data  # a network of its own, run at once
        np.testing.assert_array_equal(one._output(X, raw=True), raw)
        parameters["4.bias"].data += 100.0 * np.eye(len(one.intercepts_[-1]))[0]
        assert (one.predict(X) != before).any()


@over_estimators
def test_the_module_has_the_weights_that_were_put_in_place_of_others(kind):
    assert not hasattr(kind(), "module_")
    model = kind(5, "tanh", max_iter=3, random_state=0).fit(X, Y)
    module = model.module_
    taken = module[0].weight  # a tensor, which a computation may have read
    product = (taken * taken).sum()
    model.coefs_[0] = np.full((4, 5), 0.5)
    assert model.module_ is module
    np.testing.assert_array_equal(module[0].weight.data, np.full((4, 5), 0.5))
    with pytest.raises(RuntimeError, match="changed"):
        product.backward()
    model.intercepts_ = [np.full(5, 0.25), *model.intercepts_[1:]]
    np.testing.assert_array_equal(model.module_.parameters()["0.bias"].data, np.full(5, 0.25))
    for array in (model.coefs_[0], model.intercepts_[0]):
        assert np.shares_memory(array, module._home.flat)
    np.testing.assert_array_equal(model._output(X, raw=True), model.module_(X).data)
    model.coefs_[1] = np.zeros(3)
    with pytest.raises(ValueError, match=r"coefs_\[1\] has shape \(3,\)"):
        _ = model.module_


def test_what_is_frozen_stays_when_training_goes_on():
    model = MLPRegressor((5, 4), max_iter=3, random_state=0).fit(X, Y)
    model.module_[0].freeze()
    first, last = model.coefs_[0].copy(), model.coefs_[-1].copy()
    model.partial_fit(X, Y)
    np.testing.assert_array_equal(model.coefs_[0], first)
    assert (model.coefs_[-1] != last).all()
    model.module_.unfreeze()
    assert (model.partial_fit(X, Y).coefs_[0] != first).any()


def test_a_module_that_was_built_into_another_is_missed():
    model = MLPRegressor(5, max_iter=3, random_state=0).fit(X, Y)
    before = model.predict(X)
    nn.Sequential(copy.deepcopy(model.module_), nn.Linear(2)).build(4)
    pickle.dumps(model)
    nn.Sequential(model.module_, nn.Linear(2)).build(4)
    np.testing.assert_array_equal(model.predict(X), before)
    for lost in (pickle.dumps, copy.deepcopy):
        with pytest.raises(RuntimeError, match="deepcopy"):
            lost(model)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("he_normal", "relu"), ("he_uniform", "relu"), ("lecun_normal", "selu")],
)
def test_variance_is_kept_through_fifty_layers(name, activation):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 256))
    model = MLPRegressor((256,) * 50, activation, weight_init=name, random_state=0, max_iter=1)
    model.set_params(solver="sgd", learning_rate_init=1e-30).fit(features, features[:, 0])
    squares = [np.mean(layer["a"] ** 2) for layer in model.inspect(features, features[:, 0])[:-1]]
    # He keeps the mean square from layer to layer up to a factor 1 + O(1/256) each: a random walk
    # of 50 steps of some 10 %.
    assert 0.2 < squares[-1] / squares[0] < 5


def test_glorot_keeps_the_signal_of_tanh():
    rng = np.random.default_rng(0)
    features = 0.1 * rng.standard_normal((200, 256))
    model = MLPRegressor((256,) * 50, "tanh", weight_init="glorot_normal", random_state=0)
    model.set_params(max_iter=1, solver="sgd", learning_rate_init=1e-30)
    layers = model.fit(features, features[:, 0]).inspect(features, features[:, 0])
    # tanh shrinks its input a little at every layer; with the variance kept, not by orders.
    assert 0.1 < layers[49]["a"].std() / layers[0]["a"].std() < 2


# ------------------------------------------------------------------------------------------- edited


def test_edits_of_the_weights_take_effect():
    model = fitted(MLPRegressor)
    for array in model.coefs_ + model.intercepts_:
        assert np.shares_memory(array, model._views.flat)
        assert array.flags.writeable
    before, bias = model.predict(X), model.intercepts_[1].copy()
    model.coefs_[1] *= 2  # in place, through the list
    model.intercepts_[1][...] = 3.0
    np.testing.assert_allclose(model.predict(X) - 3.0, 2 * (before - bias))
    kept = model.coefs_
    model.coefs_ = [np.zeros((4, 6)), np.zeros((6, 1))]
    assert np.array_equal(model.predict(X), np.full(150, 3.0))
    assert model.coefs_ is not kept
    model.coefs_[1] = np.ones((6, 1), dtype=int)  # another dtype is converted
    model.intercepts_ = (np.ones(6), np.zeros(1))
    assert np.array_equal(model.predict(X), np.full(150, 6.0))
    for array in model.coefs_ + list(model.intercepts_):
        assert np.shares_memory(array, model._views.flat)


def test_swapped_layers_are_copied_with_care():
    model = MLPRegressor((4, 4), max_iter=1, random_state=0).fit(X, Y)
    first, second = model.coefs_[0].copy(), model.coefs_[1].copy()
    model.coefs_ = [model.coefs_[1], model.coefs_[0], model.coefs_[2]]
    model.predict(X)
    assert np.array_equal(model.coefs_[0], second)
    assert np.array_equal(model.coefs_[1], first)


@pytest.mark.parametrize(("activation", "dead"), [("relu", 7), ("leaky_relu", 0), ("gelu", 0)])
def test_dead_units(activation, dead):
    # R41: biases far below zero silence units of relu for good; others still learn.
    model = MLPRegressor(20, activation=activation, max_iter=1, random_state=0).fit(X, Y)
    model.coefs_[0][:, :7] /= 10
    model.intercepts_[0][:7] = -2
    hidden = model.inspect(X, Y)[0]
    assert np.count_nonzero((hidden["delta"] == 0).all(axis=0)) == dead


@over_estimators
def test_wrong_weights_are_named(kind):
    model = kind(3, max_iter=1).fit(X, Y)
    right = [c.copy() for c in model.coefs_]
    model.coefs_[1] = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"coefs_\[1\] has shape \(4, 4\)"):
        model.predict(X)
    model.coefs_ = right[:1]
    with pytest.raises(ValueError, match="coefs_ has 1 arrays"):
        model.predict(X)
    model.coefs_ = 5
    with pytest.raises(ValueError, match="coefs_ is 5; this model wants a list of 2"):
        model.predict(X)
    model.coefs_ = ["abc", right[1]]
    with pytest.raises(ValueError, match=r"coefs_\[0\] is 'abc'; .*\(4, 3\)"):
        model.predict(X)
    model.coefs_ = [right[0], [[1.0], [2.0, 3.0]]]
    with pytest.raises(ValueError, match=r"coefs_\[1\] is \[\[1.0\], \[2.0, 3.0\]\]"):
        model.predict(X)
    model.coefs_ = right
    model.intercepts_ = [np.zeros(3), np.zeros(7)]
    with pytest.raises(ValueError, match=r"intercepts_\[1\] has shape \(7,\)"):
        pickle.dumps(model)
    with pytest.raises(ValueError, match=r"intercepts_\[1\]"):
        model.set_params(warm_start=True).fit(X, Y)


def test_edited_weights_that_are_not_finite_are_named():
    model = MLPRegressor(3, max_iter=2, warm_start=True, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, Y)
    model.intercepts_[1][0] = np.nan
    with pytest.raises(ValueError, match=r"^intercepts_\[1\] holds infinite or NaN"):
        model.fit(X, Y)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_sample_without_weight_is_absent_even_where_its_loss_overflows(solver):
    """The largest float stands for "no data" in many files; masked by weight 0, it is not heard."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4)).astype(np.float32)
    y, weight = X[:, 0].copy(), np.ones(60)
    weight[7] = 0
    models = []
    for missing in (y[7], np.finfo(np.float32).min):
        y[7] = missing
        model = MLPRegressor(5, solver=solver, max_iter=3, random_state=0)
        models.append(model.fit(X, y, weight))
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
    assert models[0].loss_ == models[1].loss_
