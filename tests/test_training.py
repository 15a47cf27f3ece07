"""The engine's training calls at their edges: batches without weight, interruptions, several
threads of Python, limits."""

import signal
import threading

import numpy as np
import pytest
import scipy.sparse

from fastbp import _core

HIDDEN = 16


def plan(dtype=np.float64, sparse=False, n_inputs=8):
    layers = [("linear", {"units": HIDDEN}), ("tanh", {}), ("linear", {"units": 1})]
    return _core.Plan(n_inputs, layers, ("squared_error", {}), dtype=dtype, sparse=sparse)


def training(network, X, y, params, **options):
    states = np.zeros((2, network.n_params), network.dtype)
    return _core.Training(network, params, X, y, rule="adam", states=states, **options)


def problem(rng, n=400, n_inputs=8):
    X = rng.standard_normal((n, n_inputs))
    return X, np.sin(X[:, :1])


@pytest.mark.threads
def test_batches_without_weight_are_passed_over():
    # Four weighted samples of 4000: nearly every batch has no weight, the last one of most epochs
    # too, and no thread may wait for one that has gone on.
    rng = np.random.default_rng(0)
    network = _core.Plan(
        8,
        [("linear", {"units": 256}), ("tanh", {}), ("linear", {"units": 1})],
        ("squared_error", {}),
        dtype=np.float64,
    )
    X, y = problem(rng, 4000)
    weight = np.zeros(4000)
    weight[:4] = 1.0
    start = rng.standard_normal(network.n_params) / 8
    results = []
    for n_threads in (1, 2):
        params = start.copy()
        run = training(
            network, X, y, params, batch_size=100, sample_weight=weight, n_threads=n_threads, seed=1
        )
        losses = run.run(np.full(40, 1e-3))["losses"]
        assert 40 <= run.progress["step"] <= 4 * 40  # at most one step a weighted sample and epoch
        results.append((params, losses))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][0], start)


def test_a_training_runs_in_one_thread_at_a_time():
    rng = np.random.default_rng(0)
    network = plan()
    X, y = problem(rng, 20000)
    run = training(network, X, y, np.zeros(network.n_params), batch_size=10)
    other = threading.Thread(target=run.run, args=(np.full(100, 1e-3),))
    other.start()
    refused = False
    while other.is_alive() and not refused:
        try:
            run.run(np.full(1, 1e-3))
        except RuntimeError as error:
            refused = "another thread" in str(error)
    other.join()
    assert refused


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
def test_a_signal_ends_training_with_whole_epochs(error):
    rng = np.random.default_rng(0)
    network = plan()
    X, y = problem(rng, 2000)
    start = rng.standard_normal(network.n_params)
    params = start.copy()
    run = training(network, X, y, params, batch_size=20, seed=3)

    def handler(*_):
        raise error("now")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        if error is KeyboardInterrupt:
            assert run.run(np.full(10**5, 1e-4))["interrupted"]
        else:
            with pytest.raises(error, match="now"):
                run.run(np.full(10**5, 1e-4))
    finally:
        signal.signal(signal.SIGALRM, before)
    done = run.progress["epochs"]
    assert run.progress["interrupted"] and run.progress["losses"].shape == (done,)
    again = start.copy()
    training(network, X, y, again, batch_size=20, seed=3).run(np.full(done, 1e-4))
    np.testing.assert_array_equal(params, again)


def test_epochs_have_streams_of_their_own_up_to_a_limit():
    network = plan()
    X, y = problem(np.random.default_rng(0), 10)
    run = training(network, X, y, np.zeros(network.n_params), batch_size=5)
    run.run([1e-3], first_epoch=2**31 - 1)
    with pytest.raises(ValueError, match="first_epoch: found 2147483648"):
        run.run([1e-3], first_epoch=2**31)
    with pytest.raises(ValueError, match="epoch: found 2147483648"):
        _core.permutation(0, 2**31, 5)


def test_ops_for_sparse_samples_stand_first_and_alone():
    for layers in (
        [("linear_csr", {"units": 2})],
        [("linear", {"units": 2}), ("linear_csr", {"units": 2})],
    ):
        with pytest.raises(ValueError, match="wanted an op that reads dense samples"):
            _core.Plan(3, layers, ("squared_error", {}), dtype=np.float64)


def test_a_short_indptr_is_refused():
    network = plan(sparse=True)
    X = scipy.sparse.random(5, 8, 0.5, format="csr", random_state=0)
    X.indptr = X.indptr[:-2]
    with pytest.raises(ValueError, match="indptr"):
        network.predict(np.zeros(network.n_params), X)


def test_wide_sparse_samples_need_no_dense_tile():
    # 64 rows of a million float64 columns would be half a gigabyte.
    network = plan(sparse=True, n_inputs=2**20)
    parts = network.memory(64, n_samples=64, n_threads=1)
    assert parts["thread_scratch"] < 2**24
    assert parts["activations"] < 2**24


def test_more_threads_than_can_be_meant_are_refused():
    network = plan()
    X, _ = problem(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="n_threads: found 100000, wanted at most"):
        network.predict(np.zeros(network.n_params), X, n_threads=100000)


def test_weights_whose_sum_overflows_are_refused():
    network = plan()
    X, y = problem(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="sample_weight: found a sum of inf"):
        network.loss_gradient(np.zeros(network.n_params), X, y, sample_weight=np.full(10, 1e308))
