"""Every misuse of the engine is an error that names the argument, what was found and wanted."""

import pickle

import numpy as np
import pytest
from helpers import Run

from fastbp import _core
from fastbp.testing import network

NET = network(n_samples=6)
CLASSES = network(loss=("softmax_cross_entropy", {}), n_samples=6)
SPARSE = network(sparse=True, n_samples=6)


def make_plan(
    layers=(("linear", {"units": 2}),), loss=("squared_error", {}), n_inputs=2, **options
):
    return _core.Plan(n_inputs, list(layers), loss, **{"dtype": np.float64, **options})


LINEAR, TANH = ("linear", {"units": 2}), ("tanh", {})
WRONG_PLANS = {
    "no inputs": (ValueError, r"n_inputs: found 0", {"n_inputs": 0}),
    "no layers": (ValueError, r"layers: found none", {"layers": []}),
    "no units": (ValueError, r"units.*: found 0", {"layers": [("linear", {"units": 0})]}),
    "half a unit": (TypeError, r"units.*2\.5", {"layers": [("linear", {"units": 2.5})]}),
    "units missing": (ValueError, r"units", {"layers": [("linear", {})]}),
    "activation first": (ValueError, r"'tanh' at the start", {"layers": [TANH, LINEAR]}),
    "activation last": (ValueError, r"'tanh' at the end", {"layers": [LINEAR, TANH]}),
    "two activations": (
        ValueError,
        r"'tanh' after another activation",
        {"layers": [LINEAR, TANH, TANH, LINEAR]},
    ),
    "unknown layer": (ValueError, r"'no_such'", {"layers": [LINEAR, ("no_such", {}), LINEAR]}),
    "unknown loss": (ValueError, r"'no_such'.*loss", {"loss": ("no_such", {})}),
    "unknown attribute": (
        ValueError,
        r"\['slope'\].*alpha",
        {"layers": [LINEAR, ("elu", {"slope": 1}), LINEAR]},
    ),
    "attribute out of range": (
        ValueError,
        r"alpha of elu: found -1",
        {"layers": [LINEAR, ("elu", {"alpha": -1}), LINEAR]},
    ),
    "loss out of range": (
        ValueError,
        r"delta of huber: found 0",
        {"loss": ("huber", {"delta": 0})},
    ),
    "half precision": (TypeError, r"dtype: found float16", {"dtype": np.float16}),
}


@pytest.mark.parametrize("case", WRONG_PLANS)
def test_a_wrong_plan_is_refused(case):
    error, match, options = WRONG_PLANS[case]
    with pytest.raises(error, match=match):
        make_plan(**options)


def strided(array):
    return np.repeat(array, 2)[::2]


def csr_with(**parts):
    X = SPARSE.X.copy()
    for name, value in parts.items():
        setattr(X, name, value)
    return X


F32 = np.float32
PARAMS = NET.params
WRONG_CALLS = {
    "params short": (NET, ValueError, r"params: found shape \(82,\)", {"params": PARAMS[:-1]}),
    "params float32": (
        NET,
        TypeError,
        r"params: found dtype float32",
        {"params": PARAMS.astype(F32)},
    ),
    "params a list": (NET, TypeError, r"params: found list", {"params": list(PARAMS)}),
    "params strided": (NET, ValueError, r"params: found a strided", {"params": strided(PARAMS)}),
    "X one-dimensional": (NET, ValueError, r"X: found 1 dimensions", {"X": NET.X[0]}),
    "X float32": (NET, TypeError, r"X: found dtype float32", {"X": NET.X.astype(F32)}),
    "X a list": (NET, TypeError, r"X: found list", {"X": NET.X.tolist()}),
    "X narrow": (NET, ValueError, r"X: found 3 columns, wanted 4", {"X": NET.X[:, :3]}),
    "X sparse": (NET, ValueError, r"X: found sparse samples, wanted dense", {"X": SPARSE.X}),
    "X dense": (SPARSE, ValueError, r"X: found dense samples, wanted sparse", {"X": NET.X}),
    "X csc": (SPARSE, TypeError, r"X: .* csc format, wanted csr", {"X": SPARSE.X.tocsc()}),
    "X column": (
        SPARSE,
        ValueError,
        r"X: found column 9",
        {"X": csr_with(indices=np.full_like(SPARSE.X.indices, 9))},
    ),
    "X indptr": (
        SPARSE,
        ValueError,
        r"X: found .*indptr",
        {"X": csr_with(indptr=SPARSE.X.indptr[::-1].copy())},
    ),
    "X empty": (NET, ValueError, r"X: found no rows", {"X": NET.X[:0], "y": NET.y[:0]}),
    "y short": (NET, ValueError, r"y: found shape \(5, 3\), wanted \(6, 3\)", {"y": NET.y[:5]}),
    "y narrow": (NET, ValueError, r"y: found shape \(6, 2\)", {"y": NET.y[:, :2].copy()}),
    "y float32": (NET, TypeError, r"y: found dtype float32", {"y": NET.y.astype(F32)}),
    "y int64": (
        CLASSES,
        TypeError,
        r"y: found dtype int64, wanted int32",
        {"y": CLASSES.y.astype(np.int64)},
    ),
    "y no class": (
        CLASSES,
        ValueError,
        r"y: found 3, wanted 0 to 2",
        {"y": np.full(6, 3, np.int32)},
    ),
    "y negative": (
        CLASSES,
        ValueError,
        r"y: found -1, wanted 0 to 2",
        {"y": np.full(6, -1, np.int32)},
    ),
    "weights short": (
        NET,
        ValueError,
        r"sample_weight: found shape",
        {"sample_weight": np.ones(5)},
    ),
    "weights zero": (
        NET,
        ValueError,
        r"sample_weight: .* sum of 0",
        {"sample_weight": np.zeros(6)},
    ),
    "weights negative": (
        NET,
        ValueError,
        r"sample_weight: found -1",
        {"sample_weight": np.array([9.0, -1, 1, 1, 1, 1])},
    ),
    "weights NaN": (
        NET,
        ValueError,
        r"sample_weight: found",
        {"sample_weight": np.array([np.nan, 1, 1, 1, 1, 1])},
    ),
    "alpha negative": (NET, ValueError, r"alpha: found -1", {"alpha": -1.0}),
    "alpha NaN": (NET, ValueError, r"alpha: found nan", {"alpha": np.nan}),
}
ARGUMENTS_OF = {
    "predict": ("params", "X"),
    "tangent": ("params", "X"),
    "loss_gradient": ("params", "X", "y", "sample_weight", "alpha"),
    "hessian_product": ("params", "X", "y", "sample_weight", "alpha"),
    "inspect": ("params", "X", "y", "sample_weight"),
    "Training": ("params", "X", "y", "sample_weight", "alpha"),
}


def call(net, method, **changes):
    """One call of a plan's method, or a Training, with some arguments changed."""
    given = {"params": net.params, "X": net.X, "y": net.y, **changes}
    if method == "Training":
        options = {"rule": "sgd", "states": np.empty((0, net.plan.n_params)), "batch_size": 1}
        return _core.Training(net.plan, **{**options, **given})
    positional = [given.pop(name) for name in ("params", "X", "y")]
    if method in ("predict", "tangent"):
        positional.pop()
    if method in ("tangent", "hessian_product"):
        positional.append(net.params)
    return getattr(net.plan, method)(*positional, **given)


@pytest.mark.parametrize("method", ARGUMENTS_OF)
@pytest.mark.parametrize("case", WRONG_CALLS)
def test_a_wrong_argument_is_refused_by_name(case, method):
    net, error, match, changes = WRONG_CALLS[case]
    call(net, method)  # which is right
    taken = ARGUMENTS_OF[method]
    if case == "X empty" and method in ("predict", "tangent"):
        assert call(net, method, X=changes["X"]).shape == (0, 3)
    elif set(changes) <= set(taken):
        with pytest.raises(error, match=match):
            call(net, method, **changes)


WRONG_TRAININGS = {
    "no plan": (TypeError, r"plan", {"plan": None}),
    "unknown rule": (ValueError, r"'no_such'.*update rule", {"rule": "no_such"}),
    "states missing": (ValueError, r"states: found shape \(0, 83\)", {"rule": "adam"}),
    "no batch": (ValueError, r"batch_size: found 0", {"batch_size": 0}),
    "large batch": (ValueError, r"batch_size: found 7, wanted 1 to the 6", {"batch_size": 7}),
    "foreign attribute": (ValueError, r"\['beta_1'\]", {"attrs": {"beta_1": 0.5}}),
    "attribute out of range": (
        ValueError,
        r"momentum.*found 2",
        {"rule": "momentum", "states": np.zeros((1, 83)), "attrs": {"momentum": 2.0}},
    ),
    "negative seed": (ValueError, r"seed", {"seed": -1}),
    "large seed": (ValueError, r"seed", {"seed": 2**64}),
    "no threads": (ValueError, r"n_threads: found 0", {"n_threads": 0}),
}


@pytest.mark.parametrize("case", WRONG_TRAININGS)
def test_a_wrong_training_is_refused(case):
    error, match, changes = WRONG_TRAININGS[case]
    arguments = {"rule": "sgd", "states": np.empty((0, 83)), "batch_size": 2, **changes}
    plan = arguments.pop("plan", NET.plan)
    with pytest.raises(error, match=match):
        _core.Training(plan, NET.params.copy(), NET.X, NET.y, **arguments)


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        (r"rates: found shape \(1, 2, 1\), wanted .*\(n_epochs, 2\)", {"rates": [[[0.1], [0.1]]]}),
        (r"rates: found 3 an epoch, wanted 1, or 2", {"rates": [[0.1, 0.1, 0.1]]}),
        (r"rates: found 0 an epoch", {"rates": [[]]}),
        (r"rates: found a rate", {"rates": [[0.1, -0.1]]}),
        (r"rates", {"rates": [np.nan]}),
        (r"step: found -1", {"rates": [0.1], "step": -1}),
        (r"first_epoch: found -1", {"rates": [0.1], "first_epoch": -1}),
        (r"step_losses: found shape \(1,\)", {"rates": [0.1], "step_losses": np.empty(1)}),
    ],
)
def test_a_wrong_run_is_refused(match, arguments):
    run = Run(NET)
    with pytest.raises(ValueError, match=match):
        run.training.run(**arguments)
    np.testing.assert_array_equal(run.params, NET.params)


def test_read_only_targets_of_writing_are_refused():
    frozen = NET.params.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"grad: found a read-only array"):
        call(NET, "loss_gradient", grad=frozen)
    with pytest.raises(ValueError, match=r"params: found a read-only array"):
        call(NET, "Training", params=frozen)
    # Where they are only read they serve.
    assert call(NET, "predict", params=frozen).shape == (6, 3)


@pytest.mark.parametrize("n_threads", [0, -1])
def test_fewer_than_one_thread_is_refused(n_threads):
    for method in ("predict", "loss_gradient"):
        with pytest.raises(ValueError, match=rf"n_threads: found {n_threads}"):
            call(NET, method, n_threads=n_threads)


@pytest.mark.parametrize("f", [_core.link, lambda name, z: _core.loss(name, z, z)])
def test_raw_outputs_have_two_dimensions(f):
    with pytest.raises(ValueError, match="z: found 1 dimensions"):
        f("squared_error", np.zeros(3))


def test_sizes_below_one_are_refused():
    for f in (NET.plan.memory, NET.plan.flops):
        with pytest.raises(ValueError, match="batch_size: found 0"):
            f(0)
    with pytest.raises(ValueError, match="n_threads: found 0"):
        NET.plan.memory(1, n_threads=0)
    for n_threads in (0, 10**10):
        with pytest.raises(ValueError, match=f"n_threads: found {n_threads}"):
            NET.plan.balance(1, n_threads)
    for f in (NET.plan.memory, lambda batch_size: NET.plan.balance(batch_size, 2)):
        with pytest.raises(ValueError, match="batch_size: found 4294967296"):
            f(2**32)
    with pytest.raises(ValueError, match="n: found -1"):
        _core.permutation(0, 0, -1)


def test_an_indptr_past_the_stored_values_is_seen_before_it_is_followed():
    """It would lead outside the arrays, which the sanitizer would see."""
    X = SPARSE.X.copy()
    X.indptr = np.array([0, 500_000] + (X.shape[0] - 1) * [X.nnz], X.indptr.dtype)
    with pytest.raises(ValueError, match=r"X: found an indptr that .* at row 0"):
        SPARSE.plan.predict(SPARSE.params, X)


def test_plans_and_trainings_do_not_pickle():
    for thing in (NET.plan, Run(NET).training):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(thing)
