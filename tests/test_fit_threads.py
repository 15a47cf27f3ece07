"""A network that is in training is not built, reset, changed or trained by anybody else."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import same_history, short_training
from sklearn.base import clone

from fastbp import Function, NetworkRegressor, compile, fit, nn
from fastbp.nn import locking

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype(np.float32)
Y = RNG.standard_normal((20, 2)).astype(np.float32)


class Watched(Function, check=False):
    """The identity, whose backward, which only training runs, calls `met`."""

    met = staticmethod(lambda: None)

    @staticmethod
    def forward(ctx, x):
        return x.copy()

    @staticmethod
    def backward(ctx, dy):
        Watched.met()
        return dy


@contextmanager
def met(what):
    Watched.met = staticmethod(what)
    try:
        yield
    finally:
        Watched.met = staticmethod(lambda: None)


def unbuilt():
    return nn.Sequential(nn.Linear(5), nn.Lambda(Watched.apply), nn.Linear(2))


def network():
    return unbuilt().build(4, seed=1)


def flat(module):
    return np.concatenate([one.data.ravel() for one in module.parameters().values()])


@contextmanager
def in_training(train):
    """Within it another thread is in the middle of what it trains, by way of `Watched`."""
    entered, leave, errors = threading.Event(), threading.Event(), []

    def wait():
        if threading.current_thread() is worker:
            entered.set()
            leave.wait(30)

    def work():
        try:
            train()
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    with met(wait):
        worker.start()
        try:
            assert entered.wait(30)
            yield
        finally:
            leave.set()
            worker.join()
    assert errors == []


CHANGES = {
    "build": lambda module: module.build(4, seed=2),
    "reset": lambda module: module.reset(),
    "set_params": lambda module: module.set_params(**{"0__out_features": 6}),
    "a layer": lambda module: module.set_params(**{"2": nn.Linear(2)}),
    "a part": lambda module: module[0].set_params(out_features=6),
    "a part's build": lambda module: module[0].build(4),
    "a part's reset": lambda module: module[2].reset(),
    "into another": lambda module: nn.Sequential(module[0], nn.Linear(3)).build(4),
    "fit": lambda module: fit(module, "squared_error", X, Y),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_another_thread_trains_is_left_alone(change):
    undisturbed, module = network(), network()
    once = fit(undisturbed, "squared_error", X, Y, max_epochs=3)
    results = []
    with in_training(
        lambda: results.append(fit(module, "squared_error", X, Y, max_epochs=3, batch_size=20))
    ):
        with pytest.raises(RuntimeError, match=r"(Sequential|Linear).*being trained by another"):
            CHANGES[change](module)
        CHANGES[change](clone(module))  # a copy may be
    np.testing.assert_array_equal(flat(module), flat(undisturbed))
    assert same_history(results[0].history, once.history)
    CHANGES[change](module)
    assert not locking._held


def test_names_of_what_is_in_training():
    module = network()
    with locking.exclusively(module._home, "network"):
        for words, change in {
            "This Sequential's network is being trained by this thread": CHANGES["reset"],
            "This Linear's network is": CHANGES["a part"],
            "This Sequential's part '0' is": CHANGES["into another"],
        }.items():
            with pytest.raises(RuntimeError, match=words):
                change(module)


def test_a_function_does_not_reset_the_network_that_it_is_in():
    module = network()
    before = flat(module)
    with (
        met(module.reset),
        pytest.raises(RuntimeError, match="Sequential's network is being trained by this thread"),
    ):
        fit(module, "squared_error", X, Y)
    np.testing.assert_array_equal(flat(module), before)


def test_a_network_that_is_being_built_is_not_trained(monkeypatch):
    module = network()
    holding = threading.Thread(
        target=lambda: locking._held.__setitem__(id(module._home), locking._Hold("built"))
    )
    holding.start()
    holding.join()
    with pytest.raises(RuntimeError, match="Sequential network is being built by another thread"):
        fit(module, "squared_error", X, Y)
    locking._held.clear()

    def compile_late(*args, **given):
        plan = compile(*args, **given)
        module.build(4)
        return plan

    monkeypatch.setitem(fit.__globals__, "compile", compile_late)
    before = flat(module)
    with pytest.raises(RuntimeError, match="Sequential network was built again"):
        fit(module, "squared_error", X, Y)
    np.testing.assert_array_equal(flat(module), before)
    assert not locking._held


@short_training
def test_the_module_of_an_estimator_that_is_in_training_is_left_alone():
    def model():
        return NetworkRegressor(unbuilt(), max_epochs=2, warm_start=True, random_state=0)

    undisturbed, disturbed = model().fit(X, Y).fit(X, Y), model().fit(X, Y)
    module = disturbed.module_
    with in_training(lambda: disturbed.fit(X, Y)):
        for change in CHANGES.values():
            with pytest.raises(RuntimeError, match="being trained by another thread"):
                change(module)
    np.testing.assert_array_equal(flat(disturbed.module_), flat(undisturbed.module_))
