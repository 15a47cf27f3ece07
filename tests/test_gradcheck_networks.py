"""The gradient check of estimators of any network: labels, masks, penalty, forms of samples."""

import numpy as np
import pytest
import scipy.sparse
from helpers import IRIS, flat, over_dtypes, short_training, small, small_network

from fastbp import NetworkClassifier, NetworkRegressor, check_gradients, nn, ops
from fastbp.nn import checked

pytestmark = short_training

X, Y = IRIS[0][::5], np.array(["a", "b", "c"])[IRIS[1]][::5]
WEIGHTS = np.linspace(0.5, 2, len(Y))


@over_dtypes
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_a_fitted_classifier_with_labels_of_its_own(form, dtype):
    model = small(max_epochs=3, alpha=0.1).fit(X.astype(dtype), Y)
    before = flat(model).copy()
    for weight in (None, WEIGHTS):
        report = check_gradients(model, form(X.astype(dtype)), Y, sample_weight=weight)
        assert report.ok, str(report)
        assert [one.name for one in report.tensors] == [*model.module_.parameters()]
        assert report.n_params == model.n_params_
    np.testing.assert_array_equal(flat(model), before)
    assert flat(model).dtype == dtype
    # Not every class has to occur, and none that was not there in training may.
    assert check_gradients(model, X[Y != "b"], Y[Y != "b"]).ok
    with pytest.raises(ValueError, match="never"):
        check_gradients(model, X, np.where(Y == "a", "never", Y))
    with pytest.raises(ValueError, match="3 features"):
        check_gradients(model, X[:, :3], Y)
    with pytest.raises(TypeError, match="params and alpha come from the NetworkClassifier"):
        check_gradients(model, X, Y, alpha=0.1)


@pytest.mark.parametrize("given", [None, small_network().build(4, seed=3)], ids=["none", "built"])
def test_an_estimator_that_is_not_fitted_is_checked_where_it_would_start(given):
    model = NetworkClassifier(given, random_state=0)
    report = check_gradients(model, X, Y)
    assert report.ok, str(report)
    assert not hasattr(model, "module_") and model.network is given
    problem = model._gradient_problem(X, Y)
    names = [one["name"] for one in problem[0].tensors]
    if given is not None:
        np.testing.assert_array_equal(problem[1], given._home.flat)
        assert names == [*given.parameters()]
    with pytest.raises(ValueError, match="alpha"):
        check_gradients(NetworkClassifier(given, alpha=-1.0), X, Y)


def test_what_is_frozen_is_left_out():
    model = small(max_epochs=2).fit(X, Y)
    model.module_.freeze("0")
    report = check_gradients(model, X, Y)
    assert report.ok and [one.name for one in report.tensors] == ["3.weight", "3.bias"]


class Padded(nn.Module):
    """The positions that count, summed, beside rows of a table."""

    def forward(self, x, mask):
        kept = x * mask.reshape(-1, mask.shape[1], 1)
        return ops.tanh(kept @ self.parameter("w", (2, 3), "he_normal")).sum(axis=1)


class Named(nn.Module):
    def forward(self, words, numbers):
        table = self.parameter("table", (5, 2), "he_normal")
        found = ops.embedding(words, table).sum(axis=1)
        return found * self.parameter("gain", (2,), 1.0) + numbers


def test_masks_dicts_and_several_targets():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((20, 6, 2))
    series[rng.random((20, 6)) < 0.3] = -9.0
    y = rng.standard_normal((20, 3))
    padded = NetworkRegressor(Padded(), mask_value=-9.0, max_epochs=2, loss="huber").fit(series, y)
    assert check_gradients(padded, series, y).ok
    given = {"words": rng.integers(0, 5, (20, 3)), "numbers": rng.standard_normal((20, 2))}
    named = NetworkRegressor(Named(), max_epochs=2, random_state=0).fit(given, y[:, :2])
    report = check_gradients(named, given, y[:, :2], sample_weight=np.arange(20.0))
    assert report.ok, str(report)
    assert {one.name for one in report.tensors} == {"table", "gain"}


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_loss_is_that_of_the_first_step_of_training(optimizer):
    """With its masks, and the penalty, which rules with a decay of their own do not have."""
    given = {"alpha": 0.7, "optimizer": optimizer, "batch_size": len(Y), "shuffle": False}
    model = small(max_epochs=1, history="step", **given)
    plan, params, *data, alpha, _ = model._gradient_problem(X, Y, WEIGHTS)
    loss = plan.loss_gradient(params, data[0], data[1], sample_weight=data[2], alpha=alpha)
    assert model.fit(X, Y, WEIGHTS).history_["step_loss"] == [pytest.approx(loss, rel=1e-14)]


@pytest.mark.parametrize("name", ["0.weight", "3.bias"])
def test_a_planted_mistake_is_caught_and_named(monkeypatch, name):
    right = checked.Training.loss_gradient

    def wrong(self, params, X, y, *, grad=None, **options):
        loss = right(self, params, X, y, grad=grad, **options)
        if grad is not None:
            (one,) = (one for one in self.tensors if one["name"] == name)
            grad[one["offset"]] += 1e-5
        return loss

    model = small(max_epochs=2).fit(X, Y)
    monkeypatch.setattr(checked.Training, "loss_gradient", wrong)
    assert [one.name for one in check_gradients(model, X, Y).failures] == [name]
