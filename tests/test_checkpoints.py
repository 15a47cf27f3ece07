"""Checkpoints in plans: the bits of the same graph without, with less memory for another run.

Where the parts begin and end is drawn at random for graphs of every kind, and laid out evenly for
deep networks, whose memory is told to the byte. On tensors: test_recompute.py. It is long because
whatever a plan does is done once more with checkpoints in it.
"""

import re
import signal
from functools import partial

import numpy as np
import pytest
import test_graphs
import test_graphs_coupled
import test_graphs_derived
from helpers import Run, fails_well, over_dtypes, short_training
from random_modules import INPUT, OUTPUTS, RandomNetwork
from test_graphs import THREADS, Case, bias, case_as_net, weight
from test_graphs_coupled import Growing

import fastbp
from fastbp import NonFiniteError, _core, check_gradients, nn, ops
from fastbp.nn.tracing import Graph
from fastbp.train.limits import _couples


def cut(graph, seed):
    """The graph with checkpoints: one of all, one of each node, or drawn."""
    n = len(graph["nodes"])
    if seed < 2:
        return {**graph, "checkpoints": [1] * n if seed == 0 else [*range(1, n + 1)]}
    rng, numbers, most = np.random.default_rng(seed), [], 0
    while len(numbers) < n:
        number = most + 1 if rng.random() < 0.7 else 0
        most = max(most, number)
        numbers += [number] * int(rng.integers(1, 5))
    return {**graph, "checkpoints": numbers[:n]}


COUPLED = {
    "dense, moments": test_graphs_coupled.dense(),
    "images": test_graphs_coupled.images(),
    "branches": test_graphs_coupled.branches(),
    "of shared": test_graphs_coupled.of_shared(),
    "beside": test_graphs_coupled.beside(),
    "beside moments": test_graphs_derived.GRAPHS["beside moments"],
}
UNCOUPLED = {
    **test_graphs.GRAPHS,
    **{f"derived, {name}": graph for name, graph in test_graphs_derived.UNCOUPLED.items()},
}
GRAPHS = {**UNCOUPLED, **COUPLED}
over_graphs = pytest.mark.parametrize("name", GRAPHS)
over_cuts = pytest.mark.parametrize("seed", range(5))


def pair(name, seed, *args):
    """A case of a graph, and of the same with checkpoints."""
    plain = Case(GRAPHS[name], *args)
    return plain, Case(cut(GRAPHS[name], seed), *args)


# ------------------------------------------------------------------------------------------- bits


@over_dtypes
@over_graphs
@over_cuts
def test_gradients_have_the_bits_of_the_graph_without(name, dtype, seed):
    """R98: 2100 samples are several blocks of a full gradient, each formed in parts."""
    for n_samples in (1, 33, 2100):
        plain, again = pair(name, seed, dtype, n_samples)
        (loss, grad), (same, other) = plain.gradient(), again.gradient()
        assert same == loss
        np.testing.assert_array_equal(other, grad)


@over_graphs
@over_cuts
def test_values_and_gradients_on_the_way_have_them_too(name, seed):
    plain, again = pair(name, seed, np.float32, 40)
    for ours, theirs in zip(
        *(
            case.plan.trace(
                case.params,
                case.unpacked(case.X),
                case.unpacked(case.y),
                sample_weight=case.weights,
            )
            for case in (plain, again)
        ),
        strict=True,
    ):
        assert ours.keys() == theirs.keys()
        for v, found in ours.items():
            np.testing.assert_array_equal(theirs[v], found, err_msg=f"{v}")


@pytest.mark.threads
@over_dtypes
@over_graphs
def test_training_on_any_number_of_threads(name, dtype):
    """The last batch of an epoch is a shorter one."""
    plain, again = pair(name, 3, dtype, 1500)
    alone = Run(case_as_net(plain), batch_size=700, alpha=0.1)
    losses = alone(2)["losses"]
    for n_threads in THREADS:
        run = Run(case_as_net(again), batch_size=700, alpha=0.1, n_threads=n_threads)
        np.testing.assert_array_equal(run(2)["losses"], losses)
        run.same_as(alone)
        assert again.gradient(n_threads)[0] == plain.gradient()[0]
        np.testing.assert_array_equal(again.gradient(n_threads)[1], plain.gradient()[1])


@pytest.mark.parametrize("name", UNCOUPLED)
@pytest.mark.parametrize("rule, options", [("adam", {}), ("lamb", {"clip_norm": 0.5})])
def test_steps_of_several_batches_and_three_phases(name, rule, options):
    """Sums go on from batch to batch in each turn, and the rule sees the whole gradient."""
    options = {"alpha": 0.1, "n_threads": 3, **options}
    cases = pair(name, 4, np.float32, 1100)
    for accumulate in (1, 3):
        options |= {"batch_size": 768 // accumulate, "accumulate": accumulate}
        runs = [Run(case_as_net(case), rule, **options) for case in cases]
        np.testing.assert_array_equal(*(run(2)["losses"] for run in runs))
        runs[0].same_as(runs[1])


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_steps_of_several_batches(name):
    """Moments are those of each batch: against the same batches without checkpoints."""
    plain, again = pair(name, 3, np.float32, 500)
    runs = [Run(case_as_net(case), batch_size=100, accumulate=2) for case in (plain, again)]
    np.testing.assert_array_equal(*(run(2)["losses"] for run in runs))
    runs[0].same_as(runs[1])


@pytest.mark.threads
@pytest.mark.parametrize("seed", range(40))
def test_random_networks_with_random_checkpoints(seed, monkeypatch):
    """Dropout, attention, norms, shared parameters, values that cross borders many times."""

    def compiled():
        network = RandomNetwork(seed).build(INPUT, seed=seed, dtype=np.float32)
        return network, fastbp.compile(network, "softmax_cross_entropy")

    network, plain = compiled()
    numbers = cut({"nodes": plain.nodes}, seed)["checkpoints"]
    monkeypatch.setattr(Graph, "_checkpoint", lambda graph: numbers[len(graph.checkpoints)])
    again = compiled()[1]
    assert [node["checkpoint"] for node in again.core.nodes] == numbers
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((700, *INPUT)).astype(np.float32)
    y = rng.integers(0, OUTPUTS, 700).astype(np.int32)
    found = []
    for plan, n_threads in ((plain, 1), (again, 1), (again, 5)):
        params = network._home.flat.copy()
        grad = np.empty_like(params)
        loss = plan.core.loss_gradient(params, X, y, grad=grad, draws=(seed, 3))
        net = type("Net", (), {"plan": plan.core, "params": params, "X": X, "y": y})
        run = Run(net, batch_size=300, seed=seed, n_threads=n_threads)
        found.append((loss, grad, run(1)["losses"], run.params, run.states))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(theirs, ours)


def test_products_by_blas_have_the_tiles_of_the_graph_without():
    """Tiles decide about BLAS's bits: as wide as here they hang on what a sample takes."""
    width, plans = 1024, []
    for part in (nn.Sequential, lambda *layers: nn.Checkpoint(nn.Sequential(*layers))):
        layers = [part(nn.Linear(width), nn.Tanh(), nn.Linear(width), nn.Tanh()) for _ in range(2)]
        network = nn.Sequential(*layers).build((3, width), dtype=np.float64)
        plans.append(fastbp.compile(network, "squared_error"))
    X = np.random.default_rng(0).standard_normal((40, 3, width))
    grads = []
    for plan in plans:
        assert plan.core.uses_blas
        grads.append(np.empty(plan.core.n_params))
        plan.core.loss_gradient(network._home.flat, X, X, grad=grads[-1])
    np.testing.assert_array_equal(*grads)
    # The bits of these products may be those of other tiles too; so how tiles spread over threads.
    for n_threads in (2, 3, 7):
        balances = [plan.core.balance(41, n_threads)["rows"] for plan in plans]
        assert balances[0] == balances[1] < 1


@pytest.mark.parametrize("name", GRAPHS)
def test_finite_differences(name):
    again = Case(cut(GRAPHS[name], 2), n_samples=12)
    _, grad = again.gradient()
    rng = np.random.default_rng(0)
    params = again.params.copy()
    h, trained = 1e-6, np.flatnonzero(grad)
    along = np.zeros_like(params)
    along[trained] = rng.standard_normal(trained.size)
    losses = []
    for sign in (1, -1):
        again.params = params + sign * h * along
        losses.append(again.gradient()[0])
    # h^2 of a third derivative, of the size of the terms up to some hundred; and a rounding of the
    # loss, 1e-16, over h. A kink that the two points straddle would show: none does here.
    terms = np.abs(grad) @ np.abs(along) + losses[0]
    assert abs((losses[0] - losses[1]) / (2 * h) - grad @ along) < 1e-8 * terms


# ---------------------------------------------------------------------------------------- networks


def deep(segments, layers=24, width=32, more=nn.ReLU, wrap=nn.Checkpoint):
    """Layers in so many checkpoints, 0 for none, between a first and a last one outside."""

    def part(numbers):
        return nn.Sequential(*[m for _ in numbers for m in (nn.Linear(width), more())])

    parts = [part(numbers) for numbers in np.array_split(np.arange(layers), max(segments, 1))]
    if segments > 0:
        parts = [wrap(one) for one in parts]
    return nn.Sequential(nn.Linear(width), *parts, nn.Linear(3))


def planned(module, shape=20, dtype=np.float32, loss="softmax_cross_entropy"):
    return fastbp.compile(module.build(shape, seed=3, dtype=dtype), loss)


def test_the_memory_of_a_deep_network():
    """R98: 24 layers in 4 parts. What a sample keeps, by hand, in floats: rows of 40 and 32, with
    a one behind them in whole cache lines, are 48 wide, and so are gradients; that of the output,
    which takes its place, is 16 wide, and lies where nothing wider fits.

    Without: what each of 26 products reads, and 26 gradients of what they make.

    With: the input, and what crosses five borders; of one part at a time what its five further
    products read, and the gradients of what its six make and of what the part is made of.
    """
    n, plain, again = 512, planned(deep(0), 40), planned(deep(4), 40)
    without, parted = plain.memory(n), again.memory(n)
    before = without["activations"] + without["deltas"]
    kept = parted["activations"] + parted["deltas"]
    assert before == 4 * n * (26 * 48 + 25 * 48 + 16)
    assert kept == 4 * n * ((6 + 5 + 7) * 48 + 16)
    assert (before, kept) == (5046272, 1802240)  # 36 %
    assert parted["total"] < 0.5 * without["total"]
    # All gradients at once, until all parts have gone back.
    assert parted["gradients"] - without["gradients"] == parted["parameters"]
    same = {"parameters", "weight_copies", "order", "last_epoch"}
    assert {k: parted[k] for k in same} == {k: without[k] for k in same}


def test_more_and_smaller_parts_take_less_up_to_the_root_of_the_depth():
    found = {n: planned(deep(n)).memory(512)["total"] for n in (0, 1, 2, 4, 6, 12, 24)}
    assert found[2] > found[4] > found[6]
    assert found[24] > found[12] > found[6]
    assert found[1] > found[0]  # one part has all of it there at the end


MODULES = {
    "dense": lambda part: (
        [part(nn.Linear(16), nn.Dropout(0.3), nn.GELU()) for _ in range(4)],
        (12,),
    ),
    "batch norm": lambda part: (
        [part(nn.Linear(16), nn.BatchNorm1d(), nn.Tanh(), nn.Linear(16)) for _ in range(3)],
        (12,),
    ),
    "convolution": lambda part: (
        [
            *[part(nn.Conv2d(4, 3, padding=1), nn.BatchNorm2d(), nn.ReLU()) for _ in range(3)],
            part(nn.MaxPool2d(2), nn.Flatten()),
        ],
        (8, 8, 2),
    ),
    "transformer": lambda part: (
        [nn.Linear(8), *[part(nn.TransformerBlock(2)) for _ in range(3)], nn.Flatten()],
        (6, 5),
    ),
    "recurrent": lambda part: (
        [part(nn.LSTM(8)), part(nn.GRU(8), nn.Tanh()), nn.Flatten()],
        (7, 3),
    ),
    "residual": lambda part: (
        [nn.Linear(16), *[nn.Residual(part(nn.Linear(16), nn.Tanh())) for _ in range(4)]],
        (12,),
    ),
}


def networks(name, dtype):
    """Without and with checkpoints, of the same parameters."""
    made = []
    for part in (nn.Sequential, lambda *layers: nn.Checkpoint(nn.Sequential(*layers))):
        layers, shape = MODULES[name](part)
        made.append(nn.Sequential(*layers, nn.Linear(3)).build(shape, seed=2, dtype=dtype))
    return *made, shape


@over_dtypes
@pytest.mark.parametrize("name", MODULES)
def test_networks_train_to_the_same_bits(name, dtype):
    """Some epochs of `fit`, running moments and masks included; and as on tensors."""
    plain, again, shape = networks(name, dtype)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, *shape)).astype(dtype), rng.integers(0, 3, 600)
    losses = []
    for network, n_threads in ((plain, 1), (again, 3)):
        result = fastbp.fit(
            network,
            "softmax_cross_entropy",
            X,
            y,
            batch_size=250,
            max_epochs=3,
            seed=1,
            alpha=0.1,
            n_threads=n_threads,
        )
        losses.append(result.history["loss"])
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(plain._home.flat, again._home.flat)
    core = fastbp.compile(again, "softmax_cross_entropy").core
    assert any(node["runs_again"] for node in core.nodes)
    grad = np.empty_like(again._home.flat)
    core.loss_gradient(again._home.flat, X[:9], y[:9].astype(np.int32), grad=grad, draws=(2, 0))
    nn.SoftmaxCrossEntropy()(again(X[:9]), y[:9]).backward()
    eager = [
        np.zeros(one.size, dtype) if one.grad is None else one.grad.ravel()
        for one in again._home.parameters.values()
    ]
    np.testing.assert_array_equal(grad, np.concatenate(eager))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("n_threads, accumulate", [(1, 1), (3, 1), (3, 2)])
def test_training_takes_what_was_said(name, n_threads, accumulate):
    """R97: to the byte."""
    _, network, shape = networks(name, np.float32)
    plan = fastbp.compile(network, "softmax_cross_entropy")
    said = plan.memory(100, n_threads=n_threads, n_samples=400, accumulate=accumulate)
    X, y = np.ones((400, *shape), np.float32), np.zeros(400, np.int32)
    net = type("Net", (), {"plan": plan.core, "params": network._home.flat, "X": X, "y": y})
    before = _core.allocated_bytes()
    run = Run(net, "sgd", batch_size=100, n_threads=n_threads, accumulate=accumulate)
    run(1)
    taken = _core.allocated_bytes() - before + run.params.nbytes
    assert taken == said["total"] == sum(size for part, size in said.items() if part != "total")
    assert min(said.values()) >= 0


class Paths(nn.Module):
    """Two inputs and two outputs of a part; within it what no loss depends on, and another part."""

    def __init__(self, *, checkpointed):
        part = nn.Checkpoint if checkpointed else nn.Sequential
        self.between = part(Twice(part))
        self.idle = part(nn.Linear(4))
        self.last = nn.Linear(3)

    def forward(self, x):
        left, right = self.between((x, ops.exp(0.1 * x)))
        self.idle(left)
        return self.last(left * right + left)


class Twice(nn.Module):
    def __init__(self, part):
        self.shared, self.inner = nn.Linear(5), part(nn.Sequential(nn.Tanh(), nn.Dropout(0.2)))

    def forward(self, both):
        left, right = both
        return self.inner(self.shared(left)), self.inner(self.shared(right) * 2)


def test_parts_with_several_inputs_and_outputs_and_within_each_other():
    """The outermost counts, a part that no loss depends on runs once, and all bits are the same."""
    found = []
    for checkpointed in (False, True):
        network = Paths(checkpointed=checkpointed).build(5, seed=1)
        plan = fastbp.compile(network, "softmax_cross_entropy")
        X = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
        grad = np.empty(plan.core.n_params, np.float32)
        y = (np.arange(50) % 3).astype(np.int32)
        plan.core.loss_gradient(network._home.flat, X, y, grad=grad, draws=(1, 0))
        found.append(grad)
    np.testing.assert_array_equal(*found)
    entries = {one.label: one for one in plan.describe().entries if one.label.isdigit()}
    inside = [one for one in entries.values() if one.module.startswith("between")]
    assert {one.checkpoint for one in inside} == {1} and len(inside) == 7
    (idle,) = (one for one in entries.values() if one.module == "idle.module")
    assert (idle.checkpoint, idle.runs_again, idle.kept) == (2, False, 0)
    assert {one.checkpoint for one in entries.values() if one.module == "last"} == {0}


def test_the_function_counts_as_the_module_does():
    """`fastbp.checkpoint` within a forward; also where the plan is made without a record."""
    inner = nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(4), nn.Tanh())

    class By(nn.Module):
        def __init__(self):
            self.inner, self.last = inner, nn.Linear(2)

        def forward(self, x):
            return self.last(fastbp.checkpoint(self.inner)(x))

    network = By().build(3)
    with fastbp.no_grad():
        plan = fastbp.compile(network, "squared_error")
    assert [node["checkpoint"] for node in plan.core.nodes] == [1, 1, 1, 1, 0]
    assert [node["runs_again"] for node in plan.core.nodes] == [True, True, False, False, False]


@pytest.mark.parametrize("frozen", [("0", "2"), ("3", "4"), ("0", "1", "2")])
def test_frozen_parts(frozen):
    """One goes back to what is trained before it, and has no gradients of its own."""
    found = []
    for wrap in (nn.Sequential, nn.Checkpoint):
        network = deep(3, 6, 8, wrap=wrap).build(4, seed=1).freeze(*frozen)
        before = network._home.flat.copy()
        X = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)
        fastbp.fit(network, "softmax_cross_entropy", X, np.arange(80) % 3, max_epochs=2, seed=0)
        found.append(network._home.flat.copy())
    np.testing.assert_array_equal(*found)
    for name, one in network.parameters().items():
        offset = one.data.ctypes.data - network._home.flat.ctypes.data
        part = slice(offset // 4, offset // 4 + one.size)
        same = np.array_equal(before[part], found[1][part])
        assert same == (name.split(".")[0] in frozen), name


def test_other_derivatives_and_predictions_are_those_without():
    plain, again = (planned(deep(n, 6, 8, nn.Tanh), 4, np.float64) for n in (0, 3))
    rng = np.random.default_rng(0)
    w, X, y = (
        rng.standard_normal(plain.core.n_params),
        rng.standard_normal((9, 4)),
        np.arange(9) % 3,
    )
    v = rng.standard_normal(w.size)
    y = y.astype(np.int32)
    for call in (
        lambda core: core.predict(w, X),
        lambda core: core.tangent(w, X, v),
        lambda core: core.hessian_product(w, X, y, v),
    ):
        np.testing.assert_array_equal(call(plain.core), call(again.core))
    report = check_gradients(again, X, y)
    assert report.ok, str(report)


# ------------------------------------------------------------------------------ a limit of memory


def normalised(layers=12):
    parts = [(nn.Linear(24), nn.BatchNorm1d(), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*[one for part in parts for one in part], nn.Linear(3))


@pytest.mark.parametrize("network, n", [(normalised, 512), (partial(deep, 0), 200)])
def test_a_limit_cuts_into_checkpoints_where_batches_cannot_be(network, n):
    """Of a network that couples the samples of a batch, or of a batch that is small already."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 20)).astype(np.float32)
    y = rng.integers(0, 3, n)
    given = {"batch_size": n, "max_epochs": 2, "seed": 1, "n_threads": 1}
    free, held = (network().build(20, seed=1) for _ in range(2))
    took = fastbp.fit(free, "softmax_cross_entropy", X, y, **given).plan.memory(
        n, optimizer="adam"
    )["total"]
    limit = int(0.6 * took)
    result = fastbp.fit(held, "softmax_cross_entropy", X, y, memory_limit=limit, **given)
    np.testing.assert_array_equal(free._home.flat, held._home.flat)
    assert result.plan.memory(n, optimizer="adam", n_threads=1)["total"] <= limit
    numbers = [node["checkpoint"] for node in result.plan.core.nodes]
    # As few as do, of about equal size, that begin before layers with weights.
    assert 2 <= max(numbers) <= 4 and min(numbers) == 1
    first = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1]]
    assert {result.plan.core.nodes[n]["name"] for n in first} <= {"linear", "normalize"}
    sizes = np.bincount(numbers)[1:]
    assert sizes.max() <= 2 * sizes.min()
    with pytest.raises(ValueError, match=r"memory_limit: found 1000 bytes, wanted at least \d+ "):
        fastbp.fit(held, "softmax_cross_entropy", X, y, memory_limit=1000, **given)
    # In 16 bits its parts would have other ones.
    mixed = fastbp.compile(held, "softmax_cross_entropy", precision="bf16")
    least = mixed.memory(n, optimizer="adam", n_threads=1)["total"]
    with pytest.raises(
        ValueError, match=rf"memory_limit: found \d+ bytes, wanted at least {least}"
    ):
        fastbp.fit(
            held,
            *("softmax_cross_entropy", X, y),
            memory_limit=least - 1,
            precision="bf16",
            **given,
        )


MANY, COUPLED = "up to 8 batches a step", "no smaller batches, since layers or a Function couple"
NO_PLACES, MIXED = "for want of places", "no checkpoints, which in precision='bf16' would give othe"


@pytest.mark.parametrize(
    ("network", "given", "said"),
    [
        (normalised, {}, ["in 1 batch and 6 checkpoints", COUPLED, "up to 13 checkpoints"]),
        (normalised, {"precision": "bf16"}, ["in 1 batch,", COUPLED, MIXED, "precision='full'"]),
        (normalised, {"n_threads": 2}, ["checkpoints", COUPLED, "by n_threads=1"]),
        (partial(deep, 0), {}, ["in 8 batches and", MANY, "up to", "checkpoints"]),
        (partial(deep, 0), {"precision": "bf16"}, ["in 8 batches,", MANY, MIXED]),
        (partial(deep, 0), {"batch_size": 300}, ["no smaller batches, of which each is", "256"]),
        (partial(nn.Linear, 3), {}, ["in 8 batches,", MANY, NO_PLACES, "precision='bf16'"]),
    ],
)
def test_what_no_limit_is_kept_by_is_told_with_what_takes_less(network, given, said):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2048, 20)).astype(np.float32)
    y = rng.integers(0, 3, 2048)

    def refusal(memory_limit, **changes):
        arguments = {"batch_size": 2048, "n_threads": 1, **given, **changes}
        loss = "softmax_cross_entropy"
        try:
            module = network().build(20, seed=1)
            fastbp.fit(module, loss, X, y, memory_limit=memory_limit, max_epochs=1, **arguments)
        except ValueError as error:
            return str(error)
        return None

    words = refusal(1000)
    assert re.search(r"batch_size=1 is within the limit \(\d+ bytes\)", words), words
    for part in said:
        assert part in words
    # What it says does, and a byte less would not.
    least = int(re.search(r"wanted at least (\d+) for steps of", words)[1])
    for name, value, needed in re.findall(r"by (\w+)='?(\w+)'? \((\d+) bytes\)", words):
        assert int(needed) < least
        change = {name: int(value) if value.isdigit() else value}
        assert refusal(int(needed), **change) is None
        assert refusal(int(needed) - 1, **change) is not None
    assert refusal(least) is None
    words = refusal(least - 1)
    largest = int(re.search(r" batch_size=(\d+) is within the limit", words)[1])
    assert refusal(least - 1, batch_size=largest) is None
    assert refusal(least - 1, batch_size=largest + 1) is not None


def test_a_function_may_couple_samples_and_is_cut_with_its_network():
    class Cube(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved
            return 3 * x**2 * dy

    layers = [one for _ in range(8) for one in (nn.Linear(16), nn.Tanh())]
    network = nn.Sequential(*layers[:9], nn.Lambda(Cube.apply), *layers[9:], nn.Linear(3))
    assert _couples(fastbp.compile(network.build(4), "softmax_cross_entropy"))
    assert not _couples(planned(deep(0)))
    assert _couples(planned(normalised()))


@short_training
def test_estimators_keep_to_a_limit_so_too():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 20)), rng.integers(0, 3, 300)
    given = {"batch_size": 300, "max_epochs": 2, "random_state": 0, "n_threads": 1}
    free = fastbp.NetworkClassifier(normalised(), **given).fit(X, y)
    took = free._network.compiled.memory(300, optimizer="adam")["total"]
    limit = int(0.6 * took)
    held = fastbp.NetworkClassifier(normalised(), memory_limit=limit, **given).fit(X, y)
    with pytest.raises(ValueError, match="memory_limit: found 1000 bytes, wanted at least"):
        fastbp.NetworkClassifier(normalised(), memory_limit=1000, **given).fit(X, y)
    np.testing.assert_array_equal(free.module_._home.flat, held.module_._home.flat)
    np.testing.assert_array_equal(free.predict_proba(X), held.predict_proba(X))


# ---------------------------------------------------------------------------------------- telling


def test_flops_of_the_second_run_are_those_of_backward():
    """R96: of each part all but its last activation, whose result is still there for the next."""
    plain, again = planned(deep(0)), planned(deep(4))
    forward, more = plain.flops(10), again.flops(10)
    assert more["forward"] == forward["forward"]
    entries = again.describe().entries
    extra = sum(one.flops[0] for one in entries if one.runs_again)
    assert more["backward"] == forward["backward"] + 10 * extra
    layer = 2 * 32 * 32 + 32  # a product, and a relu
    assert extra == 4 * 5 * layer
    assert sum(one.flops[1] for one in entries) == again.flops(1)["backward"]


TABLE = """\
Sequential, float32

      module      row            from  result   parameters  FLOPs  backward  bytes  kept  checkpoint
----------------------------------------------------------------------------------------------------
   x              input                (n, 4)                                   64   64*
   0  0           linear         x     (n, 16)          80    128       128    128  128*
   1  1.module.0  linear         0     (n, 16)         272    512     1,536    128        1 again
   2  1.module.1  relu           1     (n, 16)                 16        32         128*  1 again
   3  1.module.2  linear         2     (n, 16)         272    512     1,024    128  128*  1
   4  2           linear         3     (n, 3)           51     96       192     64
loss              squared_error  4                              9

675 parameters, 2,700 bytes; 1,273 FLOPs a sample forward, 2,912 backward (2.29 times as many)
bytes, and those kept for backward, of a sample; *: for the whole batch
again: run once more in backward, where the rest of its line is counted"""


def test_the_table():
    part = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(16))
    network = nn.Sequential(nn.Linear(16), nn.Checkpoint(part), nn.Linear(3))
    assert str(planned(network, 4, loss="squared_error").describe()) == TABLE


def test_the_order_of_a_pass():
    """Head, loss and its weights; then part by part again, back, and weights; the first layer."""
    part = nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(4))
    network = nn.Sequential(nn.Linear(4), nn.Checkpoint(part), nn.Linear(2))
    assert planned(network, 3, loss="squared_error").core.order() == (
        *[("forward", n) for n in range(5)],
        ("loss", 0),
        ("backward", 4),
        *2 * [("backward_shared", 4)],
        *[("forward_again", 1), ("forward_again", 2)],
        *[("backward", 3), ("backward", 2), ("backward", 1)],
        *[("backward_shared", n) for n in (1, 1, 3, 3)],
        *2 * [("backward_shared", 0)],
    )


def test_profiles_count_every_run():
    plan = planned(deep(4, 8, 64))
    X, y = np.ones((300, 20), np.float32), np.zeros(300, np.int32)
    profile = plan.profile(X, y, repeats=2)
    assert (profile.seconds[:, 0] > 0).all()
    assert (profile.seconds[:, 1] > 0).all()


# --------------------------------------------------------------------------------- what goes wrong


def test_numbers_that_do_not_follow_each_other_are_refused():
    g = Growing((4,), weight(4, 4), bias(4))
    x = 0
    for _ in range(4):
        x = g("tanh", x)
    graph = g.graph(g("linear", x, 1, 2))
    for numbers, words in (
        ([1, 0, 1, 0, 0], "node 2: found checkpoint 1, wanted 0, 2 or more"),
        ([2, 2, 1, 0, 0], "node 2: found checkpoint 1, wanted 0, that of the node before it, or 3"),
        ([-1, 0, 0, 0, 0], "node 0: found checkpoint -1, wanted 0, 1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            _core.Plan(graph={**graph, "checkpoints": numbers}, dtype=np.float32)


def test_what_is_not_finite_changes_nothing():
    """Gradients are formed before the loss is known; weights change behind it."""
    network = deep(3, 6, 8)
    plan = planned(network, 4)
    X, y = np.full((50, 4), 1e30, np.float32), np.zeros(50, np.int32)
    net = type("Net", (), {"plan": plan.core, "params": network._home.flat * 1e20, "X": X, "y": y})
    run = Run(net, batch_size=25)
    before = run.params.copy()
    with pytest.raises(NonFiniteError, match="became infinite or NaN"):
        run(1)
    np.testing.assert_array_equal(run.params, before)


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_signal_ends_training_between_turns(n_threads):
    """Nobody waits for a thread that has stopped."""
    case = Case(cut(test_graphs_coupled.dense(64, 3), 1), n_samples=2000)
    test_graphs_coupled.ends_with_whole_epochs(case, n_threads)


def test_every_allocation_may_fail():
    case = Case(cut(GRAPHS["derived, mixed"], 2), n_samples=23)
    expected = case.gradient()
    for call in (
        lambda: _core.Plan(graph=case.graph, dtype="float64"),
        lambda: Case(case.graph, n_samples=23).gradient(),
    ):
        fails_well(call)
    np.testing.assert_array_equal(case.gradient()[1], expected[1])
