"""The gradient check as it is called: its report, estimators and plans, misuse.

What it finds is the subject of test_gradcheck.py.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import check, over_dtypes, over_inputs, short_training

from fastbp import MLPClassifier, check_gradients
from fastbp.testing import network

pytestmark = short_training

SIZES = (4, 5, 5, 3)


def test_the_report_prints_one_tidy_table():
    lines = str(check(network(SIZES))).splitlines()
    assert lines[0] == "Gradient check of all 73 parameters"
    assert lines[1].split() == [
        *("tensor", "shape", "checked", "undecided", "worst", "error", "at"),
        *("backprop", "difference"),
    ]
    assert set(lines[2]) == {"-"}
    assert [line.split()[0] for line in lines[3:-1]] == [
        f"layer{i}.{kind}" for i in range(3) for kind in ("weight", "bias")
    ]
    assert lines[-1].startswith("ok: worst error ")
    # Columns stand under each other: the numbers of the last column end together.
    assert len({len(line) for line in lines[2:-1]}) == 1
    assert max(map(len, lines)) <= 120


def test_the_point_is_left_as_it_was():
    net = network(SIZES)
    before = net.params.copy(), net.X.copy(), net.y.copy()
    check(net)
    for a, b in zip(before, (net.params, net.X, net.y), strict=True):
        np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------------------- fitted estimators


class Estimator:
    """What check_gradients asks of an estimator."""

    def __init__(self, net):
        self.net = net

    def _gradient_problem(self, X, y, sample_weight):
        return self.net.plan, self.net.params, X, y, sample_weight, 0.3


def test_an_estimator_gives_its_own_problem(rng):
    net = network(SIZES)
    weights = rng.uniform(0.5, 1.0, len(net.X))
    report = check_gradients(Estimator(net), net.X, net.y, sample_weight=weights)
    assert report == check(net, sample_weight=weights, alpha=0.3)


def test_options_of_a_plan_are_refused_for_an_estimator():
    net = network(SIZES)
    for options in ({"params": net.params}, {"alpha": 0.1}):
        with pytest.raises(TypeError, match=r"params and alpha come from the Estimator"):
            check_gradients(Estimator(net), net.X, net.y, **options)


def labelled(sparse=False, dtype=np.float64, **options):
    """A classifier of named classes, and what it was fitted to."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 5)).astype(dtype)
    y = np.array(["no", "yes", "perhaps"])[rng.integers(0, 3, 30)]
    if sparse:
        X = sp.csr_matrix(X * (rng.random(X.shape) < 0.5))
    model = MLPClassifier((6, 4), max_iter=3, random_state=0, **options)
    return model.fit(X, y), X, y


@over_dtypes
@over_inputs
def test_a_fitted_classifier_with_labels_of_its_own(sparse, dtype):
    """Labels are encoded as in fit; a float32 model is checked in float64."""
    model, X, y = labelled(sparse, dtype, alpha=0.1)
    weights = np.linspace(0.5, 2, 30)
    for sample_weight in (None, weights):
        report = check_gradients(model, X, y, sample_weight=sample_weight)
        assert report.ok, str(report)
        assert report.n_params == sum(a.size for a in (*model.coefs_, *model.intercepts_))


def test_the_check_leaves_a_model_as_it_was():
    model, X, y = labelled()
    before = [a.copy() for a in (*model.coefs_, *model.intercepts_)]
    check_gradients(model, X, y)
    for a, b in zip(before, (*model.coefs_, *model.intercepts_), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_that_the_model_never_saw_are_refused():
    model, X, y = labelled()
    with pytest.raises(ValueError, match="never"):
        check_gradients(model, X, np.where(y == "no", "never", y))


# ------------------------------------------------------------------------------------------- misuse


def test_misuse_is_named():
    net = network(SIZES)
    with pytest.raises(TypeError, match=r"estimator_or_plan is a dict, wanted"):
        check_gradients({}, net.X, net.y)
    with pytest.raises(TypeError, match="params is missing"):
        check_gradients(net.plan, net.X, net.y)
    with pytest.raises(ValueError, match=r"params has shape \(3,\), wanted \(73,\)"):
        check_gradients(net.plan, net.X, net.y, params=np.zeros(3))
    with pytest.raises(ValueError, match="tolerance is 0"):
        check(net, tolerance=0)
    single = network(SIZES, dtype=np.float32)
    with pytest.raises(ValueError, match="the plan is float32, wanted float64"):
        check(single)


def test_an_infinite_loss_is_refused():
    net = network(SIZES)
    net.params[:] = 1e200
    with pytest.raises(ValueError, match="the loss at this point is"):
        check(net)
