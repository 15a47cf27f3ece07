"""`fastbp.fit`: any network trained in place, held against the same steps made one by one."""

import threading

import numpy as np
import pytest
import reference
import scipy.sparse
from helpers import over_dtypes, same_history

from fastbp import NonFiniteError, _core, compile, fit, nn, ops, optim
from fastbp.nn import locking

N = 50
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 4)).astype(np.float32)
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
WEIGHTS = RNG.uniform(0.5, 2.0, N)


def dense(*, seed=3, dtype=np.float32):
    layers = nn.Linear(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(3)
    return nn.Sequential(*layers).build(4, seed=seed, dtype=dtype)


class TwoHeads(nn.Module):
    """Two inputs; a class for each sample, and a number for each step of its series."""

    def __init__(self):
        self.table = nn.Linear(3)
        self.classes = nn.Linear(3)
        self.steps = nn.Linear(1)

    def forward(self, x, series):
        h = self.table(series).tanh()  # (n, 6, 3)
        return {"kind": self.classes(ops.concatenate([x, h[:, 0]], axis=1)), "next": self.steps(h)}


SERIES = RNG.standard_normal((N, 6, 2)).astype(np.float32)
PAIR = {"x": X, "series": SERIES}
ANSWERS = {"kind": CLASSES, "next": SERIES.sum(axis=2, keepdims=True)}
LOSSES = {"kind": ("softmax_cross_entropy", 0.25), "next": nn.Huber(delta=0.5)}


def two_heads():
    return TwoHeads().build(PAIR, seed=1)


def flat(module):
    return module._home.settle().copy()


def by_hand(module, samples, loss, rule, rates, *, batch_size, seed=3):
    """Epochs of eager steps: the module on tensors, `backward`, the witness's update rule."""
    witness = reference.RULES[rule]
    home = module._built()
    states = [np.zeros_like(home.flat) for _ in range(witness.n_states)]
    losses, steps = [], iter(rates)
    for epoch in range(len(rates) // -(-N // batch_size)):
        order, total = _core.permutation(seed, epoch, N), 0.0
        for start in range(0, N, batch_size):
            rows = order[start : start + batch_size]
            value = loss(module(samples[rows]), CLASSES[rows])
            value.backward()
            grad = np.concatenate([one.grad.ravel() for one in home.parameters.values()])
            witness.update(home.flat, grad, states, next(steps), home.step, **witness.defaults)
            home.note_change()
            total += value.item() * len(rows)
        losses.append(total / N)
    return losses


# ------------------------------------------------------------------------------------------- steps


@over_dtypes
@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_training_is_that_of_eager_steps(rule, dtype):
    schedule = optim.Warmup(optim.Exponential(0.05, 0.9), total_iters=4)
    eager, module = dense(dtype=dtype), dense(dtype=dtype)
    samples = X.astype(dtype)
    rates = schedule(np.arange(3 * 4))
    losses = by_hand(eager, samples, nn.SoftmaxCrossEntropy(), rule, rates, batch_size=16)
    result = fit(
        module,
        "softmax_cross_entropy",
        samples,
        CLASSES,
        optimizer=rule,
        schedule=schedule,
        batch_size=16,
        max_epochs=3,
        history="step",
    )
    # The same rows in the same order, dropout with it: only the mean over a batch is summed in
    # double precision here, so that gradients differ by roundings of some 50 samples in 12 steps.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(flat(module), flat(eager), rtol=0, atol=600 * eps)
    np.testing.assert_allclose(result.history["loss"], losses, rtol=100 * eps)
    assert (result.n_epochs, result.n_steps, len(result.history["step_loss"])) == (3, 12, 12)
    assert result.history["learning_rate"] == rates[::4].tolist()


CASES = {
    "dropout": {},
    "schedule": {"schedule": optim.InverseScaling(0.1)},
    "plateau": {"schedule": optim.ReduceOnPlateau(0.3, patience=0, factor=0.5)},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 50},
    "weights": {"sample_weight": WEIGHTS, "optimizer": "adamw", "alpha": 0.1},
}


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_two_epochs_and_three_more_equal_five(given):
    given = {"batch_size": 16} | given
    whole, halves = dense(), dense()
    once = fit(whole, "softmax_cross_entropy", X, CLASSES, max_epochs=5, **given)
    first = fit(halves, "softmax_cross_entropy", X, CLASSES, max_epochs=2, **given)
    second = fit(halves, "softmax_cross_entropy", X, CLASSES, max_epochs=3, resume=first, **given)
    np.testing.assert_array_equal(flat(halves), flat(whole))
    assert same_history(second.history, once.history)
    assert (first.n_epochs, second.n_epochs, len(first.history["loss"])) == (2, 5, 2)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_do_not_change_bits(n_threads):
    found = []
    for threads in (1, n_threads):
        module = two_heads()
        fit(module, LOSSES, PAIR, ANSWERS, n_threads=threads, max_epochs=3, batch_size=20)
        found.append(flat(module))
    np.testing.assert_array_equal(*found)


def test_seed_orders_and_masks():
    def trained(**given):
        module = dense()
        fit(module, "softmax_cross_entropy", X, CLASSES, batch_size=16, max_epochs=2, **given)
        return flat(module)

    np.testing.assert_array_equal(trained(), trained(seed=3))  # what it was built with
    assert not np.array_equal(trained(), trained(seed=4))
    assert not np.array_equal(trained(), trained(shuffle=False))


def test_decay_and_penalty():
    def trained(**given):
        module = dense()
        fit(module, "softmax_cross_entropy", X, CLASSES, max_epochs=2, **given)
        return flat(module)

    by_name = trained(optimizer="adamw", optimizer_params={"weight_decay": 0.5})
    np.testing.assert_array_equal(trained(optimizer="adamw", alpha=0.5), by_name)
    assert not np.array_equal(trained(alpha=0.5), trained())
    assert not np.array_equal(trained(optimizer_params={"beta_1": 0.5}), trained())
    module = dense()
    result = fit(module, "softmax_cross_entropy", X, CLASSES, alpha=0.5, max_epochs=1)
    before = dense()
    penalised = sum((one.data**2).sum() for one in before.parameters().values() if one.penalised)
    without = fit(before, "softmax_cross_entropy", X, CLASSES, max_epochs=1)
    penalty = result.history["loss"][0] - without.history["loss"][0]
    # One step of all samples. Both losses, near 1, are summed in float32 terms.
    assert abs(penalty - 0.25 * penalised / N) < 1e-6


# --------------------------------------------------------------------------------- what is trained


def test_several_inputs_outputs_and_losses():
    module = two_heads()
    kind, following = nn.SoftmaxCrossEntropy(), nn.Huber(delta=0.5)

    def loss():
        made = module(**PAIR)
        parts = kind(made["kind"], CLASSES), following(made["next"], ANSWERS["next"])
        return 0.25 * parts[0].item() + parts[1].item()

    before = loss()
    result = fit(
        module,
        LOSSES,
        PAIR,
        ANSWERS,
        learning_rate_init=0.02,
        max_epochs=30,
        batch_size=N,
        validation_data=(PAIR, ANSWERS),
    )
    # Losses near 1 of float32: some roundings of a mean over 300 terms.
    assert result.history["loss"][0] == pytest.approx(before, rel=1e-5)
    assert result.history["validation_loss"][-1] == pytest.approx(loss(), rel=1e-5)
    # With one batch an epoch, an epoch's loss is that of the weights after the epoch before it.
    held = result.history["validation_loss"]
    np.testing.assert_allclose(result.history["loss"][1:], held[:-1], rtol=1e-5)
    assert held[-1] < 0.8 * before


def test_a_network_that_is_not_built_is_built_for_the_data():
    module = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(3))
    fit(module, "softmax_cross_entropy", X.tolist(), CLASSES.tolist(), seed=3, max_epochs=2)
    built = dense()
    fit(built, "softmax_cross_entropy", X, CLASSES, max_epochs=2)
    np.testing.assert_array_equal(flat(module), flat(built))


def test_sparse_samples_train_as_dense_ones():
    few = np.where(X > 0.5, X, 0).astype(np.float32)
    found = []
    for given in (few, scipy.sparse.csr_matrix(few)):
        module = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3))
        result = fit(module, "softmax_cross_entropy", given, CLASSES, seed=1, batch_size=16)
        found.append((flat(module), result.history["loss"]))
    # Zeros add nothing, but the sums of a sparse row skip them: other chains of 40 steps.
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


def test_frozen_bytes_stay():
    module = dense().freeze("0")
    before = {name: one.data.copy() for name, one in module.parameters().items()}
    fit(module, "softmax_cross_entropy", X, CLASSES, optimizer="adamw", alpha=0.1)
    for name, one in module.parameters().items():
        assert np.array_equal(one.data, before[name]) == name.startswith("0."), name


def test_what_was_recorded_before_is_noticed():
    module = dense()
    loss = nn.SoftmaxCrossEntropy()(module(X), CLASSES)
    fit(module, "softmax_cross_entropy", X, CLASSES, max_epochs=1)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


# ------------------------------------------------------------------------------------ held out


def test_early_stopping_ends_with_the_best_epoch():
    given = {"early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.3, "seed": 5}
    module = dense()
    result = fit(module, "softmax_cross_entropy", X, CLASSES, max_epochs=200, **given)
    held = result.history["validation_loss"]
    best = int(np.argmin(held)) + 1
    assert len(held) == result.n_epochs < 200
    assert best < len(held)
    again = dense()
    fit(again, "softmax_cross_entropy", X, CLASSES, max_epochs=best, **given)
    np.testing.assert_array_equal(flat(module), flat(again))


def test_samples_of_ones_own_are_held_out_and_may_stop_training():
    other = (X[:10], CLASSES[:10], WEIGHTS[:10])
    plain, watched, stopped = dense(), dense(), dense()
    fit(plain, "softmax_cross_entropy", X, CLASSES, max_epochs=4)
    result = fit(watched, "softmax_cross_entropy", X, CLASSES, max_epochs=4, validation_data=other)
    np.testing.assert_array_equal(flat(plain), flat(watched))
    plan = compile(watched, "softmax_cross_entropy")
    value = plan.core.loss_gradient(
        flat(watched),
        X[:10],
        CLASSES[:10].astype(np.int32),
        sample_weight=WEIGHTS[:10].astype(np.float32),
    )
    assert result.history["validation_loss"][-1] == pytest.approx(value, rel=1e-6)
    result = fit(
        stopped,
        "softmax_cross_entropy",
        X,
        CLASSES,
        validation_data=(X[:10], 2 - CLASSES[:10]),  # what is learnt makes these worse
        early_stopping=True,
        n_iter_no_change=2,
        max_epochs=100,
        learning_rate_init=0.1,
    )
    assert result.n_epochs < 100


def test_a_plateau_follows_the_losses_so_far():
    plateau = optim.ReduceOnPlateau(0.5, patience=0, factor=0.5, threshold=0.05)
    alone = fit(dense(), "softmax_cross_entropy", X, CLASSES, schedule=plateau, max_epochs=12)
    expected = plateau.rates(alone.history["loss"])[:-1].tolist()
    assert alone.history["learning_rate"] == expected
    assert expected[-1] < 0.5
    held = fit(
        dense(),
        "softmax_cross_entropy",
        X,
        CLASSES,
        schedule=plateau,
        max_epochs=12,
        validation_data=(X[:10], CLASSES[:10]),
    )
    expected = plateau.rates(held.history["validation_loss"])[:-1].tolist()
    assert held.history["learning_rate"] == expected
    assert expected != plateau.rates(held.history["loss"])[:-1].tolist()


# ------------------------------------------------------------------------------------------- errors


def call(*, loss="softmax_cross_entropy", x=X, y=CLASSES, **given):
    return fit(dense(), loss, x, y, **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": None}, ["loss", "found none"]),
        ({"loss": "cross"}, ["loss", "'cross'", "softmax_cross_entropy"]),
        ({"loss": {"out": "huber"}}, ["loss", "'out'"]),
        ({"x": X[:, :3]}, ["X", "3", "4"]),
        ({"x": X[:0], "y": CLASSES[:0]}, ["X", "no samples"]),
        ({"x": np.where(X > 1, np.nan, X)}, ["X", "NaN"]),
        ({"y": CLASSES[:9]}, ["y", "(9,)", "(50,)"]),
        ({"y": CLASSES + 1}, ["y", "found 3"]),
        ({"loss": "squared_error", "y": X[:, 0]}, ["y", "(50,)", "(50, 3)"]),
        # R55: a loss of another task, and the right ones.
        ({"loss": "squared_error"}, ["y: found classes", "(n, 3)", "'softmax_cross_entropy'"]),
        ({"y": X[:, :3]}, ["y: found numbers", "'softmax_cross_entropy'", "'squared_error'"]),
        ({"loss": "squared_error", "y": X[:, :3] * np.inf}, ["y", "NaN"]),
        ({"sample_weight": [1.0, 2.0]}, ["sample_weight", "(2,)"]),
        ({"sample_weight": -WEIGHTS}, ["sample_weight", "negative"]),
        ({"optimizer": "newton"}, ["optimizer", "'newton'", "'adam'"]),
        ({"optimizer_params": {"beta": 1}}, ["optimizer_params", "'beta'", "'beta_1'"]),
        ({"schedule": 0.1}, ["schedule", "0.1", "ReduceOnPlateau"]),
        ({"schedule": optim.ReduceOnPlateau(1.0, mode="max")}, ["schedule", "max", "score"]),
        ({"validation_data": X}, ["validation_data", "ndarray"]),
        ({"validation_data": (X[:0], CLASSES[:0])}, ["validation_data: X", "no samples"]),
        ({"early_stopping": True, "validation_fraction": 0.001}, ["validation_fraction", "0.001"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"learning_rate_init": 0.0}, ["learning_rate_init", "0.0"]),
        ({"alpha": -1.0}, ["alpha", "-1.0"]),
        ({"accumulate": 0}, ["accumulate", "0"]),
        ({"accumulate": 1.5}, ["accumulate", "1.5"]),
        ({"clip_norm": 0.0}, ["clip_norm", "0.0"]),
        ({"clip_norm": np.inf}, ["clip_norm", "inf"]),
        ({"clip_value": -1.0}, ["clip_value", "-1.0"]),
        ({"memory_limit": 0.5}, ["memory_limit", "0.5"]),
        ({"max_epochs": 0}, ["max_epochs", "0"]),
        ({"shuffle": 1}, ["shuffle", "1"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"n_threads": 0}, ["n_threads", "0"]),
        ({"history": "batch"}, ["history", "'batch'"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_named(given, words):
    with pytest.raises((ValueError, TypeError)) as raised:
        call(**given)
    for word in words:
        assert word in str(raised.value)


def test_what_is_no_network_or_not_the_same():
    with pytest.raises(TypeError, match="module: found str"):
        fit("network", "huber", X, X)
    result = fit(dense(), "softmax_cross_entropy", X, CLASSES, max_epochs=1)
    wider = nn.Sequential(nn.Linear(9), nn.Linear(3)).build(4)
    with pytest.raises(ValueError, match="resume: found the training of 67 parameters"):
        fit(wider, "softmax_cross_entropy", X, CLASSES, resume=result)
    with pytest.raises(ValueError, match=r"X: found ndarray, wanted a dict"):
        fit(two_heads(), LOSSES, X, ANSWERS)


def test_one_thread_at_a_time():
    module, entered, leave = dense(), threading.Event(), threading.Event()

    def hold():
        with locking.exclusively(module._home, "network"):
            entered.set()
            leave.wait(30)

    worker = threading.Thread(target=hold)
    worker.start()
    entered.wait(30)
    before = flat(module)
    with pytest.raises(RuntimeError, match="Sequential network is being trained"):
        fit(module, "softmax_cross_entropy", X, CLASSES)
    leave.set()
    worker.join()
    np.testing.assert_array_equal(flat(module), before)
    fit(module, "softmax_cross_entropy", X, CLASSES)
    assert not np.array_equal(flat(module), before)


def test_a_loss_that_is_not_finite_leaves_the_last_whole_epoch():
    wild = {"optimizer": "sgd", "batch_size": N, "learning_rate_init": 1e30}
    module, stepped = (nn.Sequential(nn.Linear(1)).build(4, seed=2) for _ in range(2))
    y = X[:, :1]
    with pytest.raises(NonFiniteError) as raised:
        fit(module, "squared_error", X, y, max_epochs=5, **wild)
    fit(stepped, "squared_error", X, y, max_epochs=raised.value.epoch, **wild)
    np.testing.assert_array_equal(flat(module), flat(stepped))
