"""What a plan says of itself before it runs, and what running it takes: order, FLOPs, memory."""

import itertools

import numpy as np
import pytest
from helpers import Run, fails_well, over_dtypes

import fastbp
from fastbp import _core, nn, ops
from fastbp.testing import network


def test_order_runs_every_row_once_forward_and_once_backward():
    """R3: one forward and one backward pass hold every row once."""
    plan = network((4, 6, 5, 3), ("gelu", {}), ("huber", {})).plan
    linear, gelu = (0, 2, 4), (1, 3)
    assert plan.order() == (
        *(("forward", node) for node in range(5)),
        ("loss", 0),
        *(("backward", node) for node in (4, 3, 2, 1)),  # none to the samples
        *(("backward_shared", node) for node in linear for _ in ("weight", "bias")),
    )
    assert [plan.nodes[node]["name"] for node in (*linear, *gelu)] == ["linear"] * 3 + ["gelu"] * 2


def test_flops_of_a_dense_network():
    """R6 and R96: backward is twice forward, less the input gradient of the first layer."""
    sizes = (784, 512, 256, 10)
    plan = network(sizes, ("identity", {}), n_samples=1).plan
    products = [2 * a * b for a, b in itertools.pairwise(sizes)]
    flops = plan.flops(128)
    # Biases, activations and the loss are below 1 % of these products.
    assert flops["forward"] == pytest.approx(128 * sum(products), rel=0.01)
    assert flops["backward"] == pytest.approx(128 * (2 * sum(products) - products[0]), rel=0.01)
    assert plan.flops(256)["forward"] == 2 * flops["forward"]


@pytest.mark.parametrize(
    ("row", "shapes", "backward"),
    [
        ("add", ((None, 3), (None, 3)), 0),  # both gradients are the result's
        ("add", ((None, 3), (3,)), 1),  # one is summed
        ("subtract", ((None, 3), (None, 3)), 1),  # one changes its sign
        ("multiply", ((None, 3), (None, 3)), 2),
        ("multiply", ((None, 3), (3,)), 3),
        ("divide", ((None, 3), (None, 3)), 4),
    ],
)
def test_flops_of_arithmetic(row, shapes, backward):
    node = _core.Node(row, shapes, dtype=np.float32)
    assert (node.flops_forward, node.flops_backward) == (3, 3 * backward)


def test_memory_is_planned():
    """R14: the tensors that backward reads are listed, and the total is the sum of its parts."""
    plan = network((64, 100, 10), ("relu", {}), dtype=np.float32).plan
    memory = plan.memory(200, rule="adam", n_samples=1797)
    assert memory["parameters"] == 4 * (64 * 100 + 100 + 100 * 10 + 10)
    assert memory["optimizer_state"] == 2 * memory["parameters"]
    assert memory["last_epoch"] >= memory["parameters"]
    # One input for each layer, one delta for each layer, of 200 rows; rows are padded a little.
    assert 200 * 4 * (64 + 100) <= memory["activations"] <= 1.5 * 200 * 4 * (64 + 100)
    assert 200 * 4 * (100 + 10) <= memory["deltas"] <= 1.5 * 200 * 4 * (100 + 10)
    assert memory["order"] >= 4 * 1797
    assert memory["total"] == sum(size for part, size in memory.items() if part != "total")
    assert 0 <= memory["other"] <= 200 * 4 * 4 + 8192  # targets, scales and losses; small tables
    # The tile of one thread, the largest layer's at most.
    assert 0 < memory["gradients"] <= 4 * (64 * 100 + 100) + 128
    blocks = plan.memory(2048, rule="adam")
    assert blocks["gradients"] >= plan.balance(2048, 1)["n_blocks"] * memory["parameters"]
    larger = plan.memory(400, rule="adam", n_samples=1797)
    assert larger["activations"] == pytest.approx(2 * memory["activations"], rel=0.01)
    assert plan.memory(200, n_threads=2)["gradients"] == 2 * plan.memory(200)["gradients"]


GRAPHS = {
    "dense": lambda: nn.Sequential(nn.Linear(30), nn.GELU(), nn.Linear(5)),
    "wide": lambda: nn.Sequential(nn.Linear(900), nn.ReLU(), nn.Linear(5)),
    "deep": lambda: nn.Sequential(*[nn.Residual(nn.Linear(12)) for _ in range(9)], nn.Linear(5)),
    "tied": lambda: Tied(),
}


class Tied(nn.Module):
    """A convolution used twice, attention, a norm, and what keeps more than its results."""

    def __init__(self):
        self.out = nn.Linear(5)

    def forward(self, x):
        kernel = self.parameter("kernel", (3, 3, 3), "he_normal")
        x = x.reshape(x.shape[0], 4, 3)
        for _ in range(2):
            x = ops.conv(x, kernel, padding=1)
        x = ops.layer_norm(ops.attention(x, x, x), self.parameter("gain", (3,), 1.0))
        return self.out(x.reshape(x.shape[0], 12))


def built(name, dtype):
    return nn.Sequential(GRAPHS[name]()).build(12, dtype=dtype)


@over_dtypes
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch_size", [1, 7, 300])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_training_takes_what_was_said(name, dtype, batch_size, n_threads):
    """R14, R97: to the byte, what C allocates and what NumPy does for it."""
    plan = fastbp.compile(built(name, dtype), "squared_error")
    said = plan.memory(batch_size, n_threads=n_threads, optimizer="adam", n_samples=400)
    X, y = np.ones((400, 12), dtype), np.ones((400, 5), dtype)
    params, states = np.zeros(plan.core.n_params, dtype), np.zeros((2, plan.core.n_params), dtype)
    before = _core.allocated_bytes()
    training = _core.Training(
        plan.core,
        params,
        X,
        y,
        rule="adam",
        states=states,
        batch_size=batch_size,
        n_threads=n_threads,
    )
    training.run([0.1])
    taken = _core.allocated_bytes() - before + params.nbytes + states.nbytes
    assert taken == said["total"]
    assert said["parameters"] == params.nbytes and said["optimizer_state"] == states.nbytes
    assert said["total"] == sum(size for part, size in said.items() if part != "total")
    assert min(said.values()) >= 0


@over_dtypes
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("n_samples", [1, 64, 65, 3000])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_predict_takes_what_was_said(name, dtype, n_samples, n_threads):
    network = built(name, dtype)
    plan = fastbp.compile(network)
    said = plan.memory(n_samples, n_threads=n_threads, training=False)
    X = np.ones((n_samples, 12), dtype)
    before = _core.allocated_bytes()
    made = plan.core.predict(network._home.flat, X, n_threads=n_threads)
    taken = _core.allocated_bytes() - before + network._home.flat.nbytes + made.nbytes
    assert taken == said["total"]
    assert said["total"] == sum(size for part, size in said.items() if part != "total")


def test_memory_grows_with_the_batch_alone_where_it_has_to():
    """R97: what is kept is linear in samples and in layers; parameters and copies stay."""
    plan = fastbp.compile(built("dense", np.float32), "squared_error")
    small, large = plan.memory(500), plan.memory(1000)
    assert large["activations"] == 2 * small["activations"]
    assert large["deltas"] == 2 * small["deltas"]
    assert (large["parameters"], large["weight_copies"]) == (
        small["parameters"],
        small["weight_copies"],
    )

    def kept(n_layers):
        layers = [nn.Residual(nn.Sequential(nn.Linear(16), nn.Tanh())) for _ in range(n_layers)]
        network = nn.Sequential(nn.Linear(16), *layers).build(16)
        return fastbp.compile(network, "squared_error").memory(64)["activations"]

    assert kept(24) - kept(16) == kept(16) - kept(8) > 0


def test_only_gradients_of_several_parts_have_room_for_them():
    """Wide layers' gradients are formed in one part each, in a thread's room; those of the head,
    which has few weights, in blocks of samples."""
    deep = nn.Sequential(*[nn.Linear(256) for _ in range(8)], nn.Linear(10)).build(256)
    plan = fastbp.compile(deep, "squared_error")
    n_blocks = plan.core.balance(2048, 1)["n_blocks"]
    assert n_blocks > 1
    largest, head = 4 * 257 * 256, 4 * 257 * 10
    padding = 4 * 16 + 64  # a line that products overrun, and to whole lines
    gradients = plan.memory(2048, n_threads=1)["gradients"]
    assert n_blocks * head <= gradients <= n_blocks * (head + padding) + largest + padding


def planned(shape, *layers, batch_size=8):
    """What training of a network of these layers takes, for samples of this shape."""
    network = nn.Sequential(*layers).build(shape)
    return fastbp.compile(network, "squared_error").memory(batch_size)


def blocks(n, width, length, batch_size=8):
    layers = [nn.TransformerBlock(2) for _ in range(n)]
    shape = (length, 16)
    return planned(shape, nn.Linear(width), *layers, nn.Flatten(), batch_size=batch_size)


def scan(length):
    return planned((length, 4), nn.LSTM(8, output="last"), nn.Linear(1))


@pytest.mark.parametrize(
    "kept",
    [
        lambda k: blocks(2, 16, 32, batch_size=64 * k),
        lambda k: blocks(2, 16, 128 * k),
        lambda k: blocks(2, 16 * k, 32),
        lambda k: blocks(2 * k, 16, 32),
        lambda k: scan(16 * k),
    ],
    ids=["samples", "positions", "width", "layers", "steps"],
)
def test_what_is_kept_is_linear(kept):
    """R97: in samples, in their length, in the width and in the number of layers."""
    activations = [kept(k)["activations"] for k in (1, 2, 3, 4)]
    (slope,) = set(np.diff(activations))
    # Of the largest most is proportional; the rest belongs to the ends of the network.
    assert 0.75 * activations[-1] < 4 * slope <= activations[-1]


def test_attention_takes_memory_in_proportion_to_the_length():
    """R22: a softmax of all pairs written out takes that of their number."""

    class Pairs(nn.Module):
        def forward(self, x):
            return (x @ x.transpose(0, 2, 1)).softmax(axis=2) @ x

    def total(length, mixing):
        return planned((length, 16), nn.Linear(16), mixing, nn.Flatten())["total"]

    rows = [total(length, nn.Lambda(lambda x: ops.attention(x, x, x))) for length in (512, 2048)]
    pairs = [total(length, Pairs()) for length in (512, 2048)]
    assert rows[1] / rows[0] < 4.1
    assert pairs[1] / pairs[0] > 10
    assert rows[1] < pairs[1] / 5


def test_the_steady_state_allocates_nothing():
    net = network((20, 30, 3), n_samples=100)
    run = Run(net, batch_size=20)
    run(1)
    before = _core.allocation_count()
    run(50)
    assert _core.allocation_count() == before


def test_repeated_calls_of_one_plan_allocate_nothing():
    net = network((20, 30, 3), n_samples=100)
    grad = np.empty_like(net.params)
    calls = [
        lambda: net.plan.predict(net.params, net.X),
        lambda: net.plan.loss_gradient(net.params, net.X, net.y, grad=grad),
        lambda: net.plan.hessian_product(net.params, net.X, net.y, net.params),
        lambda: net.plan.tangent(net.params, net.X, net.params),
    ]
    for call in calls:
        call()
        before = _core.allocation_count()
        for _ in range(20):
            call()
        assert _core.allocation_count() == before


def test_a_failed_allocation_is_an_error_and_nothing_else():
    """The n-th allocation fails, for every n, until the call succeeds; then all is as ever."""
    net = network((6, 9, 4), n_samples=23)
    expected = net.plan.predict(net.params, net.X)
    grad = np.empty_like(net.params)

    def fresh():
        return _core.Plan(*net.arguments, dtype=np.float64)

    calls = [
        fresh,
        lambda: fresh().predict(net.params, net.X),
        lambda: fresh().loss_gradient(net.params, net.X, net.y, grad=grad),
        lambda: fresh().hessian_product(net.params, net.X, net.y, net.params),
        lambda: fresh().tangent(net.params, net.X, net.params),
        lambda: fresh().inspect(net.params, net.X, net.y),
        lambda: Run(net, "adam")(2),
    ]
    for call in calls:
        fails_well(call)
    np.testing.assert_array_equal(net.plan.predict(net.params, net.X), expected)
