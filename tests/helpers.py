"""What several test files share: parametrisation, data, gradients, a network in training.

No test and no reference of a row is here: those are in the test files and in reference.py.
"""

import numpy as np
import pytest
import reference
from scipy.optimize import approx_fprime
from sklearn.datasets import load_iris

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, _core, check_gradients, nn
from fastbp.testing import cases

# --------------------------------------------------------------------------------- parametrisation


def over(row_cases, argument="case"):
    """Parametrise a test over cases of rows, named after them."""
    return pytest.mark.parametrize(argument, row_cases, ids=str)


DTYPES = [np.float32, np.float64]
over_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
over_inputs = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
over_weighting = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
over_activations = over(cases("activation", attributes=False), "activation")
over_losses = over(cases("loss", attributes=False), "loss")
over_rules = over(cases("rule", attributes=False), "rule")
over_estimators = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])


# ------------------------------------------------------------------------------------------ arrays


def strided(array):
    """`array` as every second row and third column of a larger one."""
    whole = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
    whole[::2, 1::3] = array
    return whole[::2, 1::3]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


# The same samples in memory in every way that is promised to be read in place (R17).
LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
}


def bits(array):
    """The array's bytes as integers, so that NaN equals NaN and 0.0 differs from -0.0."""
    return array.view(f"u{array.itemsize}")


def aligned(n_rows, length, dtype):
    """Zeros (n_rows, length) of which every row begins on a cache line of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    stride = -(-length * itemsize // 64) * 64
    raw = np.zeros(n_rows * stride + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_rows * stride].view(dtype).reshape(n_rows, -1)[:, :length]


# ------------------------------------------------------------------------- gradients and training


STEP = np.finfo(np.float64).eps ** (1 / 3)


def central_difference(f, x, scale, step=STEP):
    """d f(x + t scale) / dt at t = 0, by SciPy; f maps arrays to arrays.

    The default step h = eps^(1/3) balances truncation, h^2/6 f''', and rounding, eps f / h: both
    are near 4e-11 for a function of size and curvature 1.
    """
    one_sided = [
        approx_fprime(np.zeros(1), lambda t: np.ravel(f(x + t[0] * scale)), h)
        for h in (step, -step)
    ]
    return (sum(one_sided) / 2).reshape(np.shape(f(x)))


def sample_weights(net):
    """Positive weights of different sizes, one of them zero."""
    weights = np.random.default_rng(3).uniform(0.1, 3.0, len(net.y)).astype(net.plan.dtype)
    weights[1] = 0
    return weights


def gradient(net, params=None, **options):
    """The loss and its gradient, where the buffer held garbage before."""
    grad = np.full(net.plan.n_params, np.nan, net.plan.dtype)
    point = net.params if params is None else params
    return net.plan.loss_gradient(point, net.X, net.y, grad=grad, **options), grad


def check(net, plan=None, **options):
    """The gradient check of a network, or of another plan at its point."""
    return check_gradients(plan or net.plan, net.X, net.y, params=net.params, **options)


def fails_well(call):
    """Have the first, the second, ... allocation of a call fail, until it has no more of them."""
    for nth in range(1, 100):
        _core.fail_allocation(nth)
        try:
            call()
            break
        except MemoryError as error:
            assert str(error)
        finally:
            _core.fail_allocation(0)
    assert 1 < nth < 99  # some failed, and at last none


def parts_of(plan):
    """The flat buffer cut into the weights and biases of each layer, and into layers."""
    tensors = [
        slice(tensor["offset"], tensor["offset"] + int(np.prod(tensor["shape"])))
        for tensor in plan.tensors
    ]
    layers = [slice(w.start, b.stop) for w, b in zip(tensors[::2], tensors[1::2], strict=True)]
    return tensors, layers


def by_hand(
    net,
    rule,
    attrs,
    rates,
    *,
    batch_size,
    shuffle,
    seed,
    alpha,
    weights,
    rate_factors=None,
    decay_factors=None,
    **clipping,
):
    """Training written out: the plan's gradient of every batch, the witness's clipping and rule.

    `rates` has one for each epoch, or a row for each epoch with one for each batch. Returns weights
    and states, losses of epochs and of steps, and the norms of gradients.
    """
    witness = reference.RULES[rule]
    params = net.params.copy()
    states = np.zeros((witness.n_states, params.size), params.dtype)
    grad = np.empty_like(params)
    losses, step_losses, norms, step, n = [], [], [], 0, len(net.y)
    starts = range(0, n, batch_size)
    tensors, layers = parts_of(net.plan)
    rate_factors = np.ones(len(tensors)) if rate_factors is None else rate_factors
    decays = np.ones(len(tensors)) if decay_factors is None else decay_factors
    real = params.dtype.type
    for epoch, of_epoch in enumerate(rates):
        order = _core.permutation(seed, epoch, n) if shuffle else np.arange(n)
        total = 0.0
        for start, rate in zip(starts, np.broadcast_to(of_epoch, len(starts)), strict=True):
            rows = order[start : start + batch_size]
            loss = net.plan.loss_gradient(
                params,
                net.X[rows],
                np.ascontiguousarray(net.y[rows]),
                sample_weight=None if weights is None else weights[rows],
                alpha=alpha if decay_factors is None else 0.0,
                grad=grad,
            )
            if decay_factors is not None:
                whole = len(rows) if weights is None else weights[rows].sum(dtype=np.float64)
                for part, factor in zip(tensors[::2], decays[::2], strict=True):  # no biases
                    grad[part] += real(alpha / whole * factor) * params[part]
                    loss += 0.5 * alpha * factor * np.sum(params[part].astype(float) ** 2) / whole
            squares = [reference.sum_squares(grad[layer]) for layer in layers]
            norms.append(reference.clip(grad, squares, **clipping))
            step += 1
            for part, factor, decay in zip(tensors, rate_factors, decays, strict=True):
                given = {**witness.defaults, **attrs}
                if "weight_decay" in given:
                    given["weight_decay"] *= decay
                of_part = list(states[:, part])
                witness.update(params[part], grad[part], of_part, rate * factor, step, **given)
            total += loss * len(rows)
            step_losses.append(loss)
        losses.append(total / n)
    return params, states, losses, step_losses, norms


class Run:
    """A network in training, with parameters and states of its own."""

    def __init__(self, net, rule="adam", attrs=None, **options):
        (row,) = (row for row in _core.table() if (row["kind"], row["name"]) == ("rule", rule))
        self.params = net.params.copy()
        self.n_samples = len(net.y[0] if isinstance(net.y, tuple) else net.y)
        self.states = np.zeros((row["n_states"], net.plan.n_params), net.plan.dtype)
        options.setdefault("batch_size", 5)
        self.training = _core.Training(
            net.plan,
            self.params,
            net.X,
            net.y,
            rule=rule,
            attrs=attrs,
            states=self.states,
            **options,
        )
        self.step = 0
        self.epoch = 0

    def __call__(self, epochs, rate=0.01, **options):
        result = self.training.run(
            np.full(epochs, rate), first_epoch=self.epoch, step=self.step, **options
        )
        self.step = result["step"]
        self.epoch += result["epochs"]
        return result

    def same_as(self, other):
        np.testing.assert_array_equal(self.params, other.params)
        np.testing.assert_array_equal(self.states, other.states)


# -------------------------------------------------------------------------------------- estimators


# Most tests train for a few epochs, of which the estimators warn.
short_training = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def _iris():
    X, species = load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), species


IRIS = _iris()  # standardised features (150, 4); the species 0, 1, 2, sorted


def fitted(kind, features=IRIS[0], y=IRIS[1], **given):
    """A small estimator after five epochs."""
    return kind(6, max_iter=5, random_state=0, batch_size=32, **given).fit(features, y)


def small_network(n_outputs=3, *, p=0.1):
    """A network for it."""
    return nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Dropout(p), nn.Linear(n_outputs))


def small(**given):
    """A classifier with that network, which is not fitted."""
    return NetworkClassifier(small_network(), **{"batch_size": 16, "random_state": 5} | given)


def flat(model):
    """The parameters of a fitted estimator of any network."""
    return model.module_._home.settle()


def same_history(one, other):
    """Whether two histories tell of the same training, whatever time it took."""
    kept = [{name: list(x) for name, x in h.items() if name != "seconds"} for h in (one, other)]
    return one.keys() == other.keys() and all(
        np.array_equal(kept[0][name], kept[1][name], equal_nan=True) for name in kept[0]
    )
