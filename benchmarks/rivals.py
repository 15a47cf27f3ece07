"""fastbp and its peers, ready to do the same work; and how it is timed.

scikit-learn and a plain NumPy class are always there, PyTorch and JAX where they are installed.

Before training is timed, `assert_agreement` has all of them train from the same weights on the same
batches and compares their losses. Times are taken in rounds in which each has its turn, in one
process and on the same number of threads, so that whatever else the machine does meets all alike.
"""

import os
import shutil
import time
import warnings
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.numpy_mlp import NumpyMLP

FASTBP, SKLEARN, NUMPY = "fastbp", "scikit-learn", "NumPy"
TORCH, COMPILED, JAX = "torch", "torch compiled", "JAX"
PEERS = (SKLEARN, NUMPY)

# Three epochs of two steps: their rounding, some 1e-16 a step, is amplified by no more than a few
# thousand on the way, even through 32 layers. A wrong factor shows in the first digits.
AGREEMENT = 1e-9
AGREEMENT_EPOCHS = 3

# Rows that scikit-learn predicts at a time: of a million rows of 54-256-256-7 it predicted 519,000
# a second so, and 344,000 in one call, where that was measured.
CHUNK = 4096

# Seconds before a turn on several threads. OpenBLAS's workers go on spinning for some 0.1 s after
# their last product, and hold a core each. Measured on 2 cores with 64-100-10, in million samples a
# second: fastbp trained 0.92 directly after a peer's turn, 1.26 after 0.05 s, 2.86 after 0.2 s and
# 2.89 after 0.5 s; scikit-learn (0.43) and NumPy (1.0) were the same after any of them.
PAUSE = 0.25


@contextmanager
def equal_threads(n_threads):
    """Limit every BLAS and OpenMP runtime of the process, and so all rivals, to `n_threads`."""
    with threadpool_limits(limits=n_threads), warnings.catch_warnings():
        # The number of epochs is fixed on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def installed():
    """Names of the peers that are here; none of them is imported for that."""
    torch = (TORCH, COMPILED) if find_spec("torch") else ()
    return PEERS + torch + ((JAX,) if find_spec("jax") else ())


def has_cxx():
    """Whether there is the C++ compiler that `torch.compile` calls."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def plain(name, shape, start, n_threads):
    """The peer of this name, other than scikit-learn, with weights to start from.

    `frameworks` has no `__init__.py`, so that asv, which imports every module that it finds, does
    not find those that need PyTorch or JAX.
    """
    if name == NUMPY:
        return NumpyMLP(shape, start)
    if name == JAX:
        from benchmarks.frameworks.peers_jax import JaxMLP

        return JaxMLP(shape, start)
    from benchmarks.frameworks.peers_torch import TorchMLP

    return TorchMLP(shape, start, n_threads, compiled=name == COMPILED)


def estimators(shape, epochs=None, *, n_threads=None, **options):
    """Unfitted estimators of fastbp and of scikit-learn with the same parameters.

    `n_threads` is fastbp's own parameter; None obeys `equal_threads`.
    """
    import fastbp

    options = {**shape.options(epochs), **options}
    return {
        FASTBP: getattr(fastbp, shape.estimator)(**options, n_threads=n_threads),
        SKLEARN: getattr(neural_network, shape.estimator)(**options),
    }


def starting_weights(shape, X, y):
    """What fastbp's training starts from: the weights and the biases of each layer in turn."""
    problem = estimators(shape)[FASTBP]._gradient_problem(X, y, dtype=X.dtype)
    arrays = []
    for tensor in problem.plan.tensors:
        size = int(np.prod(tensor["shape"]))
        part = problem.params[tensor["offset"] : tensor["offset"] + size]
        arrays.append(part.reshape(tensor["shape"]).copy())
    return arrays


def training(shape, n_threads, peers=PEERS):
    """Functions that each train a model from the start for the shape's epochs, by rival.

    Before, their losses are seen to agree. Other peers than the estimators have the data in their
    own form beforehand.
    """
    assert_agreement(shape, n_threads, peers)
    X, y = shape.data()
    start = starting_weights(shape, X, y)
    fits = {}
    for name, model in estimators(shape).items():
        fits[name] = partial(model.fit, X, y)
    for name in peers:
        if name != SKLEARN:
            model = plain(name, shape, start, n_threads)
            fits[name] = partial(model.fit, *model.arrays(X, y), epochs=shape.epochs)
    return {name: fits[name] for name in (FASTBP, *peers)}


def prediction(shape, rows, n_threads, peers=PEERS, calls=1):
    """Functions that each predict the classes of some rows, as often as told, by rival.

    Peers take many rows in chunks, which is faster for them than one call; fastbp in one call.
    """
    X, y = shape.data(n_samples=max(rows, shape.batch))
    start = starting_weights(shape, X, y)
    predict = {}
    for name in peers:
        if name != SKLEARN:
            predict[name] = plain(name, shape, start, n_threads).predict
    for name, model in estimators(shape, epochs=1).items():
        predict[name] = model.fit(X[: shape.batch], y[: shape.batch]).predict
    whole = predict[SKLEARN]
    predict[SKLEARN] = lambda X: np.concatenate(
        [whole(X[first : first + CHUNK]) for first in range(0, len(X), CHUNK)]
    )

    def repeated(function):
        for _ in range(calls):
            function(X[:rows])

    return {name: partial(repeated, predict[name]) for name in (FASTBP, *peers)}


def assert_agreement(shape, n_threads, peers=PEERS):
    """Have all rivals train in float64 from the same weights, unshuffled; compare their losses.

    Returns
    -------
    float
        The largest relative difference from fastbp's losses.

    Raises
    ------
    AssertionError
        It is above `AGREEMENT`: then they do not do the same work, and times mean nothing.
    """
    X, y = shape.data(np.float64, n_samples=2 * shape.batch)
    start = starting_weights(shape, X, y)
    ours, theirs = estimators(shape, AGREEMENT_EPOCHS, shuffle=False).values()
    layers = iter(list(zip(start[::2], start[1::2], strict=True)))
    theirs._init_coef = lambda fan_in, fan_out, dtype: tuple(a.copy() for a in next(layers))
    losses = {
        FASTBP: ours.fit(X, y).loss_curve_,
        SKLEARN: theirs.fit(X, y).loss_curve_,
    }
    for name in peers:
        if name != SKLEARN:
            model = plain(name, shape, start, n_threads)
            held = model.arrays(X, y)
            losses[name] = model.fit(*held, epochs=AGREEMENT_EPOCHS, shuffle=False)
    worst = 0.0
    for name, found in losses.items():
        error = float(np.max(np.abs(np.divide(found, losses[FASTBP]) - 1)))
        assert error <= AGREEMENT, f"{shape}: losses of {name} differ from fastbp's by {error:.1e}"
        worst = max(worst, error)
    return worst


def interleaved(functions, rounds):
    """Seconds of each function in each round; a turn on several threads starts in a quiet process.

    Parameters
    ----------
    functions : dict of str to callable
        Called without arguments, once each beforehand.
    rounds : int
        How often each is timed. The order turns from round to round.

    Returns
    -------
    dict of str to ndarray of shape (rounds,)
    """
    names = list(functions)
    seconds = {name: np.empty(rounds) for name in names}
    several = any(pool["num_threads"] > 1 for pool in threadpool_info())
    for name in names:
        functions[name]()
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            if several:
                time.sleep(PAUSE)
            started = time.perf_counter()
            functions[name]()
            seconds[name][r] = time.perf_counter() - started
    return seconds


def ratios(seconds, peer):
    """How many times as fast as the peer fastbp was, in each round."""
    return seconds[peer] / seconds[FASTBP]
