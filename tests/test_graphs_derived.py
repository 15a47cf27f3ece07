"""Plans of graphs with values that parameters and constants alone make: tied weights the other way
round, normalised weights, a parameter that is scaled, cut or put through a softmax.

Such values are made once a step, or once a call, on whole arrays as their nodes run by themselves;
their gradients are sums over the samples, and lead back to the parameters.
"""

import numpy as np
import pytest
from helpers import Run, fails_well, over_dtypes
from test_graphs import THREADS, Case, bias, case_as_net, weight
from test_graphs_coupled import Growing

from fastbp import NonFiniteError, _core


def tied(n_in=6, hidden=4):
    """An autoencoder whose decoder reads the encoder's weights transposed."""
    g = Growing((n_in,), weight(n_in, hidden), bias(hidden), bias(n_in))
    h = g("tanh", g("linear", 0, 1, 2))
    return g.graph(g("linear", h, g("transpose", 1, axes=(1, 0)), 3))


def normalised(n_in=5, n_out=3, layers=1):
    """Weight normalisation, g v / ||v||, a norm for each column (Salimans and Kingma, 2016)."""
    sizes = [n_in] * layers + [n_out]
    parameters = [
        p
        for i in range(layers)
        for p in (weight(n_in, sizes[i + 1]), bias(sizes[i + 1]), bias(sizes[i + 1]))
    ]
    g = Growing((n_in,), *parameters)
    x = 0
    for i in range(layers):
        v, scale, b = (1 + 3 * i + j for j in range(3))
        norm = g("sqrt", g("sum", g("multiply", v, v), axes=(0,), keepdims=1))
        w = g("multiply", v, g("divide", scale, norm))
        x = g("relu" if i < layers - 1 else "tanh", g("linear", x, w, b))
    return g.graph(x)


def mixed(width=4):
    """One parameter used as it is, scaled, cut and in a softmax; a derived value used by others and
    by nodes of samples in between; a bias that is derived, and one node with both uses."""
    g = Growing((width,), weight(width, width), bias(width), bias(width))
    w, b, s = 1, 2, 3
    scaled = g("multiply", w, g("exp", s))
    h = g("tanh", g("linear", 0, scaled, g("negative", b)))
    soft = g("softmax", w, axis=0)
    h = g("add", g("linear", h, soft), g("linear", h, w, b))
    twice = g("multiply", scaled, scaled)
    h = g("tanh", g("linear", h, g("add", twice, soft)))
    row = g(
        "reshape", g("index", w, starts=(1, 0), steps=(1, 1), counts=(1, width)), shape=(width,)
    )
    return g.graph(g("multiply", g("multiply", h, row), g("exp", s)), "softmax_cross_entropy")


def low_rank(width=6, rank=2):
    """Frozen weights with a trained difference of low rank: x (w + a b)."""
    g = Growing(
        (width,), weight(width, width, frozen=True), weight(width, rank), weight(rank, width)
    )
    w = g("add", 1, g("linear", 2, 3))
    return g.graph(g("linear", g("tanh", g("linear", 0, w)), 2))


def beside_moments(width=4):
    """Batch normalisation whose moments are moved by what parameters make: one node of samples, of
    what they share and of parameters each; a trained parameter that such a node reads; and uses of
    a derived value before, by and behind it."""
    g = Growing((width,), weight(width, width), bias(width), weight(2, width), bias(width))
    s = g("exp", 4)
    z = g("multiply", g("linear", 0, g("tanh", 1), 2), s)
    m = g("moments", z)
    moved = g("add", g("add", m, g("multiply", 3, 3)), g("multiply", g("add", m, s), 3))
    y = g("normalize", z, g("exp", g("tanh", moved)))
    return g.graph(g("multiply", y, g("multiply", s, g("multiply", s, 4))))


def constants(width=3):
    """What is made of constants alone, too; and nothing of it is trained."""
    g = Growing((width,), weight(width, 2))
    g.nodes.append(("exp", {}, (2,)))
    g.nodes.append(("multiply", {}, (0, 3)))
    g.nodes.append(("linear", {}, (4, 1)))
    return {**g.graph(5), "constants": [np.linspace(-1, 1, width)]}


GRAPHS = {
    "tied": tied(),
    "normalised": normalised(),
    "layers": normalised(4, 3, 3),
    "mixed": mixed(),
    "low rank": low_rank(),
    "beside moments": beside_moments(),
    "constants": constants(),
}
COUPLED = {"beside moments"}
over_graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
UNCOUPLED = {name: graph for name, graph in GRAPHS.items() if name not in COUPLED}
over_uncoupled = pytest.mark.parametrize("graph", UNCOUPLED.values(), ids=UNCOUPLED)


@over_dtypes
@over_graphs
@pytest.mark.parametrize("n_samples", [2, 33, 700])
def test_a_plan_has_the_bits_of_its_nodes(graph, dtype, n_samples):
    """Values, gradients and the loss; 700 samples form gradients in blocks."""
    Case(graph, dtype, n_samples).has_the_bits_of_its_nodes()


WIDE = {
    "tied": tied(300, 100),
    "normalised": normalised(520, 60),
    "mixed": mixed(64),
    "low rank": low_rank(600, 3),
    "beside moments": beside_moments(64),
}
over_wide = pytest.mark.parametrize("graph", WIDE.values(), ids=WIDE)


@over_dtypes
@over_wide
def test_large_values_have_the_bits_of_their_nodes(graph, dtype):
    """Sums in cuts of rows; and nodes that add up over the first axis of a parameter in blocks."""
    case = Case(graph, dtype, 600)
    np.testing.assert_array_equal(case.gradient()[1], case.eager().flat)


def test_weights_too_large_for_copies():
    """They are read in parts, as they lie: the square of 1024."""
    case = Case(tied(1024, 1024), np.float32, 40)
    assert {layer["products"] for layer in case.plan.nodes if layer["name"] == "linear"} == {
        "in parts"
    }
    np.testing.assert_array_equal(case.gradient()[1], case.eager().flat)


@pytest.mark.threads
@over_dtypes
@over_wide
def test_any_number_of_threads_gives_the_same_bits(graph, dtype):
    """The second batch is a shorter one."""
    case = Case(graph, dtype, 1000)
    found = []
    for n_threads in THREADS:
        run = Run(case_as_net(case), batch_size=700, alpha=0.1, n_threads=n_threads)
        losses = run(2)["losses"]
        found.append((case.gradient(n_threads), losses, run.params))
    for (loss, grad), losses, params in found[1:]:
        assert loss == found[0][0][0]
        np.testing.assert_array_equal(grad, found[0][0][1])
        np.testing.assert_array_equal(losses, found[0][1])
        np.testing.assert_array_equal(params, found[0][2])


@over_dtypes
@over_graphs
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_training_is_descent_along_the_gradient(graph, dtype, alpha):
    """Each step's values are of that step's parameters; the penalty is added last. Bit for bit."""
    case = Case(graph, dtype, 50)
    run = Run(case_as_net(case), "sgd", batch_size=25, shuffle=False, alpha=alpha)
    for _ in range(3):
        losses = np.empty(2)
        run(1, rate=0.125, step_losses=losses)
        for half, said in zip((slice(0, 25), slice(25, 50)), losses, strict=True):
            grad = np.empty_like(case.params)
            loss = case.plan.loss_gradient(
                case.params, case.X[0][half], case.y[0][half], grad=grad, alpha=alpha
            )
            # The same sum of squares in the tiles' order and in one.
            assert said == pytest.approx(loss, rel=1e-14)
            case.params -= dtype(0.125) * grad
        np.testing.assert_array_equal(run.params, case.params)


@over_graphs
def test_the_gradient_against_finite_differences(graph):
    """Along random directions, by central differences of the loss, in float64."""
    case = Case(graph)
    _, grad = case.gradient()
    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(case.params.size)
        direction[grad == 0] = 0  # of frozen parameters
        h, losses = 1e-5, []
        for step in (h, -h):
            beside = Case(graph)
            beside.params += step * direction
            losses.append(beside.gradient()[0])
        # Truncation h^2 / 6 f''', where f''' along a random direction is up to 1000 times f',
        # and rounding eps f / h: some 2e-8 of the slope, and 2e-11.
        assert grad @ direction == pytest.approx((losses[0] - losses[1]) / (2 * h), 1e-7, 1e-8)


@over_uncoupled
def test_tangents_against_finite_differences(graph):
    """Forward mode, and forward over reverse; 150 samples are three tiles."""
    case = Case(graph, n_samples=150)
    v = np.random.default_rng(9).standard_normal(case.params.size)
    v[case.gradient()[1] == 0] = 0
    h, slopes, outputs = 1e-5, [], []
    for step in (h, -h):
        beside = Case(graph, n_samples=150)
        beside.params += step * v
        slopes.append(beside.gradient()[1])
        outputs.append(beside.plan.predict(beside.params, case.X[0], raw=True))
    # As above: truncation is h^2 times a third derivative, rounding eps / h of what is compared.
    tangent = case.plan.tangent(case.params, case.X[0], v)
    np.testing.assert_allclose(tangent, (outputs[0] - outputs[1]) / (2 * h), 1e-7, 1e-7)
    product = case.plan.hessian_product(
        case.params, case.X[0], case.y[0], v, sample_weight=case.weights
    )
    np.testing.assert_allclose(product, (slopes[0] - slopes[1]) / (2 * h), 1e-7, 1e-7)


def test_more_samples_than_a_block():
    """A full gradient is formed in blocks of 1024 samples: of each what leads to the parameters."""
    case = Case(mixed(), n_samples=2500)
    loss, grad = case.gradient()
    eager = case.eager()
    # Sums of 2500 terms in other orders; those of a gradient are of both signs, with a sum of
    # absolute values up to some 100 times its own.
    assert loss == pytest.approx(eager.loss, rel=5000 * np.finfo(float).eps)
    np.testing.assert_allclose(grad, eager.flat, 1e-11, 1e-13)
    _, gradients = case.plan.trace(case.params, case.X[0], case.y[0], sample_weight=case.weights)
    for v, found in gradients.items():
        np.testing.assert_array_equal(found, eager.gradients[v], err_msg=f"gradient {v}")


@over_dtypes
@over_uncoupled
def test_predictions_are_of_each_sample_alone(graph, dtype):
    """Of many samples, from copies of what is derived; of few, from that as it lies; frozen."""
    case = Case(graph, dtype, 200)
    z = case.eager().values[graph["outputs"][0]]
    frozen = case.plan.freeze(case.params)
    for n_threads in (1, 3):
        found = case.plan.predict(case.params, case.X[0], raw=True, n_threads=n_threads)
        np.testing.assert_array_equal(found, z)
    for part in (slice(0, 1), slice(63, 65), slice(150, None)):
        X = np.ascontiguousarray(case.X[0][part])
        np.testing.assert_array_equal(case.plan.predict(case.params, X, raw=True), z[part])
        np.testing.assert_array_equal(frozen.predict(X, raw=True), z[part])
    case.params += 1  # the frozen one has its own
    np.testing.assert_array_equal(frozen.predict(case.X[0], raw=True), z)


@over_dtypes
@pytest.mark.parametrize("name", [name for name in WIDE if name not in COUPLED])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_step_of_several_batches_has_the_bits_of_one(name, dtype, n_threads):
    """Sums go on from batch to batch, and what is derived goes back with the last."""
    case = Case(WIDE[name], dtype, 1100)
    options = {"alpha": 0.1, "n_threads": n_threads, "clip_norm": 0.5}
    runs = [
        Run(case_as_net(case), batch_size=768, **options),
        Run(case_as_net(case), batch_size=128, accumulate=6, **options),
    ]
    losses = [run(2)["losses"] for run in runs]
    np.testing.assert_array_equal(*losses)
    runs[0].same_as(runs[1])


@pytest.mark.parametrize("options", [{"clip_norm": 0.1}, {"clip_value": 0.01}, {}])
def test_clipped_steps_and_rules_that_need_norms(options):
    """The gradient that they see is the whole one: LAMB's trust ratios, and the norm."""
    graph = normalised(4, 3, 2)
    case = Case(graph, n_samples=40)
    run = Run(case_as_net(case), "lamb" if not options else "sgd", batch_size=40, **options)
    _, grad = case.gradient(weighted=False)
    before = run.params.copy()
    run(1, rate=1.0)
    moved = before - run.params
    if "clip_norm" in options:
        # Sums of 21 squares in two orders, a root, and a rounding for each product.
        clipped = 0.1 * grad / (np.linalg.norm(grad) + 1e-6)
        np.testing.assert_allclose(moved, clipped, 1e-13, 1e-15)
    elif options:
        np.testing.assert_allclose(moved, np.clip(grad, -0.01, 0.01), 1e-13, 1e-15)
    else:
        offset = 0
        for parameter in graph["parameters"]:
            size = int(np.prod(parameter["shape"]))
            part = slice(offset, offset + size)
            # Adam's first direction has the slopes' signs; a trust ratio of 1 gives its step.
            direction = grad[part] / (np.abs(grad[part]) + 1e-6)
            ratio = np.linalg.norm(before[part]) / np.linalg.norm(moved[part])
            assert ratio == pytest.approx(1, rel=1e-12)
            np.testing.assert_array_equal(np.sign(moved[part]), np.sign(direction))
            offset += size


def test_frozen_parameters_have_no_gradient_and_stay():
    graph = mixed()
    graph = {**graph, "parameters": [dict(p) for p in graph["parameters"]]}
    graph["parameters"][0]["frozen"] = True
    case = Case(graph, n_samples=40)
    _, grad = case.gradient()
    assert not grad[:16].any() and grad[16:].all()
    np.testing.assert_array_equal(grad, case.eager().flat)
    run = Run(case_as_net(case), batch_size=20)
    before = run.params.copy()
    run(3)
    np.testing.assert_array_equal(run.params[:16], before[:16])
    assert (run.params[16:] != before[16:]).all()


@pytest.mark.parametrize("n_threads", [1, 3])
@over_wide
def test_memory_is_what_was_said(graph, n_threads):
    case = Case(graph, np.float32, 400)
    for accumulate in (1, 3):
        said = case.plan.memory(100, n_samples=400, n_threads=n_threads, accumulate=accumulate)
        before = _core.allocated_bytes()
        Run(case_as_net(case), batch_size=100, n_threads=n_threads, accumulate=accumulate)(1)
        assert _core.allocated_bytes() - before + case.params.nbytes == said["total"] - (
            said.get("optimizer_state", 0)
        )
    if graph is WIDE["beside moments"]:
        return
    for n in (3, 400):
        plan = Case(graph, np.float32, 2).plan
        said = plan.memory_of_predict(n, n_threads=n_threads)
        before = _core.allocated_bytes()
        made = plan.predict(case.params, case.X[0][:n], n_threads=n_threads)
        taken = _core.allocated_bytes() - before + case.params.nbytes + made.nbytes
        assert taken == said["total"]


def test_flops_of_what_is_derived_count_once():
    """A square of 12 elements: two products a sample, and one multiplication of 12 a step."""
    g = Growing((4,), weight(4, 3))
    plan = Case(g.graph(g("linear", 0, g("multiply", 1, 1)))).plan
    square, product = plan.nodes
    assert product["flops"][0] == 24 and square["flops"][0] == 12
    loss = plan.losses[0]["flops"]
    assert plan.flops(10)["forward"] == 10 * (24 + loss) + 12
    assert plan.flops(20)["backward"] - plan.flops(10)["backward"] == 10 * product["flops"][1]


def test_what_is_not_finite_is_found_in_what_is_derived():
    g = Growing((3,), weight(3, 2))
    case = Case(g.graph(g("linear", 0, g("log", 1))), n_samples=10)
    case.params[:] = np.abs(case.params)
    case.params[2] = -1
    with pytest.raises(NonFiniteError, match="first in the output of node 0, 'log'"):
        Run(case_as_net(case), batch_size=10)(1)


def test_every_allocation_may_fail():
    case = Case(mixed(), n_samples=23)
    expected = case.gradient()
    calls = [
        lambda: _core.Plan(graph=case.graph, dtype="float64"),
        lambda: Case(case.graph, n_samples=23).gradient(),
        lambda: Case(case.graph, n_samples=23).plan.freeze(case.params).predict(case.X[0]),
        lambda: Run(case_as_net(case))(1),
    ]
    for call in calls:
        fails_well(call)
    assert case.gradient()[0] == expected[0]


def test_errors_name_what_is_wrong():
    g = Growing((3,), weight(3, 4))
    with pytest.raises(ValueError, match=r"indices of take: found 7, wanted -3 to 2"):
        g.nodes.append(("take", {"axis": 0}, (1, 2)))
        g.nodes.append(("linear", {}, (0, 3)))
        _core.Plan(graph={**g.graph(4), "constants": [np.array([0, 7, 1])]}, dtype="float64")
    g = Growing((3,), weight(3, 4))
    m = g("moments", 0)
    with pytest.raises(ValueError, match="a constant or what is made of these alone"):
        _core.Plan(graph=g.graph(g("linear", 0, g("transpose", m, axes=(1, 0)))), dtype="float64")
