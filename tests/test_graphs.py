"""Plans of any graph: the bits of the same nodes run one by one, whatever the threads and tiles.

It is long because each kind of graph is written out, to be read beside what is asked of all.
"""

import numpy as np
import pytest
from eager import Eager
from helpers import Run, over_dtypes

from fastbp import _core

THREADS = (1, 2, 3, 7)


def listed(outputs):
    """Outputs of a plan: one array, or a tuple of several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def weight(*shape, **options):
    return {"shape": shape, "penalised": True, **options}


def bias(n, **options):
    return {"shape": (n,), **options}


class Case:
    """A graph with parameters and data; `forms` are the shapes of inputs, in words what to draw."""

    def __init__(self, graph, dtype=np.float64, n_samples=33, seed=0):
        rng = np.random.default_rng(seed)
        self.graph, self.dtype = graph, np.dtype(dtype)
        self.plan = _core.Plan(graph=graph, dtype=dtype)
        self.params = (0.5 * rng.standard_normal(self.plan.n_params)).astype(dtype)
        self.X = tuple(
            rng.integers(0, 3, (n_samples, *shape)).astype(np.int32)
            if content == "index"
            else rng.standard_normal((n_samples, *shape)).astype(dtype)
            for shape, content in graph["inputs"]
        )
        self.y = tuple(
            rng.integers(
                0, self.plan.values[loss["value"]]["shape"][-1], (n_samples, *shape)
            ).astype(np.int32)
            if kind == np.int32
            else rng.standard_normal((n_samples, *shape)).astype(dtype)
            for loss, (shape, kind) in zip(self.plan.losses, self.plan.target_forms, strict=True)
        )
        self.weights = rng.uniform(0.5, 2.0, n_samples).astype(dtype)

    def unpacked(self, arrays):
        """One array, or the tuple of several, as plans take them."""
        return arrays[0] if len(arrays) == 1 else arrays

    def gradient(self, n_threads=1, weighted=True):
        grad = np.full(self.plan.n_params, np.nan, self.dtype)
        loss = self.plan.loss_gradient(
            self.params,
            self.unpacked(self.X),
            self.unpacked(self.y),
            grad=grad,
            sample_weight=self.weights if weighted else None,
            n_threads=n_threads,
        )
        return loss, grad

    def eager(self):
        return Eager(self.graph, self.params, self.X, self.y, self.dtype, self.weights)

    def has_the_bits_of_its_nodes(self):
        """Values, gradients and the loss, beside those of the same nodes run one by one."""
        eager = self.eager()
        loss, grad = self.gradient()
        np.testing.assert_array_equal(grad, eager.flat)
        # Sums of the same terms in another order.
        rounding = 2 * eager.n_samples * np.finfo(np.float64).eps
        assert loss == pytest.approx(eager.loss, rel=rounding, abs=0)
        values, gradients = self.plan.trace(
            self.params, self.unpacked(self.X), self.unpacked(self.y), sample_weight=self.weights
        )
        for v, found in values.items():
            np.testing.assert_array_equal(found, eager.values[v], err_msg=f"value {v}")
        for v, found in gradients.items():
            np.testing.assert_array_equal(found, eager.gradients[v], err_msg=f"gradient {v}")


def dense(n_in=5, hidden=7, n_out=3):
    """0: x; 1 to 4: parameters; 5: z; 6: its activation; 7: raw output."""
    return {
        "inputs": [((n_in,), "real")],
        "parameters": [weight(n_in, hidden), bias(hidden), weight(hidden, n_out), bias(n_out)],
        "nodes": [("linear", {}, (0, 1, 2)), ("gelu", {}, (5,)), ("linear", {}, (6, 3, 4))],
        "losses": [{"name": "softmax_cross_entropy", "value": 7}],
        "outputs": [7],
    }


def two_heads(n_in=5, hidden=6):
    """A trunk that two losses reach, each through a layer of its own: its gradient is a sum."""
    return {
        "inputs": [((n_in,), "real")],
        "parameters": [
            *(weight(n_in, hidden), bias(hidden)),
            *(weight(hidden, 3), bias(3)),
            *(weight(hidden, 1), bias(1)),
        ],
        "nodes": [
            ("linear", {}, (0, 1, 2)),
            ("tanh", {}, (7,)),
            ("linear", {}, (8, 3, 4)),
            ("linear", {}, (8, 5, 6)),
        ],
        "losses": [
            {"name": "softmax_cross_entropy", "value": 9},
            {"name": "huber", "attrs": {"delta": 0.5}, "value": 10, "factor": 0.3},
        ],
        "outputs": [10, 9],
    }


def tied(width=6, uses=3):
    """One matrix of weights used several times, without and with a bias."""
    nodes = []
    for i in range(uses):
        last = 0 if i == 0 else 2 + 2 * i
        nodes += [("linear", {}, (last, 1, 2) if i % 2 else (last, 1)), ("silu", {}, (3 + 2 * i,))]
    return {
        "inputs": [((width,), "real")],
        "parameters": [weight(width, width), bias(width)],
        "nodes": nodes,
        "losses": [{"name": "squared_error", "value": 2 + 2 * uses}],
        "outputs": [2 + 2 * uses],
    }


def half_read(width=6):
    """Weights that a loss depends on through one node, and through another does not."""
    graph = tied(width)
    graph["nodes"] += [("linear", {}, (3, 1, 2)), ("tanh", {}, (9,)), ("linear", {}, (0, 1))]
    return graph


def bias_first(n_in=5, n_out=10):
    """Weights that end where the flat buffer does: behind them nothing may be read."""
    graph = dense(n_in, n_out, n_out)
    graph["parameters"] = graph["parameters"][::-1]
    graph["nodes"] = [
        ("linear", {}, (0, 4, 3)),
        ("gelu", {}, (5,)),
        ("linear", {}, (6, 2, 1)),
    ]
    return graph


def positions(n_steps=9, n_in=4, hidden=5, classes=3):
    """The same layers at every step of a sequence, and a loss at each."""
    graph = dense(n_in, hidden, classes)
    graph["inputs"] = [((n_steps, n_in), "real")]
    return graph


def frozen():
    """The second layer of three is frozen, the gradient passes through it to the first."""
    return {
        "inputs": [((4,), "real")],
        "parameters": [
            *(weight(4, 5), bias(5)),
            *(weight(5, 6, frozen=True), bias(6, frozen=True)),
            *(weight(6, 2), bias(2)),
        ],
        "nodes": [
            ("linear", {}, (0, 1, 2)),
            ("relu", {}, (7,)),
            ("linear", {}, (8, 3, 4)),
            ("relu", {}, (9,)),
            ("linear", {}, (10, 5, 6)),
        ],
        "losses": [{"name": "squared_error", "value": 11}],
        "outputs": [11],
    }


def elementwise_alone():
    """Activations on the samples themselves, one after another, and one that no loss reaches."""
    return {
        "inputs": [((4,), "real")],
        "parameters": [weight(4, 3)],
        "nodes": [
            ("tanh", {}, (0,)),
            ("softplus", {}, (2,)),
            ("linear", {}, (3, 1)),
            ("relu", {}, (4,)),
            ("gelu", {}, (5,)),
            ("exp", {}, (4,)),
        ],
        "losses": [{"name": "squared_error", "value": 6}],
        "outputs": [6, 7],
    }


def residual(width=6):
    """x + f(x) twice, the second around a normalised branch; a product of two branches at last."""
    return {
        "inputs": [((width,), "real")],
        "parameters": [
            *(weight(width, width), bias(width)),
            *(bias(width), bias(width)),
            *(weight(width, width), bias(width)),
            *(weight(width, 2), bias(2)),
        ],
        "nodes": [
            ("linear", {}, (0, 1, 2)),
            ("tanh", {}, (9,)),
            ("add", {}, (0, 10)),
            ("layer_norm", {}, (11, 3, 4)),
            ("linear", {}, (12, 5, 6)),
            ("gelu", {}, (13,)),
            ("add", {}, (14, 11)),
            ("multiply", {}, (15, 11)),
            ("exp", {}, (10,)),
            ("divide", {}, (16, 17)),
            ("linear", {}, (18, 7, 8)),
        ],
        "losses": [{"name": "squared_error", "value": 19}],
        "outputs": [19],
    }


def broadcast(width=5):
    """Parameters that meet samples elementwise: their gradients are sums over all samples."""
    return {
        "inputs": [((3, width), "real")],
        "parameters": [bias(width), weight(3, 1), weight(1), weight(width, 4), bias(4)],
        "nodes": [
            ("multiply", {}, (0, 1)),
            ("add", {}, (6, 2)),
            ("subtract", {}, (3, 7)),
            ("linear", {}, (8, 4, 5)),
            ("tanh", {}, (9,)),
        ],
        "losses": [{"name": "squared_error", "value": 10}],
        "outputs": [10],
    }


def transformer(length=6, width=8, words=3):
    """Words and places, a block of causal attention and a feed-forward, a loss at each position."""
    rows = [weight(words, width), weight(length, width)]
    rows += [bias(width), bias(width), weight(width, 3 * width), bias(3 * width)]
    rows += [weight(width, width), bias(width), bias(width), bias(width)]
    rows += [weight(width, 2 * width), bias(2 * width), weight(2 * width, width), bias(width)]
    rows += [weight(width, words), bias(words)]
    return {
        "inputs": [((length,), "index")],
        "parameters": rows,
        "nodes": [
            ("embedding", {}, (0, 1)),
            ("add", {}, (17, 2)),
            ("layer_norm", {}, (18, 3, 4)),
            ("linear", {}, (19, 5, 6)),
            ("self_attention", {"heads": 2, "causal": 1}, (20,)),
            ("linear", {}, (21, 7, 8)),
            ("add", {}, (18, 22)),
            ("layer_norm", {}, (23, 9, 10)),
            ("linear", {}, (24, 11, 12)),
            ("gelu", {}, (25,)),
            ("linear", {}, (26, 13, 14)),
            ("add", {}, (23, 27)),
            ("linear", {}, (28, 15, 16)),
        ],
        "losses": [{"name": "softmax_cross_entropy", "value": 29}],
        "outputs": [29],
    }


def recurrent(length=7, width=3, units=4):
    """Two scans, the second over the first's states, which a layer at each step reads as well."""
    return {
        "inputs": [((length, width), "real")],
        "parameters": [
            *(weight(width, 4 * units), bias(4 * units), weight(units, 4 * units)),
            *(weight(units, 3 * units), bias(3 * units), weight(units, 3 * units)),
            *(weight(units, 2), bias(2), weight(units, 2), bias(2)),
        ],
        "nodes": [
            ("linear", {}, (0, 1, 2)),
            ("lstm", {}, (11, 3)),
            ("linear", {}, (12, 4, 5)),
            ("gru", {}, (13, 6)),
            ("linear", {}, (12, 7, 8)),
            ("linear", {}, (14, 9, 10)),
            ("add", {}, (15, 16)),
        ],
        "losses": [{"name": "squared_error", "value": 17}],
        "outputs": [17],
    }


GRAPHS = {
    "residual": residual(),
    "broadcast": broadcast(),
    "transformer": transformer(),
    "recurrent": recurrent(),
    "dense": dense(),
    "two heads": two_heads(),
    "tied": tied(),
    "bias first": bias_first(),
    "positions": positions(),
    "half read": half_read(),
    "frozen": frozen(),
    "elementwise alone": elementwise_alone(),
}
over_graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


@over_dtypes
@over_graphs
@pytest.mark.parametrize("n_samples", [1, 33, 700])
def test_a_plan_has_the_bits_of_its_nodes(graph, dtype, n_samples):
    """Values, gradients and the loss; 700 samples form some gradients in blocks."""
    Case(graph, dtype, n_samples).has_the_bits_of_its_nodes()


@over_graphs
def test_each_node_runs_once_forward_and_once_back(graph):
    """R12, also where a value is used several times: its gradient is complete before it is read."""
    case = Case(graph)
    order, n_nodes = case.plan.order(), len(graph["nodes"])
    forward = [node for what, node in order if what == "forward"]
    backward = [node for what, node in order if what == "backward"]
    assert forward == [*range(n_nodes)]
    assert backward == sorted(set(backward), reverse=True)  # no user comes after its operand
    losses = [i for i, (what, _) in enumerate(order) if what == "loss"]
    assert len(losses) == len(graph["losses"])
    assert order.index(("forward", n_nodes - 1)) < losses[0]
    if backward:
        assert losses[-1] < order.index(("backward", backward[0]))


@pytest.mark.threads
@over_dtypes
@over_graphs
def test_any_number_of_threads_gives_the_same_bits(graph, dtype):
    case = Case(graph, dtype, 1500)
    found = []
    for n_threads in THREADS:
        run = Run(case_as_net(case), batch_size=700, alpha=0.1, n_threads=n_threads)
        losses = run(2)["losses"]
        raw = case.plan.predict(case.params, case.unpacked(case.X), raw=True, n_threads=n_threads)
        found.append((case.gradient(n_threads), losses, run.params, raw))
    for other in found[1:]:
        (loss, grad), losses, params, raw = found[0]
        assert other[0][0] == loss
        np.testing.assert_array_equal(other[0][1], grad)
        np.testing.assert_array_equal(other[1], losses)
        np.testing.assert_array_equal(other[2], params)
        for ours, theirs in zip(listed(other[3]), listed(raw), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class case_as_net:
    """What `helpers.Run` takes, of a case."""

    def __init__(self, case):
        self.plan, self.params = case.plan, case.params
        self.X, self.y = case.unpacked(case.X), case.unpacked(case.y)


@over_graphs
def test_the_gradient_against_finite_differences(graph):
    """Along random directions, by central differences of the loss, in float64."""
    case = Case(graph)
    _, grad = case.gradient()
    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(case.params.size)
        for parameter, offset in zip(graph["parameters"], offsets(graph), strict=True):
            if parameter.get("frozen"):
                size = int(np.prod(parameter["shape"]))
                direction[offset : offset + size] = 0
        h, losses = 1e-5, []
        for step in (h, -h):
            beside = Case(graph)
            beside.params += step * direction
            losses.append(beside.gradient()[0])
        # Truncation h^2 / 6 f''', where f''' along a random direction is up to 1000 times f',
        # and rounding eps f / h: some 2e-8 of the slope, and 2e-11.
        assert grad @ direction == pytest.approx((losses[0] - losses[1]) / (2 * h), 1e-7, 1e-8)


def offsets(graph):
    sizes = [int(np.prod(parameter["shape"])) for parameter in graph["parameters"]]
    return np.cumsum([0, *sizes[:-1]])


@over_graphs
def test_the_hessian_product_against_finite_differences(graph):
    case = Case(graph)
    v = np.random.default_rng(9).standard_normal(case.params.size)
    for parameter, offset in zip(graph["parameters"], offsets(graph), strict=True):
        if parameter.get("frozen"):
            v[offset : offset + int(np.prod(parameter["shape"]))] = 0
    h, slopes = 1e-5, []
    for step in (h, -h):
        beside = Case(graph)
        beside.params += step * v
        slopes.append(beside.gradient()[1])
    product = case.plan.hessian_product(
        case.params, case.unpacked(case.X), case.unpacked(case.y), v, sample_weight=case.weights
    )
    np.testing.assert_allclose(product, (slopes[0] - slopes[1]) / (2 * h), atol=1e-7)


@over_graphs
def test_the_tangent_against_finite_differences(graph):
    case = Case(graph)
    X = case.unpacked(case.X)
    v = np.random.default_rng(9).standard_normal(case.params.size)
    tangent = case.plan.tangent(case.params, X, v)
    h = 1e-5
    above = case.plan.predict(case.params + h * v, X, raw=True)
    below = case.plan.predict(case.params - h * v, X, raw=True)
    for t, a, b in zip(listed(tangent), listed(above), listed(below), strict=True):
        np.testing.assert_allclose(t, (a - b) / (2 * h), atol=1e-6 * max(1, np.abs(t).max()))


@over_dtypes
@over_graphs
def test_a_prediction_does_not_depend_on_its_company(graph, dtype):
    case = Case(graph, dtype, 200)
    together = case.plan.predict(case.params, case.unpacked(case.X))
    for part in (slice(0, 1), slice(63, 65), slice(150, None)):
        alone = case.plan.predict(
            case.params, case.unpacked(tuple(np.ascontiguousarray(x[part]) for x in case.X))
        )
        for ours, theirs in zip(listed(alone), listed(together), strict=True):
            np.testing.assert_array_equal(ours, theirs[part])


def test_frozen_parameters_keep_their_bytes_and_have_no_gradient():
    """R30."""
    case = Case(frozen())
    _, grad = case.gradient()
    net = case_as_net(case)
    run = Run(net, batch_size=8, alpha=0.1)
    run(5)
    for parameter, offset in zip(case.graph["parameters"], offsets(case.graph), strict=True):
        part = slice(offset, offset + int(np.prod(parameter["shape"])))
        kept = bool(parameter.get("frozen"))
        assert (grad[part] == 0).all() == kept
        assert (run.params[part] == case.params[part]).all() == kept


def test_a_parameter_also_used_where_no_loss_looks():
    """Its gradient is the sum over the other uses."""
    graph = dense(5, 5, 5)
    graph["nodes"][2] = ("linear", {}, (6, 1, 2))
    case = Case({**graph, "losses": [{"name": "squared_error", "value": 6}]}, n_samples=7)
    np.testing.assert_array_equal(case.gradient()[1], case.eager().flat)


def test_freezing_everything_is_an_error():
    graph = dense()
    for parameter in graph["parameters"]:
        parameter["frozen"] = True
    net = case_as_net(Case(graph))
    with pytest.raises(ValueError, match="found none that is trained: all are frozen"):
        Run(net)


def test_a_chain_told_as_a_graph_is_the_chain():
    case = Case(dense())
    chain = _core.Plan(
        5,
        [("linear", {"units": 7}), ("gelu", {}), ("linear", {"units": 3})],
        ("softmax_cross_entropy", {}),
        dtype=np.float64,
    )
    grad = np.empty(chain.n_params)
    loss = chain.loss_gradient(
        case.params, case.X[0], case.y[0], grad=grad, sample_weight=case.weights
    )
    assert (loss, grad.tolist()) == (case.gradient()[0], case.gradient()[1].tolist())
    assert chain.layers == case.plan.layers
    assert chain.tensors == case.plan.tensors
    assert chain.order() == case.plan.order()


def broken(**changes):
    return {**dense(), **changes}


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (broken(nodes=[], losses=[], outputs=[]), "found 0 nodes and 0 outputs"),
        (broken(inputs=[]), "found 0 inputs"),
        (broken(nodes=[("linear", {}, (0, 1, 9))]), "node 0: found input 9, wanted a value made"),
        (
            broken(nodes=[("linear", {}, (0, 3, 4))]),
            r"found x of shape \(n, 5\) and w of shape \(7",
        ),
        (broken(nodes=[("nothing", {}, (0,))]), "'nothing', wanted the name of a row"),
        (broken(outputs=[0]), "output 0: found value 0, wanted the result of a node"),
        (broken(losses=[{"name": "huber", "value": 2}]), "loss 'huber': found value 2"),
        (broken(losses=[{"name": "huber", "value": 7, "factor": 0.0}]), "found the weight 0"),
        (
            broken(nodes=[("tanh", {}, (1,))]),
            "found value 7, wanted the result of a node, of samples",
        ),
        (broken(parameters=[weight(5, 0)]), r"parameter 0: found the shape \(5, 0\)"),
    ],
)
def test_errors_name_what_is_wrong(graph, message):
    with pytest.raises(ValueError, match=message):
        _core.Plan(graph=graph, dtype="float64")
