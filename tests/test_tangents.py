"""Forward mode and Hessian products of whole networks: against finite differences, and each other.

Gradients, which they are compared with, are right by test_gradients.py.
"""

import numpy as np
import pytest
from helpers import (
    central_difference,
    gradient,
    over_activations,
    over_dtypes,
    over_inputs,
    over_losses,
    over_weighting,
    sample_weights,
)

from fastbp.testing import network

# Short enough to cross no kink in the networks below. Rounding is then 2e-16 / 1e-6 for values of
# size 1, and a network's is a few times that; truncation is 1e-12 of the third derivative.
STEP, ERROR = 1e-6, 4e-9


@over_inputs
@over_activations
def test_tangent_against_finite_differences(activation, sparse, rng):
    """Forward mode, by parameters and by inputs."""
    net = network((4, 6, 5, 3), activation.spec, sparse=sparse)
    dparams = rng.standard_normal(net.plan.n_params)
    dparams /= np.linalg.norm(dparams)
    dz = net.plan.tangent(net.params, net.X, dparams)
    numeric = central_difference(
        lambda params: net.plan.predict(params, net.X, raw=True), net.params, dparams, STEP
    )
    np.testing.assert_allclose(dz, numeric, rtol=0, atol=ERROR)
    if not sparse:
        dX = rng.standard_normal(net.X.shape) / np.sqrt(net.X.shape[1])
        both = net.plan.tangent(net.params, net.X, dparams, dX=dX)
        numeric = central_difference(
            lambda t: net.plan.predict(net.params + t * dparams, net.X + t * dX, raw=True),
            0.0,
            1.0,
            STEP,
        )
        np.testing.assert_allclose(both, numeric, rtol=0, atol=ERROR)


@over_dtypes
@over_inputs
@over_activations
def test_forward_and_reverse_mode_are_transposes(activation, sparse, dtype, rng):
    """v . (J u) = (J^T v) . u for any u and v.

    Half a squared error with targets z - v has the gradient J^T v / n, so it gives the product of
    reverse mode.
    """
    net = network((4, 6, 5, 3), activation.spec, dtype=dtype, sparse=sparse)
    z = net.plan.predict(net.params, net.X, raw=True)
    u = rng.standard_normal(net.plan.n_params).astype(dtype)
    v = rng.standard_normal(z.shape).astype(dtype)
    grad = np.empty_like(net.params)
    net.plan.loss_gradient(net.params, net.X, z - v, grad=grad)
    reverse = np.dot(grad.astype(float), u) * len(z)
    forward = np.sum(net.plan.tangent(net.params, net.X, u).astype(float) * v)
    # Sums of 36 products of size about 10, of which z - v loses an eps of |z|.
    assert forward == pytest.approx(reverse, abs=36 * 10 * 8 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("sizes", "n_samples"), [((4, 6, 3), 2100), ((1030, 1025, 3), 30)], ids=["many", "wide"]
)
def test_tangents_of_many_samples_and_of_wide_layers(sizes, n_samples, rng):
    """The identities above, where samples come in blocks and where training runs on BLAS."""
    net = network(sizes, n_samples=n_samples)
    u, v = rng.standard_normal((2, net.plan.n_params)) / np.sqrt(net.plan.n_params)
    z = net.plan.predict(net.params, net.X, raw=True)
    w = rng.standard_normal(z.shape)
    grad = np.empty_like(net.params)
    net.plan.loss_gradient(net.params, net.X, z - w, grad=grad)
    forward = np.sum(net.plan.tangent(net.params, net.X, u) * w)
    reverse = np.dot(grad, u) * len(z)
    # Both are sums of w.size products of size up to 10, each with an error of a few eps.
    assert forward == pytest.approx(reverse, abs=100 * w.size * float(np.finfo(float).eps))
    hv = net.plan.hessian_product(net.params, net.X, net.y, v, alpha=0.1)
    numeric = central_difference(
        lambda params: gradient(net, params, alpha=0.1)[1], net.params, v, STEP
    )
    np.testing.assert_allclose(hv, numeric, rtol=0, atol=ERROR * max(1.0, np.abs(hv).max()))


def test_csr_samples_have_no_tangent():
    net = network(sparse=True)
    with pytest.raises(LookupError, match=r"dX.*linear_csr"):
        net.plan.tangent(net.params, net.X, net.params, dX=np.zeros(net.X.shape))


@over_weighting
@over_inputs
@over_losses
@over_activations
def test_hessian_product_against_finite_differences(activation, loss, sparse, weighted, rng):
    """Forward over reverse, with penalty and sample weights, beside differences of the gradient."""
    net = network((4, 6, 5, 3), activation.spec, loss.spec, sparse=sparse)
    options = {"alpha": 0.3, "sample_weight": sample_weights(net) if weighted else None}
    v = rng.standard_normal(net.plan.n_params)
    v /= np.linalg.norm(v)
    product = net.plan.hessian_product(net.params, net.X, net.y, v, **options)
    numeric = central_difference(
        lambda params: gradient(net, params, **options)[1], net.params, v, STEP
    )
    scale = max(1.0, np.abs(product).max())
    np.testing.assert_allclose(product, numeric, rtol=0, atol=ERROR * scale)


@over_losses
def test_the_hessian_is_symmetric(loss, rng):
    net = network(loss=loss.spec)
    u, v = rng.standard_normal((2, net.plan.n_params))
    hu, hv = (net.plan.hessian_product(net.params, net.X, net.y, w) for w in (u, v))
    # Two sums of 90 products each of size up to about |u| |Hv|.
    limit = 90 * np.finfo(float).eps * np.linalg.norm(u) * np.linalg.norm(hv)
    assert abs(u @ hv - v @ hu) <= limit
