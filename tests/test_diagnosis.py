"""`diagnose`: its measures held against NumPy's, and what it tells of networks well and ill."""

import numpy as np
import pytest
import scipy.sparse
from helpers import IRIS, flat, short_training, small

from fastbp import MLPClassifier, NetworkClassifier, compile, diagnose, nn, ops

pytestmark = short_training

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((200, 16)).astype(np.float32), RNG.integers(0, 3, 200)
SERIES = RNG.standard_normal((48, 12, 8)).astype(np.float32)
IMAGES = RNG.standard_normal((24, 12, 12, 3)).astype(np.float32)
WORDS = RNG.integers(0, 20, (48, 10))


def stack(activation, init, *, depth=3, width=64, head="glorot_normal"):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, init=init), activation())]
    return nn.Sequential(*layers, nn.Linear(3, init=head))


def diagnosed(module, X=X, y=None):
    plan = compile(module.build(X, seed=1), "softmax_cross_entropy")
    return diagnose(plan, X, Y[: len(X)] if y is None else y)


def found(diagnosis):
    return {(one.kind, one.where) for one in diagnosis.findings}


def kinds(diagnosis):
    return {one.kind for one in diagnosis.findings}


# --------------------------------------------------------------------------------------- measures


def test_measures_are_those_of_numpy():
    network = stack(nn.ReLU, "he_normal", depth=1, width=8).build(16, dtype=np.float64)
    weights = {name: one.data for name, one in network.parameters().items()}
    weights["0.bias"][:3] = -50.0  # dead
    weights["2.weight"][:, 2] = weights["2.weight"][:, 1]
    weights["2.bias"][2] = weights["2.bias"][1] = 0.3
    x, sample_weight = X.astype(float), np.linspace(0.5, 2, 200)
    made = diagnose(compile(network, "softmax_cross_entropy"), x, Y, sample_weight=sample_weight)
    z = x @ weights["0.weight"] + weights["0.bias"]
    a = np.maximum(z, 0)
    raw = a @ weights["2.weight"] + weights["2.bias"]
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    share = 200 * sample_weight / sample_weight.sum()
    draw = (p - np.eye(3)[Y]) * share[:, None]
    da = draw @ weights["2.weight"].T
    dz = da * (z > 0)
    assert [(one.label, one.module, one.row) for one in made.signals] == [
        ("0", "0", "linear"),
        ("1", "1", "relu"),
        ("2", "2", "linear"),
    ]
    for one, values, gradients in zip(made.signals, (z, a, raw), (dz, da, draw), strict=True):
        # Sums of some thousand float64 numbers near 1.
        np.testing.assert_allclose(one.mean, values.mean(), rtol=1e-12)
        np.testing.assert_allclose(one.std, np.sqrt(values.var(axis=0).mean()), rtol=1e-12)
        np.testing.assert_allclose(one.gradient, np.sqrt((gradients**2).mean()), rtol=1e-12)
    relu = made.signals[1]
    assert relu.flat == (z <= 0).mean() and relu.dead == 3 / 8
    assert np.isnan(made.signals[0].flat) and np.isnan(made.signals[2].dead)
    assert [one.weighted for one in made.signals] == [True, False, True]
    by_name = {one.name: one for one in made.weights}
    assert [*by_name] == [*weights]
    dw = x.T @ dz / 200
    np.testing.assert_allclose(by_name["0.weight"].gradient, np.sqrt((dw**2).mean()), rtol=1e-12)
    np.testing.assert_allclose(
        by_name["0.weight"].size, np.sqrt((weights["0.weight"] ** 2).mean()), rtol=1e-12
    )
    # Two equal columns whose gradients, by different classes, are not.
    assert by_name["2.weight"].distinct == by_name["0.weight"].distinct == 1
    assert np.isnan(by_name["0.bias"].distinct)
    assert all(one.trainable for one in made.weights)
    assert made.ok and made.n_samples == 200


def test_units_that_remain_equal_are_counted():
    network = stack(nn.Tanh, "glorot_normal", depth=1, width=8).build(16)
    first, bias, second = (network.parameters()[n].data for n in ("0.weight", "0.bias", "2.weight"))
    # Of eight units three and two are the same; one is like another only on its way in.
    first[:, [1, 2]], first[:, 4], first[:, 6] = first[:, [0]], first[:, 3], first[:, 5]
    second[[1, 2]], second[4] = second[0], second[3]
    assert not bias.any()
    made = diagnose(compile(network, "softmax_cross_entropy"), X, Y)
    assert {one.name: one.distinct for one in made.weights}["0.weight"] == 5 / 8
    assert "symmetric" not in kinds(made)
    second[6] = second[5]
    first[:, 7], second[7] = first[:, 5], second[5]
    made = diagnose(compile(network, "softmax_cross_entropy"), X, Y)
    assert {one.name: one.distinct for one in made.weights}["0.weight"] == 3 / 8
    assert found(made) >= {("symmetric", "0.weight")}


# --------------------------------------------------------------------------------------- the well


def mean(x):
    return x.mean(axis=1)


WELL = {
    "relu": (lambda: stack(nn.ReLU, "he_normal"), X),
    "fifty of relu": (lambda: stack(nn.ReLU, "he_normal", depth=50, width=256), X),
    "fifty of tanh": (lambda: stack(nn.Tanh, "glorot_normal", depth=50, width=128), X),
    "fifty of selu": (lambda: stack(nn.SELU, "lecun_normal", depth=50, width=128), X),
    "four of logistic": (lambda: stack(nn.Logistic, "glorot_uniform", depth=4), X),
    "hard tanh": (lambda: stack(nn.HardTanh, "glorot_uniform"), X),
    "leaky relu": (lambda: stack(nn.LeakyReLU, "he_uniform"), X),
    "a head of zeros": (lambda: stack(nn.Tanh, "glorot_normal", head="zeros").freeze("0"), X),
    "dropout": (lambda: nn.Sequential(nn.Linear(32), nn.Dropout(0.5), nn.Linear(3)), X),
    "twenty with moments": (
        lambda: nn.Sequential(
            *[layer for _ in range(20) for layer in (nn.Linear(64), nn.BatchNorm1d(), nn.ReLU())],
            nn.Linear(3),
        ),
        X,
    ),
    "convolutions": (
        lambda: nn.Sequential(
            *(nn.Conv2d(16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(3)),
        ),
        IMAGES,
    ),
    "lstm": (lambda: nn.Sequential(nn.LSTM(16, output="last"), nn.Linear(3)), SERIES),
    "gru": (
        lambda: nn.Sequential(
            nn.GRU(16, num_layers=2, bidirectional=True, output="last"), nn.Linear(3)
        ),
        SERIES,
    ),
    "transformer": (
        lambda: nn.Sequential(
            *(nn.Embedding(20, 16), nn.LearntEncoding()),
            *[nn.TransformerBlock(2) for _ in range(6)],
            *(nn.LayerNorm(), nn.Lambda(mean), nn.Linear(3)),
        ),
        WORDS,
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_nothing_is_told_of_what_starts_well(name):
    make, X = WELL[name]
    made = diagnosed(make(), X)
    if name == "a head of zeros":  # those before it are not reached by the first step
        assert kinds(made) == {"no gradient"}
    else:
        assert made.ok, str(made)
        assert str(made).endswith("ok: nothing ill was found")


# ---------------------------------------------------------------------------------------- the ill

ILL = {
    "zeros": (
        stack(nn.ReLU, "zeros", depth=2, head="zeros"),
        {("symmetric", "0.weight"), ("symmetric", "2.weight"), ("no gradient", "0.weight")},
    ),
    "all the same": (stack(nn.Tanh, 0.01, depth=2), {("symmetric", "0.weight")}),
    "too large": (stack(nn.ReLU, nn.init.Normal(1.0)), {("large outputs", "")}),
    "much too large": (stack(nn.ReLU, nn.init.Normal(4.0)), {("large weights", "0")}),
    "saturated": (stack(nn.Tanh, nn.init.Normal(1.0)), {("saturated", "3"), ("saturated", "5")}),
}


@pytest.mark.parametrize("name", ILL)
def test_what_starts_ill_is_named(name):
    """R83."""
    module, expected = ILL[name]
    made = diagnosed(module)
    assert not made.ok
    assert found(made) >= expected, str(made)
    assert all(f"{one.kind}, " in str(made) for one in made.findings)


# Every layer multiplies by about the same: its weights' deviation times the root of 64, and for
# logistic ones, of which that is 1, by their slope of a quarter.
DEEP = {
    "vanishing": (nn.Tanh, nn.init.Normal(0.03), 0.24, 0.24),
    "exploding": (nn.Identity, nn.init.Normal(0.5), 4.0, 4.0),
    "vanishing in logistic": (nn.Logistic, "glorot_uniform", 0.25, 0.25),
}


@pytest.mark.parametrize("name", DEEP)
def test_the_layer_is_named_at_which_it_is_a_thousand(name):
    activation, init, forward, back = DEEP[name]
    made = diagnosed(stack(activation, init, depth=16))
    weighted = [one for one in made.signals if one.weighted]
    named = {one.kind: one.where for one in made.findings}
    ways = {
        "values": (forward, [(one.module, one.std) for one in weighted]),
        "gradients": (back, [(one.module, one.gradient) for one in reversed(weighted)]),
    }
    for what, (factor, sizes) in ways.items():
        away = [module for module, size in sizes if abs(np.log(size / sizes[0][1])) > np.log(1e3)]
        assert named[f"{name.split()[0]} {what}"] == away[0]
        # At either end, where inputs or outputs are fewer, the factor is another: a layer for each.
        passed = [module for module, _ in sizes].index(away[0])
        assert abs(passed - np.ceil(np.log(1e3) / abs(np.log(factor)))) <= 2


def test_dead_units_are_named():
    network = stack(nn.ReLU, "he_normal").build(16)
    network.parameters()["2.bias"].data[:50] = -100.0
    made = diagnose(compile(network, "softmax_cross_entropy"), X, Y)
    assert found(made) == {("dead units", "3")}
    assert made.signals[3].dead == 50 / 64
    assert "78% of the units pass nothing on" in str(made)


def test_what_is_not_finite_is_told_alone():
    network = stack(nn.ReLU, "he_normal").build(16)
    network.parameters()["2.weight"].data[...] = 1e38
    made = diagnose(compile(network, "softmax_cross_entropy"), X, Y)
    assert found(made) == {("not finite", "2")}


def test_a_regression_may_have_large_outputs():
    network = nn.Sequential(nn.Linear(16), nn.Tanh(), nn.Linear(1)).build(16)
    network.parameters()["2.weight"].data *= 300
    target = 200 * X[:, :1]
    plan = compile(network, "squared_error")
    assert diagnose(plan, X, target).ok
    assert found(diagnose(plan, X, target / 1e4)) == {("large outputs", "")}


# ------------------------------------------------------------------------------------- estimators


def test_estimators_are_looked_at_as_they_are():
    features, species = IRIS
    names = np.array(["a", "b", "c"])[species]
    model = small(max_epochs=3, dtype="float32").fit(features, names)
    before = flat(model).copy()
    made = diagnose(model, features, names)
    plan = compile(model.module_, "softmax_cross_entropy")
    expected = diagnose(plan, features.astype(np.float32), species)
    assert str(made) == str(expected)
    np.testing.assert_array_equal(flat(model), before)
    sparse = diagnose(model, scipy.sparse.csr_matrix(features), names)
    for one, other in zip(made.signals, sparse.signals, strict=True):
        # The same sums in float32, of another order.
        np.testing.assert_allclose(one.std, other.std, rtol=1e-5)
    start = diagnose(small(), features, names)
    assert start.ok and len(start.signals) == 4
    dense = MLPClassifier((8, 8), activation="tanh", random_state=0, max_iter=2)
    for one in (dense, dense.fit(features, names)):
        made = diagnose(one, features, names)
        assert made.ok
        assert [signal.row for signal in made.signals] == ["linear", "tanh"] * 2 + ["linear"]
    zeros = NetworkClassifier(stack(nn.ReLU, "zeros"), random_state=0)
    assert "symmetric" in kinds(diagnose(zeros, features, names))
    assert not hasattr(zeros, "module_")


def test_several_inputs_and_losses():
    class Two(nn.Module):
        def forward(self, words, x):
            w = self.parameter("w", (4, 5), "he_normal")
            found = ops.embedding(words, self.parameter("table", (20, 4), "he_normal")).mean(axis=1)
            return {"one": found @ w, "two": ops.tanh(x @ w)}

    given = {"words": WORDS, "x": X[:48, :4]}
    plan = compile(Two().build(given), {"one": "softmax_cross_entropy", "two": "squared_error"})
    made = diagnose(plan, given, {"one": Y[:48], "two": np.zeros((48, 5))})
    assert made.ok, str(made)
    assert {one.name for one in made.weights} == {"w", "table"}


def test_misuse_is_named():
    network = stack(nn.ReLU, "he_normal").build(16)
    with pytest.raises(TypeError, match="estimator_or_plan is a Sequential, wanted an estimator"):
        diagnose(network, X, Y)
    with pytest.raises(ValueError, match="found a plan without a loss"):
        diagnose(compile(network), X, Y)
    with pytest.raises(TypeError, match="estimator_or_plan is a ABCMeta, wanted"):
        diagnose(NetworkClassifier, X, Y)
