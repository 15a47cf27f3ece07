"""Gradients of whole networks: against finite differences, against NumPy, and against each other.

The rows that networks are made of are tested by themselves in test_rows.py, forward mode and
Hessian products in test_tangents.py, the same bits in test_same_bits.py, training in
test_engine.py.
"""

import numpy as np
import pytest
import reference
from helpers import (
    check,
    gradient,
    over,
    over_activations,
    over_dtypes,
    over_inputs,
    over_losses,
    over_weighting,
    sample_weights,
)

from fastbp import _core
from fastbp.testing import cases, network

# ------------------------------------------------------------------------------- finite differences


@over_inputs
@over_losses
@over_activations
def test_every_activation_with_every_loss(activation, loss, sparse):
    """Two hidden layers, with penalty and sample weights."""
    net = network((4, 6, 5, 3), activation.spec, loss.spec, sparse=sparse)
    report = check(net, alpha=0.3, sample_weight=sample_weights(net))
    assert report.ok, str(report)


@over_weighting
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 3.0])
@over_inputs
@over_losses
def test_every_loss_with_every_penalty_and_weight(loss, sparse, alpha, weighted):
    """A linear model: the deltas are the gradients of the loss themselves."""
    net = network((5, 4), loss=loss.spec, sparse=sparse)
    report = check(net, alpha=alpha, sample_weight=sample_weights(net) if weighted else None)
    assert report.ok, str(report)


@over(cases("activation"))
def test_every_attribute_of_an_activation(case):
    report = check(network((4, 6, 5, 3), case.spec))
    assert report.ok, str(report)


@over(cases("loss"))
def test_every_attribute_of_a_loss(case):
    report = check(network((4, 6, 5, 3), loss=case.spec))
    assert report.ok, str(report)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 10, 20])
@pytest.mark.parametrize("name", ["tanh", "relu", "silu"])
def test_any_depth(name, depth):
    report = check(network((4, *[5] * depth, 3), (name, {})))
    assert report.ok, str(report)


@over_activations
def test_fifty_layers(activation):
    """R4: every element of every tensor through a chain of 50 layers, to 1e-6."""
    net = network((4, *[4] * 49, 3), activation.spec, n_samples=6)
    assert len(net.plan.layers) == 50
    report = check(net)
    assert sum(tensor.n_checked for tensor in report.tensors) == net.plan.n_params
    assert report.ok and report.worst.error < 1e-6, str(report)


def test_a_large_network_is_checked_by_a_sample():
    report = check(network((64, 100, 10), ("relu", {}), ("softmax_cross_entropy", {})))
    assert report.directions is not None
    assert report.ok, str(report)


@pytest.mark.exhaustive
@pytest.mark.parametrize("depth", [1, 2, 5])
@over_inputs
@over_weighting
@pytest.mark.parametrize("alpha", [0.0, 0.3])
@over(cases("loss"), "loss")
@over(cases("activation"), "activation")
def test_everything_with_everything(activation, loss, alpha, weighted, sparse, depth):
    net = network((4, *[6, 5, 4, 5, 6][:depth], 3), activation.spec, loss.spec, sparse=sparse)
    weights = sample_weights(net) if weighted else None
    report = check(net, alpha=alpha, sample_weight=weights)
    assert report.ok, str(report)


@pytest.mark.exhaustive
@pytest.mark.parametrize("depth", range(1, 51))
@over(cases("activation"), "activation")
def test_every_activation_at_every_depth(activation, depth):
    report = check(network((4, *[4] * (depth - 1), 3), activation.spec, n_samples=6))
    assert report.ok, str(report)


# -------------------------------------------------------------------------------- the NumPy witness


def assert_near_the_witness(net, **options):
    """Loss and gradient as those of reference.MLP at the same parameters.

    Each layer rounds its products and its activation, forward and backward: about sqrt(n_in) eps of
    the largest magnitude in the tensor for each of the 2 L + 1 stages. Ten times that is allowed.
    """
    loss, grad = gradient(net, **options)
    witness = reference.MLP(*net.arguments)
    exact = {key: np.asarray(value, np.float64) for key, value in options.items()}
    expected_loss, expected = witness.loss_gradient(
        net.params.astype(np.float64), net.X, net.y, **exact
    )
    widest = max(layer["n_in"] for layer in net.plan.layers)
    stages = 2 * len(net.plan.layers) + 1
    limit = 10 * stages * np.sqrt(widest) * np.finfo(net.plan.dtype).eps
    assert abs(loss - expected_loss) <= limit * max(1.0, abs(expected_loss))
    for tensor in net.plan.tensors:
        part = slice(tensor["offset"], tensor["offset"] + int(np.prod(tensor["shape"])))
        error = np.abs(grad[part] - expected[part]).max()
        assert error <= limit * np.abs(expected[part]).max(), tensor["name"]


@over_dtypes
@over_inputs
@over_losses
@over_activations
def test_agrees_with_numpy(activation, loss, sparse, dtype):
    net = network((4, 6, 5, 3), activation.spec, loss.spec, dtype=dtype, sparse=sparse)
    assert_near_the_witness(net, alpha=0.3, sample_weight=sample_weights(net))


WIDTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130]


@over_dtypes
@pytest.mark.parametrize("n_in", WIDTHS)
def test_any_width_and_number_of_samples(n_in, dtype):
    """R16 and R20: every remainder of a vector and of a tile, on each of the three sides."""
    for n_out, n_samples in zip(WIDTHS, WIDTHS[3:] + WIDTHS[:3], strict=True):
        net = network((n_in, n_out, 3), dtype=dtype, n_samples=n_samples)
        assert_near_the_witness(net)


@over_dtypes
@over_inputs
@pytest.mark.parametrize("n_samples", [1, 1023, 1024, 1025, 2100])
def test_any_number_of_blocks_of_samples(n_samples, sparse, dtype):
    net = network((6, 9, 4), loss=("softmax_cross_entropy", {}), n_samples=n_samples, sparse=sparse)
    assert_near_the_witness(net, sample_weight=np.linspace(0.5, 2, n_samples))


@over_dtypes
def test_layers_wide_enough_for_blas(dtype, leave_more_to_blas):
    net = network((1030, 1100, 1025, 3), dtype=dtype, n_samples=40)
    assert any(layer["products"] == "blas" for layer in net.plan.layers)
    assert_near_the_witness(net)


@over_dtypes
@pytest.mark.parametrize("n_samples", [40, 600])
def test_layers_whose_weights_are_read_in_parts(n_samples, dtype):
    """Both products by the weights, of more samples than a tile has rows, and of fewer."""
    net = network((1600, 700, 1510, 3), dtype=dtype, n_samples=n_samples)
    assert [layer["products"] for layer in net.plan.layers] == ["in parts", "in parts", "packed"]
    assert_near_the_witness(net)


@over_dtypes
def test_csr_and_dense_samples_agree(dtype):
    net = network((20, 8, 3), dtype=dtype, sparse=True, n_samples=70)
    dense = _core.Plan(*net.arguments, dtype=dtype)
    loss, grad = gradient(net)
    other = np.empty_like(grad)
    X = np.ascontiguousarray(net.X.toarray())
    # Products with zero are exact, so the sums are the same but for their grouping: 20 eps.
    limit = 20 * float(np.finfo(dtype).eps)
    assert dense.loss_gradient(net.params, X, net.y, grad=other) == pytest.approx(loss, rel=limit)
    np.testing.assert_allclose(other, grad, rtol=0, atol=limit * np.abs(grad).max())


# -------------------------------------------------------------------- what the loss says of weights


@over_losses
def test_a_sample_of_weight_zero_is_absent(loss):
    net = network(loss=loss.spec)
    weights = np.ones(len(net.y))
    weights[[0, 5]] = 0
    value, grad = gradient(net, sample_weight=weights)
    keep = weights > 0
    few = np.empty_like(grad)
    alone = net.plan.loss_gradient(net.params, net.X[keep], net.y[keep], grad=few)
    # The same terms in the same order; only zeros lie between them.
    np.testing.assert_allclose(value, alone, rtol=1e-14)
    np.testing.assert_allclose(grad, few, rtol=1e-12, atol=1e-15)


@over_losses
def test_a_whole_weight_is_that_many_copies(loss):
    net = network(loss=loss.spec)
    copies = np.arange(1, len(net.y) + 1)
    value, grad = gradient(net, sample_weight=copies.astype(float), alpha=0.2)
    many = np.empty_like(grad)
    X, y = np.repeat(net.X, copies, axis=0), np.repeat(net.y, copies, axis=0)
    repeated = net.plan.loss_gradient(net.params, X, y, grad=many, alpha=0.2)
    # 78 terms of size 1 against 12: 78 eps, relative to terms that partly cancel in the gradient.
    np.testing.assert_allclose(value, repeated, rtol=1e-13)
    np.testing.assert_allclose(grad, many, rtol=0, atol=1e-13 * np.abs(grad).max())


def test_the_penalty_is_half_alpha_times_the_squares_of_weights_over_the_samples(rng):
    """scikit-learn's scaling: divided by the sum of sample weights; biases go free."""
    net = network()
    weights = rng.uniform(1, 2, len(net.y))
    squares = sum(np.sum(w**2) for w, _ in reference.MLP(*net.arguments).unpack(net.params))
    for options, total in (({}, len(net.y)), ({"sample_weight": weights}, weights.sum())):
        plain, g0 = gradient(net, **options)
        penalised, g1 = gradient(net, alpha=0.7, **options)
        assert penalised - plain == pytest.approx(0.35 * squares / total, rel=1e-12)
        for tensor in net.plan.tensors:
            part = slice(tensor["offset"], tensor["offset"] + int(np.prod(tensor["shape"])))
            if tensor["name"].endswith("bias"):
                np.testing.assert_array_equal(g0[part], g1[part])
            else:
                extra = 0.7 * net.params[part] / total
                np.testing.assert_allclose(g1[part] - g0[part], extra, rtol=0, atol=1e-15)


def test_the_gradient_buffer_need_not_be_zeroed():
    """R120: whatever the buffer held is gone, and without it the loss is the same."""
    net = network()
    first = gradient(net)
    assert np.isfinite(first[1]).all()
    grad = first[1] * 1e30
    loss = net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    np.testing.assert_array_equal(grad, first[1])
    assert loss == first[0] == net.plan.loss_gradient(net.params, net.X, net.y)


@over_dtypes
@over_losses
@over_activations
def test_against_the_gradient_the_loss_falls(activation, loss, dtype):
    """R2: a small step along -g lowers the loss, by rate |g|^2 to first order."""
    for seed in range(3):
        net = network((4, 6, 5, 3), activation.spec, loss.spec, dtype=dtype, seed=seed)
        before, g = gradient(net)
        # 1 % of the loss: far above its rounding, and small enough for the bend not to matter.
        rate = 0.01 * before / np.dot(g, g)
        after, _ = gradient(net, net.params - dtype(rate) * g)
        assert before * 0.98 < after < before * 0.9999


# ------------------------------------------------------------------------------- what inspect tells


@over_dtypes
@over_inputs
@over_losses
def test_inspect_lays_open_what_backward_uses(loss, sparse, dtype):
    """R8: a layer's delta is the next delta times the weights times the activation's slope."""
    net = network(loss=loss.spec, dtype=dtype, sparse=sparse)
    weights = sample_weights(net)
    layers = net.plan.inspect(net.params, net.X, net.y, sample_weight=weights)
    _, grad = gradient(net, sample_weight=weights)
    witness = reference.MLP(*net.arguments)
    tensors = [(w.astype(float), b.astype(float)) for w, b in witness.unpack(net.params)]
    gradients = witness.unpack(grad)
    _, deltas, trace = witness.deltas(net.params.astype(float), net.X, net.y, weights)
    a = reference.dense(net.X)
    limit = 100 * np.finfo(dtype).eps  # sums of at most 12 terms, of size up to about 5
    for i, layer in enumerate(layers):
        np.testing.assert_allclose(layer["z"], a @ tensors[i][0] + tensors[i][1], atol=limit)
        np.testing.assert_allclose(layer["delta"], deltas[i], atol=limit)
        np.testing.assert_allclose(gradients[i][0], a.T @ layer["delta"], atol=limit)
        np.testing.assert_allclose(gradients[i][1], layer["delta"].sum(axis=0), atol=limit)
        if i + 1 < len(layers):
            slope = reference.ACTIVATIONS["tanh"].first(trace[i][0])
            upstream = layers[i + 1]["delta"].astype(float) @ tensors[i + 1][0].T
            np.testing.assert_allclose(layer["delta"], upstream * slope, atol=limit)
            np.testing.assert_allclose(layer["a"], np.tanh(trace[i][0]), atol=limit)
        a = layer["a"].astype(float)
    # The last layer's a is the prediction.
    np.testing.assert_array_equal(layers[-1]["a"], net.plan.predict(net.params, net.X))


@over_dtypes
@over_activations
def test_an_activation_has_the_same_bits_fused_and_alone(activation, dtype):
    """For every width, so that an element comes to every place of a vector and of a tile."""
    for width in (1, 3, 8, 15, 16, 17, 40, 70):
        net = network((3, width, 2), activation.spec, dtype=dtype, n_samples=67)
        hidden = net.plan.inspect(net.params, net.X, net.y)[0]
        alone = _core.activation(activation.name, hidden["z"], activation.attrs)
        np.testing.assert_array_equal(hidden["a"], alone)
        delta = hidden["delta"]
        slope = _core.activation(activation.name, hidden["z"], activation.attrs, order=1)
        assert np.all(delta[slope == 0] == 0)
