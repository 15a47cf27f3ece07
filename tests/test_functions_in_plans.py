"""Ops written in Python in plans: the bits of the run at once, what they get, how they fail.

It is long because each way in which Python can fail within the engine has its network here.
"""

import gc
import signal
import sys
import threading
import weakref
from typing import ClassVar

import numpy as np
import pytest
from helpers import over_dtypes, same_history, short_training

import fastbp
from fastbp import (
    Function,
    NetworkRegressor,
    NonFiniteError,
    Tensor,
    compile,
    fit,
    nn,
    no_grad,
    ops,
)

# ----------------------------------------------------------------------------------------- ops


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved
        return 3 * x * x * dy


class Affine(Function):
    """x * w + b * scale, by parameters and by what is no tensor; and the first of these alone."""

    @staticmethod
    def forward(ctx, x, w, b, scale):
        ctx.save_for_backward(x, w)
        ctx.scale = scale
        return x * w + b * x.dtype.type(scale), x * w

    @staticmethod
    def backward(ctx, dy, dproduct):
        x, w = ctx.saved
        both = dy + dproduct
        axes = tuple(range(dy.ndim - 1))
        return both * w, (both * x).sum(axes), dy.sum(axes) * dy.dtype.type(ctx.scale), None


class Centre(Function):
    """x less its mean over the samples, which are thereby coupled."""

    @staticmethod
    def forward(ctx, x):
        return x - x.mean(axis=0)

    @staticmethod
    def backward(ctx, dy):
        return dy - dy.mean(axis=0)


class Round(Function, check=False):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return np.round(x * 4) / 4

    @staticmethod
    def backward(ctx, dy):
        return dy


class Product(Function):
    """x @ w."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved
        return dy @ w.T, x.T @ dy


class Looked(Function):
    """Rows of a table, by integers."""

    @staticmethod
    def forward(ctx, table, index):
        ctx.save_for_backward(table, index)
        return table[index]

    @staticmethod
    def backward(ctx, dy):
        table, index = ctx.saved
        slope = np.zeros_like(table)
        np.add.at(slope, index, dy)
        return slope, None


class Refusal(Exception):
    pass


class Failing(Function, check=False):
    """Raises `error` when it has run forward, or backward, often enough."""

    left: ClassVar[dict] = {"forward": 10**9, "backward": 10**9}
    error: ClassVar[BaseException] = Refusal("enough")

    @staticmethod
    def count(way):
        Failing.left[way] -= 1
        if Failing.left[way] < 0:
            raise Failing.error

    @staticmethod
    def forward(ctx, x):
        Failing.count("forward")
        return x

    @staticmethod
    def backward(ctx, dy):
        Failing.count("backward")
        return dy


@pytest.fixture
def failing():
    def after(error=None, **left):
        Failing.error = error or Refusal("enough")
        Failing.left = {"forward": 10**9, "backward": 10**9, **left}

    after()
    yield after
    after()


# ------------------------------------------------------------------------------------ networks


def lambda_of(kind):
    return nn.Lambda(kind.apply)


class Parameters(nn.Module):
    """A Function of samples and of parameters, one of which has uses before and behind it."""

    def forward(self, x):
        w = self.parameter("w", (6,), nn.init.Normal(0.5))
        b = self.parameter("b", (6,), 0.5)
        x = x * w
        one, product = Affine.apply(x, w, b, 3)
        return ops.concatenate([one, product * w, ops.tanh(product)], axis=-1)


class Quantised(nn.Module):
    """Weights that are rounded, with uses before, by and behind a Function of samples; and used as
    they are as well."""

    def forward(self, x):
        w = self.parameter("w", (6, 5), "he_normal")
        rounded = Round.apply(w)
        h = x @ rounded + Product.apply(x, rounded) + (x * 2) @ rounded
        h = h + Product.apply(x, rounded * 2) + Product.apply(x, w)
        return ops.tanh(h) @ rounded.T @ w


class Constants(nn.Module):
    def forward(self, x):
        w = self.parameter("w", (6,), nn.init.Normal(0.5))
        drift = Cube.apply(Tensor(np.full(6, 0.5, x.dtype)))
        one, _ = Affine.apply(x, w, Tensor(np.arange(6, dtype=x.dtype)), scale_of())
        return one + x * drift


def scale_of():
    return np.float32(0.5)


class Grid(nn.Module):
    """Samples with positions, in an array that is padded for products and one that is not."""

    def __init__(self):
        self.inner = nn.Linear(5)

    def forward(self, x):
        w = self.parameter("w", (5,), nn.init.Normal(0.5))
        x = self.inner(x.reshape(-1, 2, 3))
        x, y = Affine.apply(ops.tanh(Cube.apply(x)), w, w * w, 2)
        return (x + Centre.apply(y)).reshape(-1, 10)


class Beside(nn.Module):
    """What a Function reads is read behind it too, in rows that are padded."""

    def __init__(self):
        self.first, self.one, self.other = nn.Linear(5), nn.Linear(4), nn.Linear(4)

    def forward(self, x):
        h = self.first(x)
        cube = Cube.apply(h)
        return self.one(h) + self.other(cube)


NETWORKS = {
    "beside": lambda: nn.Sequential(nn.Linear(4), Beside(), nn.Linear(3)),
    "within": lambda: nn.Sequential(nn.Linear(7), lambda_of(Cube), nn.Linear(3)),
    "first": lambda: nn.Sequential(lambda_of(Centre), nn.Linear(3)),
    "last": lambda: nn.Sequential(nn.Linear(3), lambda_of(Cube)),
    "one by one": lambda: nn.Sequential(
        nn.Linear(5), lambda_of(Cube), lambda_of(Centre), nn.Tanh(), lambda_of(Cube), nn.Linear(3)
    ),
    "parameters": lambda: nn.Sequential(Parameters(), nn.Linear(3)),
    "quantised": lambda: nn.Sequential(Quantised(), nn.Linear(3)),
    "constants": lambda: nn.Sequential(Constants(), nn.Linear(3)),
    "grid": lambda: nn.Sequential(Grid(), nn.Linear(3)),
    "beside coupling and masks": lambda: nn.Sequential(
        nn.Dropout(0.2),
        nn.Linear(9),
        nn.BatchNorm1d(),
        lambda_of(Cube),
        nn.Residual(nn.Sequential(nn.Dropout(0.3), lambda_of(Centre), nn.BatchNorm1d())),
        nn.Linear(3),
    ),
    "checkpoints": lambda: nn.Sequential(
        nn.Checkpoint(nn.Sequential(nn.Linear(7), lambda_of(Cube), nn.Dropout(0.1), nn.Tanh())),
        nn.Checkpoint(nn.Sequential(nn.Linear(6), Parameters(), lambda_of(Centre))),
        nn.Checkpoint(nn.Sequential(nn.Linear(6), nn.Tanh(), Quantised(), lambda_of(Cube))),
        nn.Linear(3),
    ),
}
THREADS = [1, 2, 3, 7]


def behind_wide_layers(network):
    """Work that is worth several threads: small plans run on one, whatever they may have."""
    return nn.Sequential(
        *(nn.Linear(128), nn.Tanh(), nn.Linear(128), nn.Tanh(), nn.Linear(6)), network
    )


def is_worth_threads(plan, n):
    """FLOPs of a step of n samples, of which several times 1e6, and 2e5 a meeting, are some."""
    return sum(plan.flops(n).values()) > 1e7


def data(n=33, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 6)).astype(dtype), rng.integers(0, 3, n).astype(np.int32)


def planned_gradient(plan, flat, X, y, n_threads=1):
    grad = np.full_like(flat, np.nan)
    value = plan.core.loss_gradient(flat, X, y, grad=grad, draws=(3, 0), n_threads=n_threads)
    return value, grad


# ---------------------------------------------------------------------------------------- bits


@over_dtypes
@pytest.mark.parametrize("n", [1, 33, 1100])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_at_once_and_planned(name, n, dtype):
    """On any number of threads; 1100 samples are more than a block of any kind."""
    X, y = data(n, dtype)
    network = NETWORKS[name]() if n < 1000 else behind_wide_layers(NETWORKS[name]())
    flat = network.build(6, seed=3, dtype=dtype)._home.flat
    plan = fastbp.compile(network, "softmax_cross_entropy")
    assert n < 1000 or is_worth_threads(plan, n)
    before = flat.copy()
    loss = nn.SoftmaxCrossEntropy()(network(X), y)
    loss.backward()
    flat[:] = before  # running moments have followed
    found = np.concatenate(
        [
            np.zeros(one.size, dtype) if one.grad is None else one.grad.ravel()
            for one in network.parameters().values()
        ]
    )
    for n_threads in THREADS:
        planned, grad = planned_gradient(plan, flat, X, y, n_threads)
        np.testing.assert_array_equal(found, grad)
        # Two means, in different orders, of n numbers of one sign: each is within n roundings.
        assert abs(loss.item() - planned) <= 2 * n * np.finfo(dtype).eps * planned


@over_dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_have_the_bits_of_the_network_at_once(name, dtype):
    X, y = data(1500, dtype)
    network = behind_wide_layers(NETWORKS[name]()).build(6, seed=3, dtype=dtype)
    fit(network, "softmax_cross_entropy", X, y, batch_size=100, max_epochs=1)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    flat = network._home.flat
    for few in (X, X[:1], X[:0]):
        with no_grad():
            expected = network(few).data if len(few) else np.empty((0, 3), dtype)
        for n_threads in THREADS:
            found = plan.core.predict(flat, few, raw=True, n_threads=n_threads)
            np.testing.assert_array_equal(found, expected)
            frozen = plan.core.freeze(flat).predict(few, raw=True, n_threads=n_threads)
            np.testing.assert_array_equal(frozen, expected)


@pytest.mark.threads
@pytest.mark.parametrize("name", NETWORKS)
def test_training_has_the_same_bits_on_any_number_of_threads(name):
    X, y = data(500, np.float32)
    trained = []
    for n_threads in THREADS:
        network = behind_wide_layers(NETWORKS[name]()).build(6, seed=3)
        before = network._home.flat.copy()
        given = {"batch_size": 150, "max_epochs": 3, "n_threads": n_threads}
        result = fit(network, "softmax_cross_entropy", X, y, **given)
        assert is_worth_threads(result.plan, 150)
        trained.append(network._home.flat)
        assert not np.array_equal(before, trained[0])
    for other in trained[1:]:
        np.testing.assert_array_equal(trained[0], other)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["beside", "parameters", "grid"])
def test_mixed_precision(name, precision):
    """What Functions get and give is of float32; the rest of what is kept loses bits, on any number
    of threads the same."""
    X, y = data(500, np.float32)
    trained = {}
    for n_threads in (1, 3):
        for kept in (precision, "full"):
            network = behind_wide_layers(NETWORKS[name]()).build(6, seed=3)
            given = {"batch_size": 150, "max_epochs": 3, "precision": kept, "history": "step"}
            result = fit(network, "softmax_cross_entropy", X, y, n_threads=n_threads, **given)
            trained[kept, n_threads] = network._home.flat, result.history["step_loss"][0]
    np.testing.assert_array_equal(trained[precision, 1][0], trained[precision, 3][0])
    assert not np.array_equal(trained[precision, 1][0], trained["full", 1][0])
    # Before the first update: weights and what layers pass on are rounded to 8 bits or more, by
    # 2**-9 at most, in some six layers; cubes treble that. Raw outputs are of order 1.
    assert abs(trained[precision, 1][1] - trained["full", 1][1]) < 6 * 3 * 2**-9


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"quantised", "checkpoints"}))
def test_finite_differences(name):
    """(A straight-through estimator has none.)"""
    X, y = data(40)
    network = NETWORKS[name]().build(6, seed=3)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    assert fastbp.check_gradients(plan, X, y).ok


def test_integers():
    class Table(nn.Module):
        def forward(self, x):
            table = self.parameter("table", (5, 3), nn.init.Normal(0.5))
            return Looked.apply(table, x).sum(axis=1)

    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 5, (20, 4)).astype(np.int32), rng.standard_normal((20, 3))
    network = Table().build(X, dtype=np.float64)
    plan = fastbp.compile(network, "squared_error")
    nn.SquaredError()(network(X), y).backward()
    _, grad = planned_gradient(plan, network._home.flat, X, y)
    np.testing.assert_array_equal(grad, network.parameters()["table"].grad.ravel())


class Waves(Function):
    """Of integers alone: the sine and the cosine of each, in the dtype of `reals`."""

    reals = np.float64

    @staticmethod
    def forward(ctx, t):
        assert not any(ctx.needs_input_grad)
        angles = t.astype(Waves.reals)
        return np.sin(angles), np.cos(angles)

    @staticmethod
    def backward(ctx, dsin, dcos):
        raise AssertionError("nothing to differentiate by")


class Timed(nn.Module):
    """A Function of integers alone before a layer."""

    def __init__(self):
        self.head = nn.Linear(2)

    def forward(self, t):
        sine, cosine = Waves.apply(t)
        return self.head(sine * cosine + cosine)


def test_a_function_of_integers_alone_has_no_gradient(monkeypatch):
    t = np.random.default_rng(0).integers(0, 9, (40, 3))
    sine, cosine = Waves.apply(t)
    np.testing.assert_array_equal(sine.data, np.sin(t.astype(float)))
    assert not (sine.requires_grad or cosine.requires_grad)
    y = np.random.default_rng(1).standard_normal((40, 2))
    for dtype in (np.float64, np.float32):
        monkeypatch.setattr(Waves, "reals", dtype)
        network = Timed().build(t, seed=1, dtype=dtype)
        plan = fastbp.compile(network, "squared_error")
        nn.SquaredError()(network(t), y.astype(dtype)).backward()
        _, grad = planned_gradient(plan, network._home.flat, plan.samples(t), plan.targets(y))
        eager = [one.grad.ravel() for one in network.parameters().values()]
        np.testing.assert_array_equal(grad, np.concatenate(eager))
        raw = plan.core.predict(network._home.flat, plan.samples(t))
        np.testing.assert_array_equal(raw, network(t).data)
        results = []
        for n_threads in (1, 3):
            module = Timed().build(t, seed=1, dtype=dtype)
            results.append(fastbp.fit(module, "squared_error", t, y, n_threads=n_threads))
        assert same_history(results[0].history, results[1].history)
        assert results[0].history["loss"][-1] < results[0].history["loss"][0]
    with pytest.raises(TypeError, match=r"Waves.forward returned float32, wanted float64"):
        Timed().build(t, dtype=np.float64)
    with pytest.raises(TypeError, match=r"Made.forward returned int64, wanted float32: integers"):
        make(lambda ctx, x: 2 * x).apply(t)
    with pytest.raises(TypeError, match="Waves: found no tensor of reals and no integer array"):
        Waves.apply(t.astype(float))


def test_steps_of_several_batches():
    """Batches whose samples the Function does not couple make the step of a large one."""
    X, y = data(1024, np.float32)
    trained = []
    for given in ({"batch_size": 1024}, {"batch_size": 256, "accumulate": 4}):
        for name in ("within", "quantised"):
            network = NETWORKS[name]().build(6, seed=3)
            fit(network, "softmax_cross_entropy", X, y, max_epochs=3, optimizer="sgd", **given)
            trained.append(network._home.flat)
    np.testing.assert_array_equal(trained[0], trained[2])
    # Here the gradients of weights by Functions, and of what they read, are summed by batches: of
    # some ten numbers below 1 for each sample, in 12 steps of rate 0.001.
    np.testing.assert_allclose(trained[1], trained[3], rtol=0, atol=12e-3 * 1e-6)


# -------------------------------------------------------------------------- what they get, and when


class Watched(Function, check=False):
    """Notes what it is called with; passes everything on."""

    calls: ClassVar[list] = []

    @staticmethod
    def forward(ctx, x):
        assert not x.flags.writeable and x.flags.c_contiguous and x.flags.owndata is False
        Watched.calls.append(("forward", threading.get_ident(), x, ctx.needs_input_grad))
        return x

    @staticmethod
    def backward(ctx, dy):
        Watched.calls.append(("backward", threading.get_ident(), dy, ctx.needs_input_grad))
        return dy


@pytest.fixture
def calls():
    Watched.calls = []
    return Watched.calls


def test_a_function_is_called_once_a_step_with_the_whole_batch(calls):
    X, y = data(70, np.float32)
    network = nn.Sequential(nn.Linear(4), lambda_of(Watched), nn.Linear(3)).build(6)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    del calls[:]
    fit(network, "softmax_cross_entropy", X, y, batch_size=40, max_epochs=2, n_threads=3)
    del calls[:-8]
    assert [(what, a.shape) for what, _, a, _ in calls] == 2 * [
        ("forward", (40, 4)),
        ("backward", (40, 4)),
        ("forward", (30, 4)),
        ("backward", (30, 4)),
    ]
    assert {thread for _, thread, _, _ in calls} == {threading.get_ident()}
    assert all(wanted == (True,) for *_, wanted in calls)
    del calls[:]
    plan.core.predict(network._home.flat, X[:66], n_threads=3)
    assert [(what, a.shape, wanted) for what, _, a, wanted in calls] == [
        ("forward", (66, 4), (False,))
    ]


def test_in_a_checkpoint_it_runs_again_and_keeps_nothing_before(calls):
    X, y = data(40, np.float32)
    layers = nn.Linear(4), lambda_of(Watched), nn.Linear(5)
    network = nn.Sequential(nn.Checkpoint(nn.Sequential(*layers)), nn.Linear(3)).build(6)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    del calls[:]
    planned_gradient(plan, network._home.flat, X, y)
    (first, _, x, _), (second, _, again, _), (third, *_) = calls
    assert (first, second, third) == ("forward", "forward", "backward")
    assert [wanted for *_, wanted in calls] == [(False,), (True,), (True,)]
    np.testing.assert_array_equal(x, again)


def test_arrays_stay_as_they_were_for_whoever_holds_them(calls):
    X, y = data(50, np.float32)
    network = nn.Sequential(nn.Linear(4), lambda_of(Watched), nn.Linear(3)).build(6)
    fit(network, "softmax_cross_entropy", X, y, batch_size=50, max_epochs=3, shuffle=False)
    forward = [a for what, _, a, _ in calls if what == "forward" and len(a) == 50]
    again = nn.Sequential(nn.Linear(4)).build(6)
    np.testing.assert_array_equal(forward[0], again(X).data)
    assert len({a.tobytes() for a in forward}) == 3


def test_what_forward_keeps_is_freed_behind_each_step(failing):
    alive, most = weakref.WeakSet(), []

    class Left:
        pass

    class Keeping(Function, check=False):
        @staticmethod
        def forward(ctx, x):
            ctx.left = Left()
            alive.add(ctx.left)
            most.append(len(alive))
            return x

        @staticmethod
        def backward(ctx, dy):
            assert isinstance(ctx.left, Left)
            return dy

    X, y = data(100, np.float32)
    network = nn.Sequential(nn.Linear(4), lambda_of(Keeping), nn.Linear(3)).build(6)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    gc.disable()
    try:
        fit(network, "softmax_cross_entropy", X, y, batch_size=10, max_epochs=3)
        planned_gradient(plan, network._home.flat, X, y)
        plan.core.predict(network._home.flat, X)
        plan.profile(X, y)
        plan.core.trace(network._home.flat, X, y)
        assert max(most) == 1 and len(alive) == 0 and len(most) > 30
        before = sys.getrefcount(Keeping), sys.getrefcount(None)
        for _ in range(20):
            planned_gradient(plan, network._home.flat, X, y)
        after = sys.getrefcount(Keeping), sys.getrefcount(None)
        assert before[0] == after[0] and abs(before[1] - after[1]) < 20
        # What fails before it is its turn in backward leaves nothing of it either.
        layers = nn.Linear(4), lambda_of(Keeping), lambda_of(Failing), nn.Linear(3)
        network = nn.Sequential(*layers).build(6)
        plan = fastbp.compile(network, "softmax_cross_entropy")
        failing(backward=0)
        with pytest.raises(Refusal):
            planned_gradient(plan, network._home.flat, X, y)
        assert len(alive) == 0
    finally:
        gc.enable()


def test_a_plan_outlives_its_module_and_holds_its_functions():
    X, _ = data(10, np.float32)
    network = nn.Sequential(nn.Linear(3), lambda_of(Cube)).build(6)
    core, flat = fastbp.compile(network, "softmax_cross_entropy").core, network._home.flat
    expected = core.predict(flat, X)
    del network
    gc.collect()
    np.testing.assert_array_equal(core.predict(flat, X), expected)


# --------------------------------------------------------------------------------------- learning


def test_a_straight_through_estimator_trains():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6)).astype(np.float32)
    y = X @ (rng.integers(-4, 5, (6, 2)).astype(np.float32) / 4)

    class Rounded(nn.Module):
        def forward(self, x):
            return x @ Round.apply(self.parameter("w", (6, 2), "zeros"))

    network = Rounded()
    result = fit(
        network, "squared_error", X, y, learning_rate_init=0.01, batch_size=50, max_epochs=40
    )
    # The weights that made y are multiples of 1/4: they are found, all of them.
    assert result.history["loss"][0] > 0.5
    np.testing.assert_array_equal(
        network(X).data, X @ np.round(network.parameters()["w"].data * 4) / 4
    )
    assert np.mean((network(X).data - y) ** 2) < 1e-10


@short_training
def test_an_estimator_with_a_function():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4)).astype(np.float32)
    y = X[:, 0] ** 3 - X[:, 1]
    network = nn.Sequential(nn.Linear(8), lambda_of(Cube), nn.Linear(1))
    model = NetworkRegressor(network, learning_rate_init=0.01, max_epochs=60, random_state=0)
    model.fit(X, y)
    assert model.score(X, y) > 0.9
    one = np.concatenate([model.predict(X[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(one, model.predict(X[:20]))
    with no_grad():
        np.testing.assert_array_equal(model.module_(X).data.ravel(), model.predict(X))


@short_training
def test_lbfgs():
    X, y = data(60)
    network = NETWORKS["within"]().build(6, seed=0, dtype=np.float64)
    result = fit(network, "softmax_cross_entropy", X, y, optimizer="lbfgs", max_epochs=30)
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]


# ----------------------------------------------------------------------------- what is told of them


def test_what_a_plan_tells():
    network = NETWORKS["within"]().build(6)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    plain = fastbp.compile(
        nn.Sequential(nn.Linear(7), nn.Linear(3)).build(6), "softmax_cross_entropy"
    )
    assert plan.flops(10) == plain.flops(10)
    description = plan.describe()
    entry = next(entry for entry in description.entries if entry.row == "Cube")
    assert entry.module == "1" and entry.shapes == ((7,),) and np.isnan(entry.flops).all()
    assert "those of Cube are not known" in str(description)
    assert "Cube" in description.svg() and "Cube" in description.dot()
    X, y = data(30, np.float32)
    assert "Cube" in str(plan.profile(X, y))
    values, gradients = plan.core.trace(network._home.flat, X, y)
    node = plan.core.nodes[1]
    (x,), (v,) = node["inputs"], node["results"]
    np.testing.assert_array_equal(values[v], values[x] * values[x] * values[x])
    np.testing.assert_array_equal(gradients[x], 3 * values[x] * values[x] * gradients[v])


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_is_what_is_taken(name):
    X, y = data(200, np.float32)
    network = NETWORKS[name]().build(6)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    memory = plan.memory(50, optimizer="sgd", n_samples=200)
    before = fastbp._core.allocated_bytes()
    fastbp._core.Training(
        plan.core,
        network._home.flat,
        X,
        y,
        rule="sgd",
        batch_size=50,
        states=np.zeros((0, plan.core.n_params), np.float32),
    )
    assert fastbp._core.allocated_bytes() - before == memory["total"] - memory["parameters"]
    memory = plan.memory(200, training=False)
    before = fastbp._core.allocated_bytes()
    plan.core.predict(network._home.flat, X)
    taken = fastbp._core.allocated_bytes() - before
    assert taken == memory["total"] - memory["parameters"] - memory["outputs"]


def test_a_result_that_is_not_finite_is_named():
    class Overflowing(Function, check=False):
        @staticmethod
        def forward(ctx, x):
            return x * np.inf if len(x) > 3 else x

        @staticmethod
        def backward(ctx, dy):
            return dy

    X, y = data(30, np.float32)
    network = nn.Sequential(nn.Linear(4), lambda_of(Overflowing), nn.Linear(3)).build(6)
    with np.errstate(invalid="ignore"), pytest.raises(NonFiniteError, match="'Overflowing'"):
        fit(network, "softmax_cross_entropy", X, y)


# ---------------------------------------------------------------------------------------- refusals


def wrong(check=True):
    class Wrong(Function, check=check):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            slope = 2 * ctx.saved[0] * dy
            slope[-1, 2] *= 3
            return slope

    return Wrong


def test_a_wrong_backward_is_refused_before_the_first_step():
    X, y = data(30, np.float32)
    kind = wrong()
    network = nn.Sequential(nn.Linear(4), lambda_of(kind), nn.Linear(3)).build(6)
    before = network._home.flat.copy()
    plan = fastbp.compile(network, "softmax_cross_entropy")
    plan.core.predict(before, X)  # which has no use for a backward
    with pytest.raises(ValueError, match=r"Wrong.backward is not the .* element \(\d+, 2\)"):
        fit(network, "softmax_cross_entropy", X, y, n_threads=2)
    np.testing.assert_array_equal(network._home.flat, before)
    kind = wrong(check=False)
    network = nn.Sequential(nn.Linear(4), lambda_of(kind), nn.Linear(3)).build(6)
    fit(network, "softmax_cross_entropy", X, y)


def traced(f, inputs=6):
    return nn.Sequential(nn.Lambda(f), nn.Linear(3)).build(inputs)


def make(forward, name="Made"):
    return type(name, (Function,), {"forward": staticmethod(forward)})


@pytest.mark.parametrize(
    ("forward", "error", "words"),
    [
        (lambda ctx, x: x.mean(axis=0), ValueError, r"Made.forward: .* \(6,\) for 2 .* first axis"),
        (lambda ctx, x: x[:2], ValueError, r"Made.forward: .* \(2, 6\) for 3 samples"),
        (lambda ctx, x: x @ x.T, ValueError, r"Made.forward: .* shapes \[\(2,\)\] and \[\(3,\)\]"),
        (lambda ctx, x: x > 0, TypeError, "Made.forward returned bool"),
        (lambda ctx, x: x.astype("f8"), TypeError, "Made.forward returned float64, wanted float32"),
        (lambda ctx, x: 1.0, TypeError, "Made.forward returned float, wanted an array"),
        (lambda ctx, x: x[:, :0], ValueError, "'Made'.* at least one"),
        (lambda ctx, x: (x,) * 5, ValueError, "found 5 results of 'Made', wanted 1 to 4"),
    ],
)
def test_forwards_that_cannot_be_planned(forward, error, words):
    network = nn.Sequential(nn.Lambda(make(forward).apply), nn.Linear(3))
    if "result" in words or "least" in words:
        network = nn.Sequential(nn.Linear(3), nn.Lambda(lambda x: first(make(forward).apply(x))))
    with pytest.raises(error, match=words):
        fastbp.compile(network.build(6), "squared_error")


def first(made):
    return made[0] if isinstance(made, tuple) else made


def test_arguments_that_cannot_be_planned():
    with pytest.raises(TypeError, match="Affine: argument 1 requires a gradient"):
        traced(lambda x: x + Affine.apply(x, *(Tensor(np.ones(6), requires_grad=True),) * 2, 1)[0])
    with pytest.raises(TypeError, match=r"Looked.forward returned int32, wanted float32: integers"):
        traced(lambda x: Looked.apply(x, 0), nn.Input((6,), "index"))
    with pytest.raises(TypeError, match="Cube: argument 0: found sparse samples, wanted dense"):
        traced(Cube.apply, nn.Input((6,), "sparse"))


def test_an_error_in_the_run_that_finds_shapes_says_what_it_was():
    def refuses(ctx, x):
        raise ArithmeticError("not these")

    with pytest.raises(ArithmeticError, match="not these") as caught:
        traced(make(refuses).apply)
    assert "Made.forward was run on random numbers for 2 samples" in caught.value.__notes__[0]


def test_other_shapes_than_when_it_was_traced():
    growing = make(lambda ctx, x: x if len(x) < 4 else x[:, :3])
    network = traced(growing.apply)
    plan = fastbp.compile(network, "squared_error")
    X = np.ones((5, 6), np.float32)
    with pytest.raises(ValueError, match=r"Made.forward: found .*\(5, 3\).* wanted .*\(5, 6\)"):
        plan.core.predict(network._home.flat, X)
    plan.core.predict(network._home.flat, X[:2])


def test_there_are_no_tangents():
    X, y = data(20)
    network = NETWORKS["within"]().build(6, dtype=np.float64)
    plan, flat = fastbp.compile(network, "softmax_cross_entropy").core, network._home.flat
    with pytest.raises(LookupError, match="Cube is a Function, which has no tangent"):
        plan.tangent(flat, X, flat)
    with pytest.raises(LookupError, match="Cube is a Function, which has no tangent"):
        plan.hessian_product(flat, X, y, flat)


# -------------------------------------------------------------------------------------- exceptions


class Everywhere(nn.Module):
    """Of samples and of parameters alone, with an embedding and a batch normalisation beside."""

    def __init__(self):
        self.first, self.last = nn.Linear(6), nn.Linear(3)
        self.norms = [nn.BatchNorm1d(), nn.BatchNorm1d()]

    def forward(self, x):
        table = Failing.apply(self.parameter("table", (4, 6), nn.init.Normal(0.5)))
        h = self.norms[0](self.first(x))
        h = Failing.apply(h) + ops.take(table, np.arange(2), axis=0).sum(axis=0)
        return self.last(self.norms[1](Cube.apply(h)))


def failing_network(where):
    if where == "samples":
        layers = nn.Linear(5), lambda_of(Failing), nn.BatchNorm1d(), nn.Linear(3)
        return behind_wide_layers(nn.Sequential(*layers))
    if where == "checkpoint":
        layers = nn.Linear(5), lambda_of(Failing), nn.Tanh()
        return nn.Sequential(
            behind_wide_layers(nn.Checkpoint(nn.Sequential(*layers))), nn.Linear(3)
        )
    return behind_wide_layers(Everywhere())


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("where", ["samples", "everywhere", "checkpoint"])
def test_an_exception_ends_training_with_the_weights_of_the_last_epoch(
    where, way, n_threads, failing
):
    X, y = data(480, np.float32)
    given = {"batch_size": 120, "n_threads": n_threads, "seed": 1}
    network = failing_network(where).build(6, seed=0)
    result = fit(network, "softmax_cross_entropy", X, y, max_epochs=2, **given)
    assert is_worth_threads(result.plan, 120)
    after_two = network._home.flat.copy()
    for n_calls in (0, 1):  # the first of the epoch's, and of its first step the next
        network = failing_network(where).build(6, seed=0)
        of_step = {"samples": 1, "everywhere": 2, "checkpoint": 2 if way == "forward" else 1}[where]
        # When it is traced, a Function of samples runs twice, one of parameters once.
        traced = (3 if where == "everywhere" else 2) if way == "forward" else 0
        failing(**{way: traced + 2 * 4 * of_step + n_calls})
        with pytest.raises(Refusal, match="enough") as caught:
            fit(network, "softmax_cross_entropy", X, y, max_epochs=9, **given)
        assert caught.value is Failing.error and Failing.left[way] == -1
        np.testing.assert_array_equal(network._home.flat, after_two)
        # And there is nothing left of it.
        failing()
        again = fit(network, "softmax_cross_entropy", X, y, max_epochs=1, **given)
        assert np.isfinite(again.history["loss"]).all()


@pytest.mark.threads
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("nth", [0, 1])
def test_an_exception_ends_any_other_call(way, nth, n_threads, failing):
    X, y = data(600, np.float32)
    network = behind_wide_layers(Everywhere()).build(6, seed=0)
    plan, flat = fastbp.compile(network, "softmax_cross_entropy"), network._home.flat
    core, before = plan.core, flat.copy()
    grad = np.empty_like(flat)
    expected = core.loss_gradient(flat, X, y, grad=grad), core.predict(flat, X)
    calls = [
        lambda: core.loss_gradient(flat, X, y, grad=np.empty_like(grad), n_threads=n_threads),
        lambda: core.profile(flat, X, y),
        lambda: core.trace(flat, X, y),
    ]
    if way == "forward":
        calls.append(lambda: core.predict(flat, X, n_threads=n_threads))
    if way == "forward" and nth == 0:
        calls.append(lambda: core.freeze(flat))
    for call in calls:
        failing(**{way: nth})
        with pytest.raises(Refusal) as caught:
            call()
        assert caught.value is Failing.error
        failing()
        call()
    again = np.empty_like(flat)
    assert core.loss_gradient(flat, X, y, grad=again) == expected[0]
    np.testing.assert_array_equal(grad, again)
    np.testing.assert_array_equal(core.predict(flat, X), expected[1])
    np.testing.assert_array_equal(flat, before)


def test_a_stopped_gradient_follows_no_indices_that_nobody_has_gathered(failing):
    class Scaled(nn.Module):
        def forward(self, x):
            scale = Failing.apply(self.parameter("scale", (4,), 1.0))
            table = self.parameter("table", (7, 4), nn.init.Normal(1e9))
            return ops.take(table, x, axis=0).sum(axis=1) * scale

    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 7, (500, 30)).astype(np.int32), np.ones((500, 4), np.float32)
    network = Scaled().build(X)
    core, flat = fastbp.compile(network, "squared_error").core, network._home.flat
    for n in (500, 300, 60):  # in the room of the larger ones, where floats lay
        core.loss_gradient(flat, X[:n], y[:n], grad=np.empty_like(flat))
        failing(forward=0)
        for fewer in (n // 2, n // 3, n // 7):
            with pytest.raises(Refusal):
                core.loss_gradient(flat, X[:fewer], y[:fewer], grad=np.empty_like(flat))
            failing(forward=0)
        failing()


def test_a_training_runs_again_behind_an_exception(failing):
    X, y = data(100, np.float32)
    network = nn.Sequential(nn.Linear(5), lambda_of(Failing), nn.Linear(3)).build(6)
    plan, flat = fastbp.compile(network, "softmax_cross_entropy").core, network._home.flat
    states = np.zeros((0, plan.n_params), np.float32)
    training = fastbp._core.Training(plan, flat, X, y, rule="sgd", states=states, batch_size=20)
    failing(forward=7)
    with pytest.raises(Refusal):
        training.run([0.1, 0.1])
    assert training.progress["epochs"] == 1 and not training.progress["interrupted"]
    failing()
    assert training.run([0.1, 0.1])["epochs"] == 2


def test_an_exception_within_a_call_within_a_function(failing):
    """A Function may run a plan of its own; each call raises its own error."""
    X, _ = data(10, np.float32)
    inner = nn.Sequential(nn.Linear(4), lambda_of(Failing)).build(6)
    core, flat = fastbp.compile(inner, "squared_error").core, inner._home.flat

    class Outer(Function, check=False):
        @staticmethod
        def forward(ctx, x):
            try:
                return core.predict(flat, np.ascontiguousarray(x))
            except Refusal as error:
                raise LookupError("the inner one") from error

        @staticmethod
        def backward(ctx, dy):
            raise NotImplementedError

    outer = nn.Sequential(lambda_of(Outer), nn.Linear(1)).build(6)
    plan = fastbp.compile(outer, "squared_error").core
    plan.predict(outer._home.flat, X)
    failing(forward=0)
    with pytest.raises(LookupError, match="the inner one") as caught:
        plan.predict(outer._home.flat, X)
    assert isinstance(caught.value.__cause__, Refusal)


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_ctrl_c_in_a_function_ends_training_as_elsewhere(way):
    armed = []

    class Interrupted(Function, check=False):
        @staticmethod
        def forward(ctx, x):
            if way == "forward" and len(x) == 60:
                Interrupted.count()
            return x

        @staticmethod
        def backward(ctx, dy):
            if way == "backward":
                Interrupted.count()
            return dy

        @staticmethod
        def count():
            armed.append(1)
            if len(armed) == 6:
                signal.raise_signal(signal.SIGINT)

    X, y = data(240, np.float32)

    def network():
        return nn.Sequential(nn.Linear(5), lambda_of(Interrupted), nn.Linear(3)).build(6, seed=0)

    shown, expected = network(), network()
    with pytest.warns(UserWarning, match="interrupted after 1 whole epochs"):
        result = fit(shown, "softmax_cross_entropy", X, y, batch_size=60, max_epochs=9, seed=1)
    assert result.n_epochs == 1
    armed.extend([1] * 10)
    fit(expected, "softmax_cross_entropy", X, y, batch_size=60, max_epochs=1, seed=1)
    np.testing.assert_array_equal(shown._home.flat, expected._home.flat)


def test_a_constant_that_is_given_is_a_copy():
    class Scaled(Function):
        @staticmethod
        def forward(ctx, x, c):
            ctx.save_for_backward(c)
            return x * c

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved[0], None

    constant = Tensor(np.array([2.0, 3.0], np.float32))
    module = nn.Lambda(lambda x: Scaled.apply(x, constant)).build(2)
    plan = compile(module).core
    constant.data[...] = 7
    predicted = plan.predict(module._home.flat, np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(predicted, [[2, 3]])
