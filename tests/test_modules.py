"""Modules: descriptions, what they are built into, and the same bits at once and planned."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

import fastbp
from fastbp import Tensor, nn, no_grad, ops

DTYPES = [np.float32, np.float64]


class Gate(nn.Module):
    """A module as a user writes one: parts made in __init__, a parameter of its own."""

    def __init__(self, width=5):
        self.width = width
        self.gate = nn.Linear(width)

    def forward(self, x):
        scale = self.parameter("scale", (self.width,), 0.5)
        return x * self.gate(x).logistic() * scale


class Tied(nn.Module):
    """One module used three times, and a part of x past them."""

    def __init__(self):
        self.again = nn.Linear(4)

    def forward(self, x):
        first = x[:, :4]
        for _ in range(3):
            first = self.again(first).tanh()
        return ops.concatenate([first, x[:, 4:]], axis=1)


class Autoencoder(nn.Module):
    """Its decoder has the encoder's weights, the other way round."""

    def __init__(self, width=4):
        self.encoder = nn.Linear(width)

    def forward(self, x):
        hidden = self.encoder(x).tanh()
        return ops.matmul(hidden, self.encoder.weight.T)


class Normalised(nn.Module):
    """Weights of a learnt length, g v / ||v||, some of which are masked in training."""

    def __init__(self, width=3):
        self.width = width
        self.mask = nn.Dropout(0.3)

    def forward(self, x):
        v = self.parameter("v", (x.shape[-1], self.width), "he_normal")
        g = self.parameter("g", (self.width,), 1.0)
        weight = g * v / (v * v).sum(axis=0).sqrt()
        return x @ self.mask(weight) * self.parameter("scale", (), 0.1).exp()


class LowRank(nn.Module):
    """Weights and a difference of low rank; part of a parameter, and a softmax of another."""

    def forward(self, x):
        w = self.parameter("w", (6, 3), "he_normal")
        a, b = self.parameter("a", (6, 2), "he_normal"), self.parameter("b", (2, 3), "he_normal")
        shares = self.parameter("shares", (5, 3), "he_normal").softmax(axis=0)
        return (x @ (w + a @ b)) * shares[1] + w[0, :3]


def shapes(x):
    """Every way of moving elements about that keeps samples apart."""
    x = x.reshape(x.shape[0], 3, 2)
    x = x.transpose(0, 2, 1)[:, ::-1]
    x = ops.pad(x, (0, 1, 0), (0, 0, 2))
    x = x.reshape(-1, 15)
    return ops.concatenate([x[:, [3, 0, 0]], x.sum(axis=1, keepdims=True)], axis=-1)


NETWORKS = {
    "dense": lambda: nn.Sequential(nn.Linear(7), nn.GELU(), nn.Linear(3)),
    "a user's": lambda: nn.Sequential(nn.Linear(5), Gate(5), nn.Linear(3)),
    "tied": lambda: nn.Sequential(Tied(), nn.Linear(3)),
    "residual": lambda: nn.Sequential(
        nn.Linear(5),
        nn.Residual(nn.Sequential(nn.Linear(5), nn.ReLU())),
        nn.Residual(nn.Linear(3), nn.Linear(3, bias=False)),
    ),
    "tied the other way": lambda: nn.Sequential(Autoencoder(), nn.Linear(3)),
    "normalised weights": lambda: nn.Sequential(Normalised(5), nn.ReLU(), Normalised(3)),
    "low rank": lambda: LowRank(),
    "masks": lambda: nn.Sequential(
        nn.Dropout(0.2), nn.Linear(9), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(3)
    ),
    "shapes": lambda: nn.Sequential(nn.Lambda(shapes), nn.Linear(3)),
    "computed constants": lambda: nn.Sequential(
        nn.Lambda(lambda x: x + ops.exp(np.zeros(6, x.dtype)) * x.shape[1]), nn.Linear(3)
    ),
    "constants": lambda: nn.Sequential(
        nn.Lambda(lambda x: 2 * x - [0, 1, 2, 3, 4, 5] + ops.maximum(x, 0.5)), nn.Linear(3)
    ),
}


def data(n=17, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 6)).astype(dtype), rng.integers(0, 3, n).astype(np.int32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_at_once_and_planned(name, dtype):
    X, y = data(dtype=dtype)
    network = NETWORKS[name]().build(6, seed=3, dtype=dtype)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    flat = network._home.flat
    with no_grad():
        np.testing.assert_array_equal(network(X).data, plan.core.predict(flat, X, raw=True))
    loss = nn.SoftmaxCrossEntropy()(network(X), y)
    loss.backward()
    found = np.concatenate([one.grad.ravel() for one in network.parameters().values()])
    grad = np.full_like(flat, np.nan)
    planned = plan.core.loss_gradient(flat, X, y, grad=grad, draws=(3, 0))
    np.testing.assert_array_equal(found, grad)
    # Two means, in different orders, of n numbers of one sign: each is within n roundings.
    assert abs(loss.item() - planned) <= 2 * len(y) * np.finfo(dtype).eps * planned


def test_masks_differ_from_call_to_call_and_are_not_in_predictions():
    X, _ = data()
    network = NETWORKS["masks"]().build(6, dtype=np.float64)
    one, other = network(X).data, network(X).data
    assert not np.array_equal(one, other)
    with no_grad():
        np.testing.assert_array_equal(network(X).data, network(X).data)
    with nn.training(False):
        recorded = network(X)
    assert recorded.requires_grad
    with no_grad():
        np.testing.assert_array_equal(recorded.data, network(X).data)
    with no_grad(), nn.training(True):
        assert not np.array_equal(network(X).data, recorded.data)


class Backwards(nn.Module):
    """Its parts run in another order than they are made in."""

    def __init__(self):
        self.second, self.first = nn.Linear(2), nn.Linear(3)

    def forward(self, x):
        return self.second(self.first(x))


def test_parameters_are_listed_in_the_order_of_the_buffer():
    network = Backwards().build(6)
    listed = np.concatenate([one.data.ravel() for one in network.parameters().values()])
    np.testing.assert_array_equal(listed, network._home.flat)
    assert next(iter(network.parameters())) == "first.weight"


def test_parameters_are_views_of_one_buffer():
    network = NETWORKS["residual"]().build(6)
    flat, parameters = network._home.flat, network.parameters()
    assert sum(one.size for one in parameters.values()) == flat.size
    for one in parameters.values():
        assert np.shares_memory(one.data, flat)
        one.data[...] = 2.0
    assert (flat == 2.0).all()
    one.data = np.zeros(one.shape)
    assert (flat[-one.size :] == 0.0).all()
    # Another array in the tensor's place is taken up.
    one.tensor.data = np.ones(one.shape, np.float32)
    assert (network._home.settle()[-one.size :] == 1.0).all()
    assert np.shares_memory(one.data, flat)


@pytest.mark.parametrize("copied", [copy.deepcopy, clone, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_values_of_their_own(copied):
    network = nn.Sequential(nn.Linear(3), Gate(3)).build(4)
    other = copied(network)
    np.testing.assert_array_equal(other._home.flat, network._home.flat)
    other.parameters()["1.gate.weight"].data[...] = 0.0
    assert other._home.flat.min() < 0 < network.parameters()["1.gate.weight"].data.std()
    assert np.shares_memory(other[1].gate.weight.data, other._home.flat)
    assert (other.parameters()["1.gate.weight"].data == 0).all()


def test_a_pickle_holds_the_values_once():
    network = nn.Sequential(nn.Linear(300)).build(300)
    network(np.ones((1, 300), np.float32)).sum().backward()
    # 1 kB for the names; the gradients are not kept.
    assert len(pickle.dumps(network)) < network._home.flat.nbytes + 4096


def test_a_seed_decides_and_a_layer_does_not_depend_on_those_behind_it():
    one = nn.Sequential(nn.Linear(3), nn.Linear(4)).build(5, seed=1).parameters()
    other = nn.Sequential(nn.Linear(3), nn.Linear(9)).build(5, seed=1).parameters()
    third = nn.Sequential(nn.Linear(3), nn.Linear(4)).build(5, seed=2).parameters()
    np.testing.assert_array_equal(one["0.weight"].data, other["0.weight"].data)
    assert not np.array_equal(one["0.weight"].data, third["0.weight"].data)
    assert not np.array_equal(one["0.weight"].data.ravel()[:12], one["1.weight"].data.ravel())


def test_descriptions():
    network = nn.Sequential(nn.Linear(3), nn.LeakyReLU(0.2), Gate(3))
    params = network.get_params()
    assert params["0__out_features"] == 3 and params["1__slope"] == 0.2 and params["2__width"] == 3
    network.set_params(**{"0__out_features": 4, "1__slope": 0.3, "2__width": 4})
    # What __init__ makes of its arguments follows.
    assert network[2].gate.out_features == 4 and network[1].slope == 0.3
    assert network.build(2).parameters()["2.gate.weight"].shape == (4, 4)
    network.set_params(**{"1": nn.Tanh()})
    assert isinstance(network[1], nn.Tanh)
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        network.set_params(width=3)
    assert repr(network).startswith("Sequential(\n  Linear(out_features=4),\n  Tanh(),")


def test_parts_keep_their_values_and_leave_their_network():
    body = nn.Sequential(nn.Linear(3), nn.Tanh())
    first = nn.Sequential(body, nn.Linear(2)).build(4, seed=1)
    before = first.parameters()["0.0.weight"].data.copy()
    second = nn.Sequential(body, nn.Linear(5)).build(4, seed=2)
    np.testing.assert_array_equal(second.parameters()["0.0.weight"].data, before)
    with pytest.raises(RuntimeError, match="built into another network"):
        first(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"0.0.weight: has values of shape \(4, 3\), wanted \(6, "):
        second.build(6)
    assert second.reset().build(6).parameters()["0.0.weight"].shape == (6, 3)


def test_freezing():
    network = nn.Sequential(nn.Linear(3), nn.ReLU(), Gate(3)).build(4)
    network.freeze("0", "2.*.bias")
    frozen = [name for name, one in network.parameters().items() if not one.trainable]
    assert frozen == ["0.weight", "0.bias", "2.gate.bias"]
    network(np.ones((2, 4), np.float32)).sum().backward()
    gradients = {name: one.grad for name, one in network.parameters().items()}
    assert [name for name, one in gradients.items() if one is None] == frozen
    with pytest.raises(ValueError, match="freeze: found '7', wanted a part"):
        network.freeze("7")
    assert all(one.trainable for one in network.unfreeze().parameters().values())
    with pytest.raises(ValueError, match="frozen"):
        fastbp.compile(network.freeze(), "squared_error")
    # As a description, before anything is built.
    later = nn.Sequential(nn.Linear(3).freeze("bias"), nn.Linear(2)).build(4)
    assert [n for n, one in later.parameters().items() if not one.trainable] == ["0.bias"]


class Two(nn.Module):
    """Two inputs and two outputs, by name."""

    def __init__(self):
        self.table = nn.Linear(4)

    def forward(self, left, right):
        both = self.table(left) + self.table(right)
        return {"sum": both, "one": both[:, :1]}


def test_several_inputs_and_outputs():
    rng = np.random.default_rng(0)
    X = {"right": rng.normal(size=(9, 3)), "left": rng.normal(size=(9, 3))}
    y = {"one": rng.normal(size=(9, 1)), "sum": rng.normal(size=(9, 4))}
    network = Two().build({"left": 3, "right": 3}, dtype=np.float64)
    plan = fastbp.compile(network, {"sum": "squared_error", "one": ("absolute_error", 0.5)})
    made = network(**X)
    loss = nn.SquaredError()(made["sum"], y["sum"]) + 0.5 * nn.AbsoluteError()(
        made["one"], y["one"]
    )
    loss.backward()
    grad = np.empty_like(network._home.flat)
    planned = plan.core.loss_gradient(
        network._home.flat, plan.samples(X), plan.targets(y), grad=grad
    )
    # Sums of 36 and of 9 numbers, in different orders.
    assert abs(loss.item() - planned) < 45 * np.finfo(float).eps * planned
    found = np.concatenate([one.grad.ravel() for one in network.parameters().values()])
    np.testing.assert_array_equal(found, grad)
    with pytest.raises(
        ValueError, match=r"X: found a dict with \['left'\], .* \['right'\] missing"
    ):
        plan.samples({"left": X["left"]})
    with pytest.raises(ValueError, match=r"loss: found \['three'\], wanted names of outputs"):
        fastbp.compile(network, {"three": "squared_error"})


MIXED = {
    "a mean over all": lambda x: x - x.mean(),
    "a sum over samples": lambda x: x + x.sum(axis=0),
    "a softmax over samples": lambda x: x.softmax(axis=0),
    "samples turned into columns": lambda x: x.transpose(),
    "some samples": lambda x: x[:3],
    "one sample": lambda x: x + x[0],
    "samples backwards": lambda x: x[::-1],
    "samples beside each other": lambda x: ops.concatenate([x, x], axis=0),
    "two samples in one": lambda x: x.reshape(-1, 3),
    "another first axis": lambda x: x.reshape(3, -1),
    "more samples": lambda x: ops.pad(x, (1, 0), (0, 0)),
}


@pytest.mark.parametrize("name", MIXED)
def test_samples_stay_apart(name):
    with pytest.raises((ValueError, TypeError), match=r"sample|number of"):
        nn.Lambda(MIXED[name]).build(6)


def test_forward_depends_on_shapes_alone():
    for function in (
        lambda x: x if x.sum(axis=1).numpy().max() > 0 else -x,
        lambda x: -x if x[:, 0] > 0 else x,
        lambda x: x[np.argsort(x.argmax(1))],
        lambda x: x * float(x.max(axis=1)),
    ):
        with pytest.raises(TypeError, match="being traced"):
            nn.Lambda(function).build(6)
    with pytest.raises(TypeError, match="how many samples there are is not known"):
        nn.Lambda(lambda x: x + np.zeros((x.shape[0], 6))).build(6)
    with pytest.raises(TypeError, match="how many samples there are is not known"):
        nn.Lambda(lambda x: ops.stack(list(x))).build(6)


def test_an_argument_that_is_not_stored_is_named():
    class Forgetful(nn.Module):
        def __init__(self, width):
            self.inner = nn.Linear(width)

        def forward(self, x):
            return self.inner(x)

    module = Forgetful(3)
    assert module.build(2)(np.ones((1, 2), np.float32)).shape == (1, 3)
    for use in (module.get_params, lambda: repr(module), lambda: module.set_params(width=4)):
        with pytest.raises(AttributeError, match=r"has to store its argument, self\.width = width"):
            use()


def test_constant_tensors_stand_on_either_side():
    constant = Tensor(np.array([2.0, 3.0], np.float32))

    def forward(x):
        return constant - x * constant + ops.maximum(constant, x)

    module = nn.Lambda(forward).build(2)
    X = np.array([[1.0, 5.0]], np.float32)
    predicted = fastbp.compile(module).core.predict(module._home.flat, X)
    np.testing.assert_array_equal(predicted, [[2 - 2 + 2, 3 - 15 + 5]])
    np.testing.assert_array_equal(module(X).data, predicted)


def test_misuse_is_named():
    with pytest.raises(RuntimeError, match="no values yet, wanted build"):
        nn.Linear(3)(np.ones((1, 2)))
    with pytest.raises(TypeError, match="found function as layer 1, wanted a Module"):
        nn.Sequential(nn.Linear(3), ops.tanh)

    class MadeInForward(nn.Module):
        def forward(self, x):
            return nn.Linear(3)(x)

    with pytest.raises(ValueError, match="made in forward"):
        MadeInForward().build(2)

    class Foreign(nn.Module):
        def forward(self, x):
            return x * Tensor([1.0, 2.0], requires_grad=True)

    with pytest.raises(TypeError, match=r"no parameter of the module"):
        Foreign().build(2, dtype=np.float64)
    with pytest.raises(TypeError, match="found ndarray, wanted a tensor made of the inputs"):
        nn.Lambda(lambda x: np.zeros(3)).build(2)
    with pytest.raises(ValueError, match=r"init: found 'he', wanted a number or one of"):
        nn.Linear(2, init="he").build(2)
    with pytest.raises(ValueError, match="found shape"):
        nn.Residual(nn.Linear(3)).build(2)
    with pytest.raises(TypeError, match="inputs: found str, wanted the shape of a sample"):
        nn.Linear(2).build("5")
    with pytest.raises(RuntimeError, match="wanted this within a forward"):
        nn.Module().parameter("w", (2,))
    with pytest.raises(TypeError, match="add: b has dtype float64, wanted float32"):
        nn.Lambda(lambda x: x + np.ones(2)).build(2)
    with pytest.raises(TypeError, match="input 0: found dtype float64, wanted float32, that of"):
        nn.Linear(2).build(2)(np.ones((1, 2)))
    with pytest.raises(ValueError, match="loss: found 'square', wanted a Loss or one of the names"):
        fastbp.compile(nn.Linear(2).build(2), "square")


def test_integers_are_what_the_network_takes_them_for():
    class Looking(nn.Module):
        def forward(self, token, count):
            table = self.parameter("table", (5, 3), "he_uniform")
            return ops.embedding(token, table) + count.sum(axis=1, keepdims=True)

    samples = {"token": np.array([4, 0, 1]), "count": np.array([[1, 2], [3, 4], [5, 6]])}
    module = Looking().build(samples)
    assert {name: one.content for name, one in module._home.inputs.items()} == {
        "token": "index",
        "count": "real",
    }
    plan = fastbp.compile(module)
    made = plan.core.predict(module._home.flat, plan.samples(samples), raw=True)
    np.testing.assert_allclose(made, module.table.data[[4, 0, 1]] + [[3], [7], [11]], rtol=1e-6)
    dense = nn.Linear(2).build(np.array([[1, 2]]))
    assert dense._home.inputs == nn.Input((2,))
    with pytest.raises(ValueError, match="x of linear: found integers"):
        nn.Linear(2).build(nn.Input((2,), "index"))  # what is said is not doubted
    beside = nn.Lambda(lambda x, unused: x * 1.0).build(
        {"x": np.ones(3, int), "unused": np.ones(3, int)}
    )
    plan = fastbp.compile(beside)
    made = plan.core.predict(beside._home.flat, plan.samples({"x": [1, 2], "unused": [0, 1]}))
    np.testing.assert_array_equal(made, [1, 2])
