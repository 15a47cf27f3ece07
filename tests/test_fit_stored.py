"""Networks in training, and results of `fastbp.fit`, that were stored: pickled, copied, mapped."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from helpers import same_history, short_training

from fastbp import fit, nn, optim
from fastbp.nn.rows import rows

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 4)).astype(np.float32)
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
LOSS = "softmax_cross_entropy"


def network(dtype=np.float32):
    layers = nn.Linear(8), nn.BatchNorm1d(), nn.Tanh(), nn.Dropout(0.2), nn.Linear(3)
    return nn.Sequential(*layers).build(4, seed=3, dtype=dtype)


def weights(module):
    return {name: one.data for name, one in module.parameters().items()}


# Every rule that keeps vectors; of the rest one for each thing that is carried on.
CASES = {
    **{rule: {"optimizer": rule} for rule, row in rows("rule").items() if row["n_states"]},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16", "optimizer": "sgd"},
    # One sample is nearly all of its batch: a confident mistake is a gradient of 2**16 there.
    "an overflow": {
        "precision": "fp16",
        "sample_weight": np.r_[1e6, np.ones(49)],
        "learning_rate_init": 3.0,
    },
    "schedule": {"schedule": optim.InverseScaling(0.1)},
    "plateau": {"schedule": optim.ReduceOnPlateau(0.3, patience=0, factor=0.5)},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 50},
    "steps": {"history": "step", "clip_norm": 0.1},
}

# Another process: three epochs more of what it gets, and what came of them.
GO_ON = """
import pickle, sys
from fastbp import fit
cases = pickle.load(open(sys.argv[1], "rb"))
for module, result, arguments, given in cases.values():
    again = fit(module, *arguments, max_epochs=3, resume=result, **given)
    given.clear()
    given["result"] = again
pickle.dump(cases, open(sys.argv[1], "wb"))
"""


def case(name):
    """The data of a case, and what `fit` is given besides."""
    dtype = np.float64 if name == "momentum" else np.float32
    return (LOSS, X.astype(dtype), CLASSES), {"batch_size": 16, **CASES[name]}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Of each case, the network and the result after 3 epochs here and 3 in another process."""
    stored = {}
    for name in CASES:
        arguments, given = case(name)
        module = network(arguments[1].dtype)
        result = fit(module, *arguments, max_epochs=3, **given)
        stored[name] = module, result, arguments, given
    path = tmp_path_factory.mktemp("stored") / "cases"
    path.write_bytes(pickle.dumps(stored))
    subprocess.run([sys.executable, "-c", GO_ON, path], check=True, timeout=120)
    return pickle.loads(path.read_bytes())


@pytest.mark.parametrize("name", CASES)
def test_three_epochs_and_three_more_in_another_process_are_six(name, elsewhere):
    arguments, given = case(name)
    whole = network(arguments[1].dtype)
    once = fit(whole, *arguments, max_epochs=6, **given)
    module, first, _, left = elsewhere[name]
    again = left["result"]
    for parameter, values in weights(whole).items():
        np.testing.assert_array_equal(weights(module)[parameter], values)
    assert same_history(again.history, once.history)
    assert (first.n_epochs, again.n_epochs, again.n_steps) == (3, 6, once.n_steps)
    assert (again.skipped_steps, again.loss_scale) == (once.skipped_steps, once.loss_scale)
    assert (once.skipped_steps > 0) == (name == "an overflow")


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_goes_on_and_says_that_it_has_no_plan(copied):
    module, arguments = network(), (LOSS, X, CLASSES)
    result = fit(module, *arguments, max_epochs=2)
    twin = copied(result)
    assert repr(twin) == repr(result)
    assert result.plan.title == "Sequential"
    assert not hasattr(twin, "plan")
    with pytest.raises(AttributeError, match=r"'plan': .*; compile\(module, loss\) makes one"):
        _ = twin.plan
    modules = module, copy.deepcopy(module)
    for one, before in zip(modules, (result, twin), strict=True):
        fit(one, *arguments, max_epochs=2, resume=before)
    for name, values in weights(module).items():
        np.testing.assert_array_equal(weights(modules[1])[name], values)


def test_a_result_of_lbfgs_is_stored_too():
    result = fit(nn.Linear(3).build(4), LOSS, X, CLASSES, optimizer="lbfgs", max_epochs=60)
    assert same_history(pickle.loads(pickle.dumps(result)).history, result.history)


@short_training
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_network_that_is_mapped_into_memory_is_copied_before_it_is_trained(optimizer, tmp_path):
    plain = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3)).build(4, seed=3)
    joblib.dump(plain, tmp_path / "network")
    stored = (tmp_path / "network").read_bytes()
    mapped = joblib.load(tmp_path / "network", mmap_mode="r")
    assert not weights(mapped)["0.weight"].flags.writeable
    for module in (plain, mapped):
        fit(module, LOSS, X, CLASSES, optimizer=optimizer, max_epochs=3)
    for name, values in weights(plain).items():
        np.testing.assert_array_equal(weights(mapped)[name], values)
    np.testing.assert_array_equal(mapped(X).data, plain(X).data)
    assert (tmp_path / "network").read_bytes() == stored


def test_a_result_that_is_mapped_into_memory_goes_on(tmp_path):
    module = network()
    result = fit(module, LOSS, X, CLASSES, max_epochs=3)
    joblib.dump((module, result), tmp_path / "both")
    mapped = joblib.load(tmp_path / "both", mmap_mode="r")
    for one, before in ((module, result), mapped):
        fit(one, LOSS, X, CLASSES, max_epochs=3, resume=before)
    for name, values in weights(module).items():
        np.testing.assert_array_equal(weights(mapped[0])[name], values)
