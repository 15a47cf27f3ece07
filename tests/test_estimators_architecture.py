"""What the hidden layers of a multilayer perceptron are made of: lists of activations, dropout,
norms, ways past a layer."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
from helpers import IRIS, same_history, short_training
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import MLPClassifier, MLPRegressor, check_gradients, diagnose, fit, nn

pytestmark = short_training

X, Y = IRIS
KINDS = [MLPClassifier, MLPRegressor]
over_kinds = pytest.mark.parametrize("kind", KINDS)


def linear(width):
    return nn.Linear(width, init="he_normal", bias_init="zeros")


# Parameters, and the hidden layers that they ask for, of 6, 6 and 5 units.
ARCHITECTURES = {
    "activations": (
        {"activation": ["relu", "leaky_relu", "identity"]},
        lambda: [linear(6), nn.ReLU(), linear(6), nn.LeakyReLU(), linear(5)],
    ),
    "numbers": (
        {"activation": ("elu", "elu", "tanh"), "activation_params": [{"alpha": 0.5}, None, {}]},
        lambda: [linear(6), nn.ELU(0.5), linear(6), nn.ELU(), linear(5), nn.Tanh()],
    ),
    "dropout": (
        {"dropout": 0.2},
        lambda: [
            *(linear(6), nn.ReLU(), nn.Dropout(0.2)),
            *(linear(6), nn.ReLU(), nn.Dropout(0.2)),
            *(linear(5), nn.ReLU(), nn.Dropout(0.2)),
        ],
    ),
    "batch norm": (
        {"batch_norm": True, "dropout": (0.1, 0.0, 0.3), "activation": "tanh"},
        lambda: [
            *(linear(6), nn.BatchNorm1d(), nn.Tanh(), nn.Dropout(0.1)),
            *(linear(6), nn.BatchNorm1d(), nn.Tanh()),
            *(linear(5), nn.BatchNorm1d(), nn.Tanh(), nn.Dropout(0.3)),
        ],
    ),
    "layer norm": (
        {"layer_norm": True, "activation": "gelu"},
        lambda: [
            *(linear(6), nn.LayerNorm(), nn.GELU()),
            *(linear(6), nn.LayerNorm(), nn.GELU()),
            *(linear(5), nn.LayerNorm(), nn.GELU()),
        ],
    ),
    "residual": (
        {"residual": True, "dropout": 0.1, "layer_norm": True},
        lambda: [
            *(linear(6), nn.LayerNorm(), nn.ReLU(), nn.Dropout(0.1)),
            nn.Residual(nn.Sequential(linear(6), nn.LayerNorm(), nn.ReLU(), nn.Dropout(0.1))),
            *(linear(5), nn.LayerNorm(), nn.ReLU(), nn.Dropout(0.1)),
        ],
    ),
}
GIVEN = {name: given for name, (given, _) in ARCHITECTURES.items()}
over_given = pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())


def model_of(kind=MLPClassifier, **given):
    chosen = {"batch_size": 32, "random_state": 5, "max_iter": 4, "weight_init": "he_normal"}
    return kind((6, 6, 5), **chosen | given)


def values(model):
    return model.module_._home.settle()


def assert_same(one, other):
    np.testing.assert_array_equal(values(one), values(other))
    assert same_history(one.history_, other.history_)


# ------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_bits_are_those_of_the_network_written_out(kind, sparse, name):
    given, hidden = ARCHITECTURES[name]
    samples = scipy.sparse.csr_array(X) if sparse else X
    model = model_of(kind, **given).fit(samples, Y)
    n_outputs, loss = (
        (3, "softmax_cross_entropy") if kind is MLPClassifier else (1, "squared_error")
    )
    network = nn.Sequential(*hidden(), linear(n_outputs)).build(4, seed=5, dtype=np.float64)
    targets = Y if kind is MLPClassifier else Y[:, None].astype(np.float64)
    result = fit(network, loss, X, targets, alpha=1e-4, batch_size=32, max_epochs=4)
    if sparse:
        # The first products are summed in another order, to 1e-16 of them; 20 steps amplify that by
        # no more than some thousands, as in test_estimators_parity.py.
        np.testing.assert_allclose(values(model), network._home.settle(), rtol=0, atol=1e-11)
        return
    assert [*model.module_.parameters()] == [*network.parameters()]
    np.testing.assert_array_equal(values(model), network._home.settle())
    assert model.loss_curve_ == result.history["loss"]
    with nn.training(False):
        raw = network(X).data
    predicted = raw.argmax(axis=1) if kind is MLPClassifier else raw[:, 0]
    np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize("init", ["glorot_uniform", "lecun_normal"])
def test_lists_of_the_same_are_one_for_all(init):
    for activation in ("logistic", "leaky_relu"):
        one = model_of(activation=activation, weight_init=init, dropout=0.25).fit(X, Y)
        several = {"activation": [activation] * 3, "dropout": [0.25] * 3}
        assert_same(model_of(**several, weight_init=init).fit(X, Y), one)
    numbers = {"slope": 0.3}
    one = model_of(activation="leaky_relu", activation_params=numbers).fit(X, Y)
    several = {"activation": ["leaky_relu"] * 3, "activation_params": [numbers] * 3}
    assert_same(model_of(**several).fit(X, Y), one)
    assert_same(model_of(dropout=[0, 0, 0.0]).fit(X, Y), model_of().fit(X, Y))


def test_each_layer_starts_by_its_own_activation():
    model = MLPRegressor((300, 300), ["relu", "logistic"], max_iter=1, learning_rate_init=1e-12)
    coefs = model.fit(X, Y).coefs_
    # The bounds of uniform numbers, of which there are 300 or more, so that one is near them.
    for coef, factor in zip(coefs, (6, 2, 2), strict=True):
        bound = np.sqrt(factor / sum(coef.shape))
        assert 0.95 * bound < np.abs(coef).max() < bound + 1e-9


@over_kinds
def test_without_hidden_layers_lists_are_empty(kind):
    wanted = kind((), max_iter=2, random_state=0).fit(X, Y)
    model = kind((), [], dropout=(), max_iter=2, random_state=0, batch_norm=True).fit(X, Y)
    assert_same(model, wanted)


def test_the_features_are_not_added_to_the_first_layer():
    model = MLPRegressor((4, 4), residual=True, max_iter=1).fit(X, Y)
    kinds = [type(layer) for layer in model.module_]
    assert kinds == [nn.Linear, nn.ReLU, nn.Residual, nn.Linear]


# ---------------------------------------------------------------------------------------- gradients


@over_kinds
@over_given
def test_gradients(kind, given):
    model = model_of(kind, alpha=0.1, **given)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    some = np.arange(0, 150, 7)
    for one in (model, model_of(kind, alpha=0.1, **given).fit(X, Y)):
        report = check_gradients(one, X[some], Y[some], sample_weight=weight[some])
        assert report.ok, str(report)
        checked = [np.prod(tensor.shape) for tensor in report.tensors]
    assert sum(checked) == sum(p.size for p in one.module_.parameters().values() if p.trainable)
    assert not hasattr(model, "module_")
    assert diagnose(model, X, Y).ok


def test_the_loss_that_is_checked_is_that_of_the_first_step_with_its_masks():
    given = {"dropout": 0.4, "batch_size": len(Y), "shuffle": False, "max_iter": 1}
    model = model_of(**given)
    plan, params, *data, alpha, _ = model._gradient_problem(X, Y)
    loss = plan.loss_gradient(params, data[0], data[1], alpha=alpha)
    assert model.fit(X, Y).loss_ == pytest.approx(loss, rel=1e-14)


@over_given
def test_inspect_shows_the_factors_of_the_gradient(given):
    model = model_of(**{**given, "dropout": 0.0}, alpha=0.0).fit(X, Y)
    layers = model.inspect(X, Y)
    assert [layer["z"].shape[1] for layer in layers] == [6, 6, 5, 3]
    plan = model._plan(False)
    gradient = np.empty(plan.n_params)
    plan.loss_gradient(values(model), X, Y.astype(np.int32), grad=gradient)
    below = X
    for layer, coef, offset in zip(layers, model.coefs_, model._views.offsets, strict=True):
        mine = gradient[offset : offset + coef.size].reshape(coef.shape)
        # Sums of 150 products below 1, each rounded to 1e-16.
        np.testing.assert_allclose(below.T @ layer["delta"], mine, rtol=0, atol=1e-13)
        below = layer["a"]
    np.testing.assert_allclose(layers[-1]["a"].sum(axis=1), 1, rtol=1e-12)


# -------------------------------------------------------------------------------- weights and state


@over_kinds
@over_given
def test_weights_are_views_of_the_module_that_act(kind, given):
    model = model_of(kind, **given).fit(X, Y)
    linear_layers = [one for one in model.module_.modules().values() if isinstance(one, nn.Linear)]
    for layer, coef, intercept in zip(linear_layers, model.coefs_, model.intercepts_, strict=True):
        for name, view in (("weight", coef), ("bias", intercept)):
            mine = layer._parameters[name].data
            np.testing.assert_array_equal(mine, view)
            assert np.shares_memory(mine, view)
    before = values(model).copy()
    model.coefs_[-1][...] = 0
    model.intercepts_[-1] = np.arange(len(model.intercepts_[-1])) - 2.5
    expected = 2 if kind is MLPClassifier else -2.5
    np.testing.assert_array_equal(model.predict(X), expected)
    changed = np.flatnonzero(before != values(model))
    assert set(changed) <= set(range(model._views.offsets[-1], len(before)))
    # What normalisation has of its own is the module's.
    own = len(before) - sum(map(np.size, model.coefs_ + model.intercepts_))
    norms = (nn.BatchNorm1d, nn.LayerNorm)
    of_norms = [one for one in model.module_.modules().values() if isinstance(one, norms)]
    assert own == sum(p.size for one in of_norms for p in one._parameters.values())
    assert model.n_params_ == len(before)


def test_training_does_not_go_on_from_norms_that_are_not_finite():
    model = model_of(layer_norm=True, warm_start=True).fit(X, Y)
    model.module_[1].weight.data[0] = np.nan
    with pytest.raises(ValueError, match=r"module_ .*norms"):
        model.fit(X, Y)


@over_given
@pytest.mark.parametrize("stops", [False, True], ids=["", "early stopping"])
def test_two_epochs_and_two_more_equal_four(given, stops):
    given = {**given, "warm_start": True, "early_stopping": stops}
    whole = model_of(**given).fit(X, Y)
    halves = model_of(**given | {"max_iter": 2}).fit(X, Y)
    halves = pickle.loads(pickle.dumps(halves)).fit(X, Y)
    assert_same(halves, whole)
    np.testing.assert_array_equal(copy.deepcopy(whole).predict_proba(X), halves.predict_proba(X))
    halves.predictor()(X)
    np.testing.assert_array_equal(halves.predictor()(X), whole.predict(X))
    one_by_one = np.concatenate([whole.predict_proba(X[i : i + 1]) for i in range(9)])
    np.testing.assert_array_equal(one_by_one, whole.predict_proba(X)[:9])


@over_given
def test_partial_fit_has_the_bits_of_fit(given):
    parts = model_of(**given)
    for _ in range(4):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert_same(parts, model_of(**given, warm_start=True, tol=0, n_iter_no_change=9).fit(X, Y))


def test_what_has_no_weights_may_change_between_calls():
    model = model_of(warm_start=True, batch_norm=True).fit(X, Y)
    before = values(model).copy()
    model.set_params(dropout=0.5, residual=True, activation=["tanh", "relu", "gelu"], max_iter=1)
    model.fit(X, Y)
    assert isinstance(model.module_[3], nn.Dropout) and isinstance(model.module_[4], nn.Residual)
    assert not np.array_equal(values(model), before)
    for other in ({"batch_norm": False}, {"batch_norm": False, "layer_norm": True}):
        with pytest.raises(ValueError, match=r"batch_norm=False and layer_norm.*warm_start"):
            clone(model).set_params(max_iter=1).fit(X, Y).set_params(**other).fit(X, Y)


# ---------------------------------------------------------------------------------- scikit-learn's


# Without dropout and batch normalisation, in which a sample is not for itself: one that is there
# twice has two masks, and the moments of a batch are those of its samples, whatever they weigh. So
# weights are not repetitions there, as scikit-learn's checks have them.
CHECKED = [
    {"activation": ["relu", "tanh"], "hidden_layer_sizes": (8, 8)},
    {"layer_norm": True},
    {"residual": True, "hidden_layer_sizes": (16, 16)},
]


@parametrize_with_checks([kind(**given) for kind in KINDS for given in CHECKED])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@over_given
def test_clones_and_searches(given):
    model = model_of(**given)
    assert clone(model).get_params() == model.get_params()
    assert_same(clone(model).fit(X, Y), model.fit(X, Y))
    name, value = next(iter(given.items()))
    plain = MLPClassifier().get_params()[name]
    if "activation_params" in given:
        name, value, plain = "activation_params", given["activation_params"], None
    search = GridSearchCV(model, {name: [plain, value]}, cv=2, n_jobs=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ------------------------------------------------------------------------------------------- errors


@over_kinds
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"activation": ["relu"] * 2}, ["activation", "2", "3 hidden layers", "(6, 6, 5)"]),
        ({"activation": []}, ["activation", "0", "3 hidden layers"]),
        ({"activation": ["relu", "rel", "tanh"]}, ["activation", "'rel'", "'relu'"]),
        ({"activation": ["relu", None, "tanh"]}, ["activation", "None"]),
        ({"activation_params": [None] * 4}, ["activation_params", "4", "3 hidden layers"]),
        (
            {"activation": ["elu", "relu", "elu"], "activation_params": {"alpha": 0.1}},
            ["activation_params", "'alpha'", "'relu'"],
        ),
        (
            {"activation": "elu", "activation_params": [None, {"alpha": 0.1}, {"beta": 0.1}]},
            ["activation_params[2]", "'beta'", "'alpha'"],
        ),
        ({"activation_params": [None, 3, None]}, ["activation_params[1]", "3"]),
        ({"dropout": [0.1, 0.2]}, ["dropout", "2", "3 hidden layers"]),
        ({"dropout": [0.1, 0.2, 1.0]}, ["dropout", "1.0", "[0, 1)"]),
        ({"dropout": np.full(3, 0.1)}, ["dropout", "list or tuple"]),
        ({"batch_norm": True, "layer_norm": True}, ["batch_norm", "layer_norm"]),
        ({"residual": True, "hidden_layer_sizes": (4, 5, 4)}, ["residual", "(4, 5, 4)"]),
        ({"residual": True, "hidden_layer_sizes": 4}, ["residual", "(4,)"]),
        ({"solver": "lbfgs", "dropout": [0, 0.1, 0]}, ["dropout", "0.1", "'lbfgs'"]),
        ({"solver": "lbfgs", "batch_norm": True}, ["batch_norm", "'lbfgs'"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(value),
)
def test_what_does_not_fit_is_refused(kind, given, words):
    model = model_of(kind).set_params(**given)
    with pytest.raises(ValueError) as raised:
        model.fit(X, Y)
    for word in words:
        assert word in str(raised.value)
    assert not hasattr(model, "n_features_in_")


@over_kinds
def test_lbfgs_takes_what_does_not_vary(kind):
    given = {"layer_norm": True, "residual": True, "activation": ["tanh", "gelu", "tanh"]}
    model = model_of(kind, solver="lbfgs", max_iter=50, dropout=[0, 0.0, 0], **given).fit(X, Y)
    assert model.score(X, Y) > 0.95
