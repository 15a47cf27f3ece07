"""Training in mixed precision (R99): where it rounds, what it takes, when it skips a step, and that
it learns as well. How numbers are rounded is in test_half.py. It is long since each demand is made
of both formats, and of networks of every kind."""

import pickle

import numpy as np
import pytest
from helpers import same_history
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import (
    NetworkClassifier,
    NetworkRegressor,
    NonFiniteError,
    _core,
    compile,
    fit,
    nn,
    ops,
)

over_precisions = pytest.mark.parametrize("precision", ["bf16", "fp16"])
CROSS_ENTROPY = "softmax_cross_entropy"


# ------------------------------------------------------------------------------ where it rounds


class Rounding:
    """Rounds as a mixed plan stores, and finds out by how little anything was rounded this way.

    `risk` is the largest error that float32 may make in a number, over its distance to where it
    would be rounded the other way: below 1, any order of float32's operations rounds alike.
    """

    def __init__(self, precision):
        self.bits, self.least = {"bf16": (8, -126), "fp16": (11, -14)}[precision]
        self.risk = 0.0

    def __call__(self, x, error):
        _, exponent = np.frexp(x)  # x = m 2^e, with m in [1/2, 1)
        unit = 2.0 ** (np.maximum(exponent, self.least + 1) - self.bits)
        rounded = np.rint(x / unit) * unit
        to_tie = np.abs(np.abs(x - rounded) - unit / 2)
        self.risk = max(self.risk, (error / np.maximum(to_tie, 1e-300)).max(initial=0.0))
        return rounded


N, N_IN, N_HIDDEN, N_OUT = 80, 3, 3, 2  # more samples than a tile holds


def reference_step(parameters, X, target, precision, scale):
    """Gradients of two layers with relu between them, in float64, rounded where the plan stores.

    Behind each sum the most that float32 may be off: it rounds each product and addition, and each
    rounding is by at most 2^-24 of what is summed in size.
    """
    rounded, eps = Rounding(precision), 2.0**-24
    exact = np.zeros(())
    w1, b1, w2, b2 = (rounded(one, exact) for one in parameters)
    x = rounded(X, exact)

    def product(a, b, bias=0.0):
        terms = a.shape[1] + 1
        return a @ b + bias, terms * eps * (np.abs(a) @ np.abs(b) + np.abs(bias))

    z, error = product(x, w1, b1)
    h = rounded(np.maximum(z, 0), error)
    out, error = product(h, w2, b2)
    # The loss of a sample is half the sum of squares: its gradient is the difference. Over N, and
    # times a power of two, it is rounded at most three more times.
    share = scale / N
    dz = rounded((out - target) * share, share * (error + 3 * eps * np.abs(out - target)))
    dh, error = product(dz, w2.T)
    da = rounded(dh * (z > 0), error * (z > 0))
    gradients = [x.T @ da, da.sum(axis=0), h.T @ dz, dz.sum(axis=0)]
    sizes = [np.abs(x).T @ np.abs(da), np.abs(da).sum(axis=0)]
    sizes += [np.abs(h).T @ np.abs(dz), np.abs(dz).sum(axis=0)]
    flat = np.concatenate([one.ravel() for one in gradients]) / scale
    size = np.concatenate([one.ravel() for one in sizes]) / scale
    return flat, (N + 1) * eps * size, rounded.risk


@over_precisions
@pytest.mark.parametrize("scaled", [False, True], ids=["gradient", "step"])
def test_a_step_of_two_layers_rounds_where_it_is_said_to(precision, scaled):
    """Inputs of layers, gradients by their outputs, and what layers read of parameters."""
    scale = 2.0**16 if scaled and precision == "fp16" else 1.0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        network = nn.Sequential(nn.Linear(N_HIDDEN), nn.ReLU(), nn.Linear(N_OUT))
        network.build(N_IN, seed=seed)
        X = rng.standard_normal((N, N_IN)).astype(np.float32)
        y = rng.standard_normal((N, N_OUT)).astype(np.float32)
        parameters = [one.data.astype(np.float64) for one in network.parameters().values()]
        expected, tolerance, risk = reference_step(parameters, X, y, precision, scale)
        if risk < 1:
            break
    assert risk < 1, "no seed without a number next to a tie"
    before = network._home.flat.copy()
    if scaled:  # the step's own way, by updates of rate 1, which round once more
        given = {"optimizer": "sgd", "learning_rate_init": 1.0, "max_epochs": 1, "batch_size": N}
        fit(network, "squared_error", X, y, precision=precision, **given)
        found = before.astype(np.float64) - network._home.flat
        tolerance = tolerance + 2.0**-24 * (np.abs(before) + np.abs(expected))
    else:
        plan = compile(network, "squared_error", precision=precision)
        found = np.empty_like(before)
        plan.core.loss_gradient(before, X, y, grad=found)
    assert (np.abs(found - expected) <= tolerance).all()
    # Had anything stayed as it was, this would be seen: a rounding is by some 2^-bits.
    plain = np.empty_like(before)
    compile(network, "squared_error").core.loss_gradient(before, X, y, grad=plain)
    assert (np.abs(plain - expected) > 10 * tolerance).mean() > 0.5


@over_precisions
def test_parameters_stay_float32(precision):
    """Updates too small for 16 bits add up: the copies are rounded, the masters are not."""
    network = nn.Linear(1, bias=False).build(1)
    network.parameters()["weight"].data[...] = 1.0
    X, y = np.ones((1, 1), np.float32), np.full((1, 1), 0.5, np.float32)
    given = {"optimizer": "sgd", "learning_rate_init": 2.0**-15, "batch_size": 1}
    fit(network, "squared_error", X, y, precision=precision, max_epochs=8, **given)
    # Each step takes 2^-15 times the copy's distance to 0.5. The copy is 1 still: the next numbers
    # below lie 2^-8 and 2^-11 away, and eight such steps are less than half of that.
    assert network.parameters()["weight"].data.item() == 1.0 - 8 * 2.0**-16


def rounded_to(precision, x):
    """float32 numbers in size from 2**-14 to 65504, to 8 or 11 digits, ties to even."""
    if precision == "fp16":
        return x.astype(np.float16).astype(np.float32)
    bits = x.view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def gradient_at(plan, params, X, y):
    found = np.empty_like(params)
    plan.core.loss_gradient(params, X, y, grad=found)
    return found


@over_precisions
@pytest.mark.parametrize("name", ["wide", "in parts", "tied", "convolution", "attention", "lstm"])
def test_layers_of_products_read_rounded_parameters_and_others_do_not(name, precision):
    X, y = samples(70)
    network = built(name)
    params = network._home.flat
    params[...] = np.random.default_rng(0).uniform(0.01, 0.5, len(params)).astype(np.float32)
    read_whole = np.zeros(len(params), bool)
    for path, one in network.parameters().items():
        if "norm" in path:
            begin = (one.data.ctypes.data - params.ctypes.data) // params.itemsize
            read_whole[begin : begin + one.data.size] = True
    assert read_whole.any() == (name == "attention")
    plan = compile(network, CROSS_ENTROPY, precision=precision)
    found = gradient_at(plan, params, X, y)
    rounded = rounded_to(precision, params)
    assert (rounded != params).mean() > 0.9
    same = np.where(read_whole, params, rounded)
    np.testing.assert_array_equal(gradient_at(plan, same, X, y), found)
    if name == "attention":
        assert not np.array_equal(gradient_at(plan, rounded, X, y), found)


# -------------------------------------------------------------------------------------- networks


class Tied(nn.Module):
    """One matrix used twice, and the other way round."""

    def forward(self, x):
        w = self.parameter("w", (x.shape[1], x.shape[1]), "he_normal")
        return ops.linear(ops.linear(x, w).tanh(), w.transpose(0, 1))


def images(*layers):
    return nn.Sequential(nn.Lambda(lambda x: x.reshape(-1, 4, 4, 1)), *layers)


def series(*layers):
    return nn.Sequential(nn.Lambda(lambda x: x.reshape(-1, 4, 4)), *layers, nn.Flatten())


NETWORKS = {
    "dense": lambda: nn.Sequential(nn.Linear(40), nn.GELU(), nn.Dropout(0.2), nn.Linear(9)),
    "wide": lambda: nn.Sequential(nn.Linear(700), nn.ReLU(), nn.Linear(700)),
    "in parts": lambda: nn.Sequential(nn.Linear(1030), nn.ReLU(), nn.Linear(1030)),
    "residual": lambda: nn.Sequential(*[nn.Residual(nn.Linear(16), nn.Tanh()) for _ in range(4)]),
    "tied": lambda: nn.Sequential(nn.Linear(12), Tied(), nn.ReLU()),
    "convolution": lambda: images(nn.Conv2d(6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    "batch norm": lambda: images(
        *(nn.Conv2d(6, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Conv2d(5, 2), nn.ReLU())
    ),
    "checkpoint": lambda: nn.Sequential(
        *[nn.Checkpoint(nn.Sequential(nn.Linear(20), nn.Tanh())) for _ in range(3)]
    ),
    "attention": lambda: series(nn.TransformerBlock(2)),
    "lstm": lambda: series(nn.LSTM(7), nn.GRU(5)),
}


def built(name, seed=3):
    return nn.Sequential(NETWORKS[name](), nn.Flatten(), nn.Linear(3)).build(16, seed=seed)


def samples(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 16)).astype(np.float32)
    return X, (X[:, :3] + X[:, 3:6]).argmax(axis=1).astype(np.int32)


def trained(name, precision, X, y, **given):
    network = built(name)
    settings = {"batch_size": 100, "max_epochs": 3, "clip_norm": 1.0, "n_threads": 1, **given}
    return network, fit(network, CROSS_ENTROPY, X, y, precision=precision, **settings)


@pytest.mark.threads
@over_precisions
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_threads_gives_the_same_bits(name, precision):
    X, y = samples(230)
    one, first = trained(name, precision, X, y)
    for n_threads in (2, 3, 7):
        other, result = trained(name, precision, X, y, n_threads=n_threads)
        np.testing.assert_array_equal(one._home.flat, other._home.flat)
        assert same_history(result.history, first.history)
    plain, _ = trained(name, "full", X, y)
    assert not np.array_equal(one._home.flat, plain._home.flat)
    # Adam moves a weight by its rate, 0.001, in the first of 9 steps, and by hardly twice
    # that later: whichever way two trainings go, they are no farther apart.
    assert np.abs(one._home.flat - plain._home.flat).max() < 2 * 9 * 0.002


@over_precisions
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch_size", [1, 70, 300])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_training_takes_what_was_said(name, precision, batch_size, n_threads):
    plan = compile(built(name), CROSS_ENTROPY, precision=precision)
    said = plan.memory(batch_size, n_threads=n_threads, optimizer="adam", n_samples=300)
    X, y = samples(300)
    params = plan._module._built().settle()
    states = np.zeros((2, len(params)), np.float32)
    before = _core.allocated_bytes()
    _core.Training(
        plan.core,
        params,
        X,
        y,
        rule="adam",
        states=states,
        batch_size=batch_size,
        n_threads=n_threads,
    )
    taken = _core.allocated_bytes() - before + params.nbytes + states.nbytes
    assert taken == said["total"]
    assert said["total"] == sum(size for part, size in said.items() if part != "total")
    assert min(said.values()) >= 0


@over_precisions
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_of_a_batch_takes_half(name, precision):
    full, mixed = (
        compile(built(name), CROSS_ENTROPY, precision=one).memory(1024)
        for one in ("full", precision)
    )
    for part in ("activations", "deltas"):
        if name == "checkpoint":  # whose parts run again, and keep what crosses their borders
            assert mixed[part] == full[part]
        elif name == "batch norm":  # whose values live from meeting to meeting
            assert mixed[part] < full[part]
        else:
            assert 2 * mixed[part] == full[part]
    # So do packed copies of weights, beside which some words for each node are nothing here.
    if name == "wide":
        assert mixed["weight_copies"] == pytest.approx(full["weight_copies"] / 2, rel=0.01)
    # Where steps may be skipped, gradients are kept until that is known.
    kept = 4 * len(built(name)._home.flat) if precision == "fp16" else 0
    if name != "checkpoint":
        assert mixed["total"] - kept < full["total"]


@over_precisions
def test_a_step_of_several_batches_has_the_bits_of_one(precision):
    X, y = samples(1024)
    for name in ("dense", "convolution", "lstm"):
        one, _ = trained(name, precision, X, y, batch_size=512)
        other, _ = trained(name, precision, X, y, batch_size=256, accumulate=2)
        np.testing.assert_array_equal(one._home.flat, other._home.flat)


@over_precisions
def test_frozen_parameters_stay(precision):
    X, y = samples(200)
    network = built("dense")
    network.freeze("0.0")
    before = {name: one.data.copy() for name, one in network.parameters().items()}
    fit(network, CROSS_ENTROPY, X, y, precision=precision, max_epochs=2)
    for name, one in network.parameters().items():
        assert np.array_equal(one.data, before[name]) == name.startswith("0.0."), name


@over_precisions
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lamb"])
def test_three_epochs_and_three_more_are_six(precision, optimizer):
    """The factor of the loss and its counts are carried on too."""
    X, _ = samples(300)
    y = X[:, :3].copy()
    y[7] = 60.0  # of which the share of a batch of 50 is too large 2^16 times
    given = {"batch_size": 50, "optimizer": optimizer, "precision": precision, "clip_norm": 1.0}
    whole, parts = built("dense"), built("dense")
    six = fit(whole, "squared_error", X, y, max_epochs=6, **given)
    three = fit(parts, "squared_error", X, y, max_epochs=3, **given)
    rest = fit(parts, "squared_error", X, y, max_epochs=3, resume=three, **given)
    np.testing.assert_array_equal(whole._home.flat, parts._home.flat)
    assert (rest.skipped_steps, rest.loss_scale) == (six.skipped_steps, six.loss_scale)
    if precision == "fp16":
        assert three.skipped_steps > 0
    assert rest.n_steps == six.n_steps == 36


# --------------------------------------------------------------------------------- loss scaling


def line(target, n=4):
    """A network of one weight and what it ought to learn, a batch for each sample."""
    network = nn.Linear(1, bias=False).build(1)
    network.parameters()["weight"].data[...] = 0.0
    X = np.ones((n, 1), np.float32)
    return network, X, np.full((n, 1), target, np.float32)


def test_an_overflow_halves_the_scale_and_skips_the_step():
    """R99: the gradient by the output is minus the target, and times 2^16 too large for float16."""
    network, X, y = line(10.0)
    given = {"batch_size": 1, "optimizer": "adam", "max_epochs": 1, "precision": "fp16"}
    with pytest.warns(UserWarning, match="All steps of 1 epochs were skipped"):
        result = fit(network, "squared_error", X, y, **given, history="step")
    # 10 times 2^12 is at most 65504: four steps are skipped, which are all of the epoch.
    assert result.skipped_steps == 4
    assert result.loss_scale == 2.0**12
    assert network.parameters()["weight"].data.item() == 0.0
    assert not result._state.vectors.any()
    assert result._state.step == 0
    assert result.n_steps == 4
    assert result.history["loss"] == [50.0]  # which is finite, and counts
    assert not np.isfinite(result.history["step_gradient_norm"]).any()
    more = fit(network, "squared_error", X, y, resume=result, **given)
    assert more.skipped_steps == 4
    assert network.parameters()["weight"].data.item() != 0.0
    assert more._state.step == 4


def test_one_huge_target_costs_one_step():
    network, X, y = line(0.5, n=20)
    y[7] = 1.5  # of which 2^15 times are at most 65504, 2^16 times are not
    clean, _, _ = line(0.5)
    given = {"batch_size": 1, "optimizer": "sgd", "learning_rate_init": 0.1, "max_epochs": 1}
    result = fit(network, "squared_error", X, y, shuffle=False, precision="fp16", **given)
    assert result.skipped_steps == 1
    assert result.loss_scale == 2.0**15
    # As if that sample had not been there: another power of two rounds alike.
    given["precision"] = "fp16"
    fit(clean, "squared_error", np.delete(X, 7, 0), np.delete(y, 7, 0), shuffle=False, **given)
    np.testing.assert_array_equal(network._home.flat, clean._home.flat)


def test_the_scale_doubles_after_2000_good_steps():
    network, X, y = line(0.6, n=1000)
    given = {"batch_size": 1, "precision": "fp16", "learning_rate_init": 1e-9}
    first = fit(network, "squared_error", X, y, max_epochs=1, **given)
    assert (first.loss_scale, first.skipped_steps) == (2.0**16, 0)
    second = fit(network, "squared_error", X, y, max_epochs=1, resume=first, **given)
    assert (second.loss_scale, second.skipped_steps) == (2.0**17, 0)
    # The gradient, -0.6 times 2^17, is too large: one step is skipped, and the rest of them are not
    # enough for another doubling.
    third = fit(network, "squared_error", X, y, max_epochs=2, resume=second, **given)
    assert (third.loss_scale, third.skipped_steps) == (2.0**16, 1)


def test_a_gradient_that_no_scale_helps_ends_training():
    """By the output alone it is 1e5, more than float16 holds."""
    network, X, y = line(1e5, n=30)
    with pytest.raises(NonFiniteError, match="gradient of layer 0 became infinite") as raised:
        fit(network, "squared_error", X, y, batch_size=1, max_epochs=1, precision="fp16")
    assert (raised.value.epoch, raised.value.step) == (0, 16)  # after as many halvings
    assert network.parameters()["weight"].data.item() == 0.0


def test_the_layer_whose_output_is_too_large_is_named():
    """1e5 is finite until it is stored, where the next layer reads it."""
    network = nn.Sequential(nn.Linear(2), nn.Linear(2), nn.Linear(1)).build(1)
    for one in network.parameters().values():
        one.data[...] = 1.0
    X, y = np.full((5, 1), 1e5 / 3, np.float32), np.ones((5, 1), np.float32)
    with pytest.raises(NonFiniteError, match="first in the output of layer 1"):
        fit(network, "squared_error", X, y, max_epochs=1, precision="fp16")
    fit(network, "squared_error", X, y, max_epochs=1, precision="bf16")


def test_bfloat16_needs_no_scale():
    network, X, y = line(1e5, n=30)
    result = fit(network, "squared_error", X, y, batch_size=1, max_epochs=1, precision="bf16")
    assert (result.loss_scale, result.skipped_steps) == (1.0, 0)
    assert network.parameters()["weight"].data.item() > 0.0


def test_small_gradients_survive_by_the_scale():
    """1e-8 is below half of float16's least number, but 2^16 times that is not."""
    network, X, y = line(1e-8)
    given = {"optimizer": "sgd", "learning_rate_init": 1.0, "batch_size": 4, "max_epochs": 1}
    fit(network, "squared_error", X, y, precision="fp16", **given)
    # A fourth of it for each of four samples, rounded to 11 digits.
    assert network.parameters()["weight"].data.item() == pytest.approx(1e-8, rel=2.0**-11)
    plain, _, _ = line(1e-8)
    fit(plain, "squared_error", X, y, precision="bf16", **given)
    assert plain.parameters()["weight"].data.item() == pytest.approx(1e-8, rel=2.0**-8)


def test_a_loss_that_is_not_finite_is_an_error_in_any_precision():
    X, y = samples(64)
    for precision in ("full", "bf16", "fp16"):
        network = built("dense")
        network._home.flat[...] = 3e38
        with pytest.raises(NonFiniteError, match="the loss became infinite or NaN in step 0"):
            fit(network, CROSS_ENTROPY, X, y, precision=precision, max_epochs=1)


# -------------------------------------------------------------------------------------- accuracy


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return train_test_split(X, y.astype(np.int32), test_size=0.5, random_state=0, stratify=y)


def lenet():
    return nn.Sequential(
        nn.Lambda(lambda x: x.reshape(-1, 8, 8, 1)),
        *(nn.Conv2d(16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(10),
    )


def dense():
    return nn.Sequential(nn.Linear(100), nn.ReLU(), nn.Linear(10))


@over_precisions
@pytest.mark.parametrize("network", [dense, lenet])
def test_digits_are_told_as_well_as_in_float32(digits, network, precision):
    """R99: within 0.5 % of float32's accuracy, on the mean of three starts."""
    X_train, X_test, y_train, y_test = digits

    def accuracy(precision, seed):
        module = network().build(64, seed=seed)
        given = {"batch_size": 32, "max_epochs": 12, "learning_rate_init": 0.003}
        fit(module, CROSS_ENTROPY, X_train, y_train, precision=precision, **given)
        return np.mean(module(X_test).data.argmax(axis=1) == y_test)

    full, mixed = (
        np.mean([accuracy(one, seed) for seed in range(3)]) for one in ("full", precision)
    )
    assert full > 0.95
    assert abs(mixed - full) <= 0.005


# ---------------------------------------------------------------------------------------- errors


def test_what_is_refused():
    X, y = samples(20)
    wide = nn.Linear(3).build(16, dtype=np.float64)
    with pytest.raises(ValueError, match="precision: found 'bf16' for a network of float64"):
        fit(wide, CROSS_ENTROPY, X.astype(np.float64), y, precision="bf16")
    with pytest.raises(ValueError, match="'precision' parameter of fit must be one of 'full'"):
        fit(nn.Linear(3), CROSS_ENTROPY, X, y, precision="float16")
    with pytest.raises(ValueError, match="precision: found 'float16', wanted one of"):
        compile(nn.Linear(3).build(16), CROSS_ENTROPY, precision="float16")
    with pytest.raises(ValueError, match=r"precision: found .* beside optimizer='lbfgs'"):
        fit(nn.Linear(3), CROSS_ENTROPY, X, y, precision="bf16", optimizer="lbfgs")
    graph = {"inputs": [((2,), "real")], "parameters": [], "nodes": [("relu", {}, [0])]}
    with pytest.raises(ValueError, match="precision: found 16 bits for a graph of float64"):
        _core.Plan(graph=graph | {"outputs": [1], "precision": "bf16"}, dtype=np.float64)


def test_an_estimator_with_it():
    X, y = samples(120)
    model = NetworkClassifier(
        nn.Sequential(nn.Linear(20), nn.ReLU(), nn.Linear(3)),
        precision="fp16",
        max_epochs=30,
        learning_rate_init=0.01,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    assert clone(model).get_params()["precision"] == "fp16"
    assert not hasattr(model, "skipped_steps_")
    with pytest.warns(ConvergenceWarning):
        model.fit(X.astype(np.float64), y)
    assert model.score(X, y) > 0.8
    assert model.module_.parameters()["0.weight"].data.dtype == np.float32
    assert model.skipped_steps_ == 0
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    with pytest.warns(ConvergenceWarning):
        plain = clone(model).set_params(precision="full", dtype="float32").fit(X, y)
    assert not np.array_equal(plain.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="precision: found 'fp16' for a network of float64"):
        clone(model).set_params(dtype="float64").fit(X, y)


def test_predictions_are_those_of_float32():
    X, _ = samples(40)
    network = built("dense")
    flat = network._home.settle()
    full, mixed = (compile(network, CROSS_ENTROPY, precision=one).core for one in ("full", "bf16"))
    np.testing.assert_array_equal(full.predict(flat, X), mixed.predict(flat, X))


def test_epochs_of_skipped_steps_are_no_sign_of_convergence():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5)).astype(np.float32)
    y = 250_000 + 50_000 * X[:, 0]
    network = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(1)).build(5)
    given = {"precision": "fp16", "random_state": 0}
    with pytest.warns(UserWarning) as told:
        NetworkRegressor(network, max_epochs=3, **given).fit(X, y)
    assert any("All steps of 3 epochs were skipped" in str(one.message) for one in told)
    model = NetworkRegressor(network, max_epochs=60, **given)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert 10 < model.skipped_steps_ < model.n_iter_ == 60
    trained, before = (one.parameters()["0.weight"].data for one in (model.module_, network))
    assert (trained != before).any()
