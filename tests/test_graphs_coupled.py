"""Plans of graphs with values that all samples of a batch make together: batch normalisation.

Such values end a segment of the rows phase, where the threads meet; what runs, and in which order
sums are formed, is as if the nodes ran one by one. All that such values touch is here, since each
test leans on the same few graphs.
"""

import signal

import numpy as np
import pytest
from helpers import Run, fails_well, over_dtypes
from test_graphs import THREADS, Case, bias, case_as_net, weight

from fastbp import NonFiniteError, _core


class Growing:
    """A graph while it is told: parameters first, then nodes, each of which yields its value."""

    def __init__(self, shape, *parameters):
        self.inputs, self.parameters = [(shape, "real")], list(parameters)
        self.nodes = []

    def __call__(self, name, *inputs, **attrs):
        self.nodes.append((name, attrs, inputs))
        return len(self.inputs) + len(self.parameters) + len(self.nodes) - 1

    def graph(self, z, loss="squared_error", **more):
        return {
            "inputs": self.inputs,
            "parameters": self.parameters,
            "nodes": self.nodes,
            "losses": [{"name": loss, "value": z}],
            "outputs": [z],
            **more,
        }


def dense(width=6, layers=2):
    """Linear, batch normalisation with gain and bias, and an activation, several times."""
    parameters = [p for _ in range(layers) for p in (weight(width, width), *[bias(width)] * 3)]
    g = Growing((width,), *parameters, weight(width, 3), bias(3))
    x = 0
    for i in range(layers):
        w, b, gain, shift = range(1 + 4 * i, 5 + 4 * i)
        z = g("linear", x, w, b)
        x = g("tanh", g("normalize", z, g("moments", z), gain, shift))
    last = 1 + 4 * layers
    return g.graph(g("linear", x, last, last + 1), "softmax_cross_entropy")


def images(height=5, width=4, channels=3):
    """Positions are rows too; normalised before and after the activation, without parameters."""
    g = Growing((height, width, 2), weight(2, channels), weight(channels, 2), bias(2))
    z = g("linear", 0, 1)
    x = g("relu", g("normalize", z, g("moments", z)))
    y = g("normalize", x, g("moments", x), epsilon=0.1)
    return g.graph(g("linear", y, 2, 3))


def branches(width=5):
    """Two branches, each with moments of its own; a value used by two nodes, once as another's
    moments; moments of the samples themselves, which need no gradient."""
    g = Growing((width,), weight(width, width), weight(width, width), bias(width), bias(width))
    x = g("normalize", 0, g("moments", 0))
    a, b = g("linear", x, 1), g("linear", x, 2)
    m = g("moments", a)
    one = g("normalize", a, m, 3, 4)
    other = g("normalize", b, g("moments", b))
    crossed = g("normalize", b, m)
    return g.graph(g("add", g("multiply", one, other), crossed))


def of_shared(width=4):
    """Values made of values that samples share, by nodes without samples of their own, which
    batched nodes, other such nodes and nodes behind both read."""
    g = Growing((width,), weight(width, width), bias(width))
    z = g("linear", 0, 1, 2)
    m = g("moments", z)
    smooth = g("exp", m)
    both = g("add", smooth, m)
    y = g("normalize", z, both)
    more = g("multiply", m, smooth)
    out = g("normalize", y, more)
    again = g("normalize", out, g("moments", out))
    direct = g("normalize", z, m)
    return g.graph(g("add", g("add", again, y), direct))


def beside(width=4, wide=21):
    """A residual path passes a meeting; behind its end, in the same segment, a wider value begins.
    Frozen layers keep nothing for gradients of weights."""
    frozen = {"frozen": True}
    g = Growing((width,), weight(width, width), weight(width, width, **frozen), weight(width, wide))
    g.parameters[-1].update(frozen)
    z = g("linear", 0, 1)
    x = g("normalize", z, g("moments", z))
    y = g("linear", x, 2)
    both = g("add", x, g("normalize", y, g("moments", y)))
    far = g("linear", g("exp", both), 3)
    return g.graph(g("normalize", far, g("moments", far)))


GRAPHS = {
    "dense": dense(),
    "images": images(),
    "branches": branches(),
    "of shared": of_shared(),
    "beside": beside(),
}
over_graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


@over_dtypes
@over_graphs
@pytest.mark.parametrize("n_samples", [2, 33, 700])
def test_a_plan_has_the_bits_of_its_nodes(graph, dtype, n_samples):
    """Values, gradients and the loss; 700 samples form moments and gradients in blocks."""
    Case(graph, dtype, n_samples).has_the_bits_of_its_nodes()


WIDE = {
    "dense": dense(64, 3),
    "images": images(8, 8, 24),
    "branches": branches(64),
    "of shared": of_shared(96),
    "beside": beside(64, 160),
}


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize("graph", WIDE.values(), ids=WIDE)
def test_any_number_of_threads_gives_the_same_bits(graph, dtype):
    """On networks that are worth seven threads to training; the second batch is a shorter one."""
    case = Case(graph, dtype, 1000)
    scratch = [case.plan.memory(700, n_threads=n)["thread_scratch"] for n in THREADS]
    assert scratch == [n * scratch[0] for n in THREADS]
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


@pytest.mark.threads
def test_fifty_layers_with_moments_of_their_own():
    """R25: one segment after another, forward and back."""
    case = Case(dense(16, 50), np.float32, 300)
    grads = [case.gradient(n_threads)[1] for n_threads in (1, 2)]
    np.testing.assert_array_equal(grads[0], case.eager().flat)
    np.testing.assert_array_equal(grads[1], grads[0])


def test_all_samples_are_one_batch():
    """More of them than the blocks in which other plans take a full gradient."""
    case = Case(dense(), n_samples=3000)
    np.testing.assert_array_equal(case.gradient()[1], case.eager().flat)


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


def test_the_loss_falls_by_plain_descent():
    """A step and its gradient are of the same batch: losses fall as far as the gradient says."""
    case = Case(dense(), n_samples=200)
    loss, grad = case.gradient(weighted=False)
    run = Run(case_as_net(case), "sgd", batch_size=200, shuffle=False)
    assert run(1, rate=1e-6)["losses"] == pytest.approx(loss, rel=1e-14)
    case.params = run.params
    # To first order in the rate, of which the second is 1e-6 times the curvature.
    assert loss - case.gradient(weighted=False)[0] == pytest.approx(1e-6 * grad @ grad, rel=1e-3)


def test_moments_ignore_the_weights_of_samples():
    case = Case(dense(), n_samples=20)
    plain, _ = case.plan.trace(case.params, case.X[0], case.y[0])
    case.weights[3] = 0
    weighted, _ = case.plan.trace(case.params, case.X[0], case.y[0], sample_weight=case.weights)
    for v in plain:
        np.testing.assert_array_equal(weighted[v], plain[v])


def test_memory_for_twice_the_samples():
    """What samples share is counted once."""
    plan = Case(dense(64)).plan
    one, two = (plan.memory(n) for n in (256, 512))
    for part in ("activations", "deltas"):
        assert two[part] == 2 * one[part] > 0
    assert not any(v["whole_batch"] for v in plan.values if not v["batched"])


# ---------------------------------------------------------------------------------- running values


def running(plan_of=lambda g, x: x, width=1, momentum=0.1, **more):
    """Batch normalisation of a layer's result, or of the samples, with running moments:
    parameter 2, at the end."""
    g = Growing(
        (width,), weight(width, width), bias(width), weight(2, width, frozen=True, penalised=False)
    )
    z = plan_of(g, 0)
    m = g("moments", z)
    out = g("linear", g("normalize", z, m), 1, 2)
    follows = [{"parameter": 2, "value": m, "momentum": momentum}]
    return g.graph(out, running=follows, **more)


def start(case, mean=0.0, variance=1.0):
    """Running moments as they begin."""
    width = case.graph["inputs"][0][0][0]
    case.params[-2 * width :] = np.repeat([mean, variance], width)
    return case


def test_two_steps_by_hand():
    """Means 1 and 6, unbiased variances 2 and 8: from 0 and 1, by a tenth of the way."""
    case = start(Case(running(), n_samples=4))
    case.X = (np.array([[0.0], [2.0], [4.0], [8.0]]),)
    run = Run(case_as_net(case), "sgd", batch_size=2, shuffle=False)
    run(1)
    # (0.9 * 0 + 0.1 * 1) * 0.9 + 0.1 * 6, and (0.9 * 1 + 0.1 * 2) * 0.9 + 0.1 * 8.
    np.testing.assert_allclose(run.params[-2:], [0.69, 1.79], rtol=4 * np.finfo(float).eps)


@over_dtypes
@pytest.mark.parametrize("positions", [1, 3])
def test_running_moments_are_those_of_pytorch(dtype, positions):
    """BatchNorm1d's in training: r = (1 - momentum) r + momentum v after each batch, with the mean
    and the unbiased variance of its rows, by the weights before the step."""
    graph = running(lambda g, x: g("linear", x, 1, 2), width=4, momentum=0.3)
    graph["inputs"] = [((positions, 4), "real")]
    case = Case(graph, dtype, 25)
    case.params[-8:] = np.repeat([0.0, 1.0], 4)
    run = Run(case_as_net(case), "sgd", batch_size=25)  # each step an epoch: its weights are known
    mean, variance = np.zeros(4), np.ones(4)
    for _ in range(5):
        w, b = run.params[:16].reshape(4, 4).astype(float), run.params[16:20].astype(float)
        z = case.X[0].reshape(-1, 4).astype(float) @ w + b
        mean = 0.7 * mean + 0.3 * z.mean(axis=0)
        variance = 0.7 * variance + 0.3 * z.var(axis=0, ddof=1)
        run(1)
        # A product of four terms, a sum of 75 in double, a rounding for each of five steps.
        bound = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(run.params[-8:-4], mean, rtol=bound, atol=bound)
        np.testing.assert_allclose(run.params[-4:], variance, rtol=bound)


def test_each_running_parameter_follows_its_own_value():
    """To the end of the step, though later values of its kind come after its last use."""
    frozen = {"frozen": True, "penalised": False}
    g = Growing((3,), weight(3, 2), weight(2, 3, **frozen), weight(2, 3, **frozen))
    first = g("moments", 0)
    x = g("exp", g("normalize", 0, first))
    second = g("moments", x)
    follows = [
        {"parameter": 1, "value": first, "momentum": 1.0},
        {"parameter": 2, "value": second, "momentum": 1.0},
    ]
    case = Case(g.graph(g("linear", g("normalize", x, second), 1), running=follows), n_samples=30)
    run = Run(case_as_net(case), "sgd", batch_size=30)
    run(1)
    X = case.X[0]
    there = np.exp((X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-5))
    for found, x in zip(run.params[6:].reshape(2, 2, 3), (X, there), strict=True):
        np.testing.assert_allclose(found, [x.mean(axis=0), x.var(axis=0, ddof=1)], rtol=1e-13)


def test_a_batch_of_one_row_teaches_no_moments():
    """It has no unbiased variance; PyTorch refuses it."""
    case = start(Case(running(), n_samples=3))
    whole = Run(case_as_net(case), "sgd", batch_size=2, shuffle=False)
    whole(1)
    case.X, case.y = (case.X[0][:2],), (case.y[0][:2],)
    first = Run(case_as_net(case), "sgd", batch_size=2, shuffle=False)
    first(1)
    np.testing.assert_array_equal(whole.params[-2:], first.params[-2:])


@over_dtypes
def test_predict_takes_the_running_moments(dtype):
    """So a sample's prediction depends on it alone, and is that of a layer with fixed moments."""
    graph = running(lambda g, x: g("linear", x, 1, 2), width=4)
    case = Case(graph, dtype, 200)
    run = Run(case_as_net(case), batch_size=50)
    run(2)
    fixed = {key: graph[key] for key in ("inputs", "parameters")}
    fixed["nodes"] = [
        ("linear", {}, (0, 1, 2)),
        ("normalize", {}, (4, 3)),
        ("linear", {}, (5, 1, 2)),
    ]
    fixed["losses"], fixed["outputs"] = [], [6]
    expected = _core.Plan(graph=fixed, dtype=dtype).predict(run.params, case.X[0])
    together = case.plan.predict(run.params, case.X[0])
    np.testing.assert_array_equal(together, expected)
    frozen = case.plan.freeze(run.params)
    for part in (slice(0, 1), slice(63, 65), slice(150, None)):
        X = np.ascontiguousarray(case.X[0][part])
        np.testing.assert_array_equal(case.plan.predict(run.params, X), expected[part])
        np.testing.assert_array_equal(frozen.predict(X), expected[part])


def test_predict_runs_what_is_made_of_running_moments():
    """A node without samples of its own has its result anew, from the parameter."""
    g = Growing((3,), weight(3, 2), weight(2, 3, frozen=True, penalised=False))
    m = g("moments", 0)
    z = g("linear", g("normalize", 0, g("exp", m)), 1)
    case = Case(g.graph(z, running=[{"parameter": 1, "value": m}]), n_samples=70)
    w, kept = case.params[:6].reshape(3, 2), np.exp(case.params[6:].reshape(2, 3))
    expected = (case.X[0] - kept[0]) / np.sqrt(kept[1] + 1e-5) @ w
    np.testing.assert_allclose(case.plan.predict(case.params, case.X[0]), expected, rtol=1e-12)


def test_a_failed_run_puts_running_moments_back():
    """With the weights of the last whole epoch, though steps of the next had moved them."""
    case = start(Case(running(width=3), n_samples=40))
    run = Run(case_as_net(case), "sgd", batch_size=10)
    run(2)
    before = run.params.copy()
    with pytest.raises(NonFiniteError):
        run(2, rate=1e200)
    np.testing.assert_array_equal(run.params, before)


def test_moments_that_overflow_are_reported():
    """The loss is finite where a variance is not, but predictions would be of no use."""
    case = start(Case(running(width=2), np.float32, 8))
    case.X = (np.float32(1e25) * case.X[0],)
    before = case.params.copy()
    run = Run(case_as_net(case), "sgd", batch_size=8)
    with pytest.raises(NonFiniteError, match="node 0, 'moments' became infinite or NaN"):
        run(1)
    np.testing.assert_array_equal(run.params, before)


def ends_with_whole_epochs(case, n_threads):
    """Has a signal end training, and sees the weights that so many epochs make."""
    run = Run(case_as_net(case), batch_size=700, n_threads=n_threads)

    def handler(*_):
        raise TimeoutError("now")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(TimeoutError, match="now"):
            run(10**5, rate=1e-4)
    finally:
        signal.signal(signal.SIGALRM, before)
    done = run.training.progress["epochs"]
    again = Run(case_as_net(case), batch_size=700)
    if done > 0:
        again(done, rate=1e-4)
    np.testing.assert_array_equal(run.params, again.params)


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_signal_ends_training_between_meetings(n_threads):
    """Nobody waits for a thread that has stopped."""
    ends_with_whole_epochs(Case(dense(64, 3), n_samples=2000), n_threads)


def test_every_allocation_may_fail():
    case = Case(running(width=3), n_samples=23)
    expected = case.gradient()
    calls = [
        lambda: _core.Plan(graph=case.graph, dtype="float64"),
        lambda: Case(case.graph, n_samples=23).gradient(),
        lambda: Run(case_as_net(case))(1),
    ]
    for call in calls:
        fails_well(call)
    assert case.gradient()[0] == expected[0]


# ------------------------------------------------------------------------------------------ misuse


def test_predict_without_running_moments_is_refused():
    case = Case(dense())
    message = r"predict: found node 1, 'moments', which couples .* its result, value 12"
    for predict in (case.plan.predict, lambda p, X: case.plan.freeze(p).predict(X)):
        with pytest.raises(LookupError, match=message):
            predict(case.params, case.X[0])


def test_what_only_a_loss_needs_may_be_coupled():
    """Predict runs what leads to its outputs."""
    graph = dense()
    graph["nodes"].append(("linear", {}, (0, 9, 10)))
    graph["outputs"] = [len(graph["parameters"]) + len(graph["nodes"])]
    case = Case(graph)
    assert case.plan.predict(case.params, case.X[0]).shape == (33, 3)


def test_tangents_through_moments_are_refused():
    case = Case(dense())
    v = np.ones_like(case.params)
    with pytest.raises(LookupError, match="the row 'moments' couples the samples of a batch"):
        case.plan.tangent(case.params, case.X[0], v)
    with pytest.raises(LookupError, match="the row 'moments' couples the samples of a batch"):
        case.plan.hessian_product(case.params, case.X[0], case.y[0], v)


def broken(nodes, parameters=None, **changes):
    """Nodes on samples of three features, value 0; parameters are one (3, 2) if not given."""
    parameters = parameters or [weight(3, 2)]
    last = len(parameters) + len(nodes)
    graph = {
        "inputs": [((3,), "real")],
        "parameters": parameters,
        "nodes": nodes,
        "losses": [{"name": "squared_error", "value": last}],
        "outputs": [last],
    }
    return {**graph, **changes}


def following(parameter=1, value=2, shape=(2, 3), momentum=0.1, frozen=True, times=1):
    nodes = [("moments", {}, (0,)), ("normalize", {}, (0, 3)), ("linear", {}, (4, 1))]
    one = {"parameter": parameter, "value": value, "momentum": momentum}
    return broken(nodes, [weight(3, 2), weight(*shape, frozen=frozen)], running=times * [one])


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (broken([("moments", {}, (0,))]), "loss 'squared_error': found value 2, wanted"),
        (broken([("moments", {}, (0,))], losses=[]), "output 0: found value 2, wanted"),
        (broken([("moments", {}, (1,))]), "'moments' of values without samples"),
        (
            broken(
                [
                    ("moments", {}, (0,)),
                    ("transpose", {"axes": (1, 0)}, (2,)),
                    ("linear", {}, (0, 3)),
                ]
            ),
            "node 2: found the result of a node as input 1 of 'linear'",
        ),
        (following(parameter=2), "running: found parameter 2, wanted 0 to 1"),
        (following(parameter=0), "found parameter 0, which is read by a node, wanted a frozen"),
        (following(frozen=False), "found parameter 1, which is trained, wanted a frozen one"),
        (following(value=0), "running: found value 0, wanted the result of a node"),
        (following(value=4), "running: found value 4, of 'normalize', which nothing can follow"),
        (following(value=3, shape=(3, 2)), r"parameter 1 of shape \(3, 2\), wanted \(2, 3\)"),
        (following(value=3, momentum=1.5), "found the momentum 1.5, wanted a number in"),
        (following(value=3, times=2), "found parameter 1 for value 3, wanted each but once"),
    ],
)
def test_errors_name_what_is_wrong(graph, message):
    with pytest.raises((ValueError, LookupError), match=message):
        _core.Plan(graph=graph, dtype="float64")
