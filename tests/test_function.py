"""Ops written in Python: what they compute, how they are checked, what is refused."""

import numpy as np
import pytest

from fastbp import Function, Tensor, checkpoint, grad, no_grad, ops


def leaf(*shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng([seed, 4])
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


class Product(Function):
    """x * y and x + y, for inputs of one shape."""

    @staticmethod
    def forward(ctx, x, y, scale):
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return x * y * scale, x + y

    @staticmethod
    def backward(ctx, dproduct, dsum):
        x, y = ctx.saved
        common = dproduct * ctx.scale
        return common * y + dsum, common * x + dsum, None


def squared_with(slope, **options):
    """A Function that squares, with a backward of its own."""

    class Squared(Function, **options):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            return slope(ctx.saved[0], dy)

    return Squared


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_function_of_several_arguments_and_results(dtype):
    x, y = leaf(2, 3, dtype=dtype), leaf(2, 3, dtype=dtype, seed=1)
    product, total = Product.apply(x, y, 3)
    np.testing.assert_array_equal(product.data, x.data * y.data * 3)
    assert product.dtype == total.dtype == dtype
    (product.sum() + (total * 2).sum()).backward()
    np.testing.assert_allclose(x.grad, 3 * y.data + 2, rtol=1e-6)
    assert x.grad.dtype == y.grad.dtype == dtype
    x.grad = y.grad = None
    product, total = Product.apply(x, y.detach(), 3)
    total.sum().backward()  # the other result's gradient is zero
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))
    assert y.grad is None


def test_within_other_ops_and_checkpoints():
    x, y = leaf(2, 3), leaf(2, 3, seed=1)

    def f(x, y):
        product, total = Product.apply(x.tanh(), y * 2, 0.5)
        return (product * total.exp()).sum()

    def plain(x, y):
        a, b = x.tanh(), y * 2
        return (a * b * 0.5 * (a + b).exp()).sum()

    found = grad(f, (0, 1))(x.data, y.data)
    for ours, expected in zip(found, grad(plain, (0, 1))(x.data, y.data), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-13)
    for ours, again in zip(found, grad(checkpoint(f), (0, 1))(x.data, y.data), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_without_a_record_nothing_is_kept():
    x = leaf(3)
    with no_grad():
        assert not squared_with(None).apply(x).requires_grad
    assert not squared_with(None).apply(x.detach()).requires_grad
    with pytest.raises(RuntimeError, match=r"cut by no_grad\(\)"), no_grad():
        squared_with(None).apply(x).sum().backward()


def test_results_are_tensors_of_their_own():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, dy):
            return dy

    x = leaf(3)
    y = Same.apply(x)
    assert not np.may_share_memory(x.data, y.data)
    given = np.ones(3)
    y.backward(given)
    assert not np.may_share_memory(x.grad, given) and x.grad.flags.writeable


def test_a_backward_may_return_one_array_for_several_arguments():
    class Sum(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, dy):
            return dy, dy

    x, y = leaf(3), leaf(3, seed=1)
    h = Sum.apply(x, y)
    h.retain_grad()
    (Sum.apply(h, h) + x).sum().backward()
    for tensor, slope in ((x, 3), (y, 2), (h, 2)):
        assert tensor.grad.tolist() == [slope] * 3
    assert not np.may_share_memory(x.grad, y.grad)
    assert not np.may_share_memory(h.grad, y.grad)


def test_arrays_are_read_only():
    class InPlace(Function):
        @staticmethod
        def forward(ctx, x):
            x *= 2
            return x

    with pytest.raises(ValueError, match="read-only"):
        InPlace.apply(leaf(3))


def test_needs_input_grad():
    asked = []

    class Sum(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, dy):
            asked.append(ctx.needs_input_grad)
            return tuple(dy if need else None for need in ctx.needs_input_grad)

    x, y = leaf(2), leaf(2)
    Sum.apply(x.detach(), y).sum().backward()
    assert set(asked) == {(False, True)} and x.grad is None and y.grad.tolist() == [1, 1]


# ----------------------------------------------------------------------------------- the check: R94


def rectified(x, dy):
    return 2 * x * dy


def test_a_right_backward_passes_and_is_checked_once():
    runs = []

    def slope(x, dy):
        runs.append(x.dtype)
        return 2 * x * dy

    Squared = squared_with(slope)
    x = leaf(4, 5, dtype=np.float32)
    for _ in range(3):
        Squared.apply(x).sum().backward(accumulate=False)
    assert runs == [np.float64, np.float32, np.float32, np.float32]


WRONG = {
    "a sign": lambda x, dy: -2 * x * dy,
    "a factor": lambda x, dy: x * dy,
    "a missing factor": lambda x, dy: 2 * dy,
    "a transposition": lambda x, dy: (2 * x * dy).T.reshape(x.shape),
    "nothing": lambda x, dy: None,
    "slightly off": lambda x, dy: 2.0001 * x * dy,
    "not finite": lambda x, dy: x * dy * np.inf,
}


@pytest.mark.parametrize("slope", WRONG.values(), ids=WRONG)
def test_a_wrong_backward_is_refused_with_its_worst_element(slope):
    Squared = squared_with(slope)
    x = leaf(3, 4)
    for _ in range(2):  # again and again
        with pytest.raises(
            ValueError,
            match=r"Squared.backward is not the derivative of its forward: by argument 0 of shape"
            r" \(3, 4\), worst at element \(\d, \d\), where it is .* and by finite differences",
        ):
            Squared.apply(x)


@pytest.mark.parametrize("element", [(0, 0), (17, 3), (39, 49)])
def test_a_single_wrong_element_of_many_is_found(element):
    """It is in no sample of 50 elements out of 2,000 but by luck."""

    def slope(x, dy):
        dx = 2 * x * dy
        dx[element] += 0.5
        return dx

    with pytest.raises(ValueError, match=rf"worst at element \({element[0]}, {element[1]}\)"):
        squared_with(slope).apply(leaf(40, 50))


def test_the_wrong_argument_is_named():
    class Wrong(Product):
        @staticmethod
        def backward(ctx, dproduct, dsum):
            dx, dy, _ = Product.backward(ctx, dproduct, dsum)
            return dx, 1.1 * dy, None

    with pytest.raises(ValueError, match="by argument 1"):
        Wrong.apply(leaf(2), leaf(2, seed=1), 2)
    Wrong.apply(leaf(2), leaf(2, seed=1).detach(), 2)


def test_kinks_are_not_mistakes():
    class Relu(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x > 0)
            return np.maximum(x, 0)

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved[0]

    x = leaf(30)
    x.data[::3] = 0
    Relu.apply(x)


def test_the_check_is_turned_off_by_name():
    x = leaf(3)
    squared_with(WRONG["a sign"], check=False).apply(x).sum().backward()
    np.testing.assert_array_equal(x.grad, -2 * x.data)


def test_a_forward_that_draws_cannot_be_checked():
    rng = np.random.default_rng(0)

    class Noise(Function):
        @staticmethod
        def forward(ctx, x):
            return x + rng.standard_normal(x.shape)

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(ValueError, match="gives other results when it runs again"):
        Noise.apply(leaf(3))


# ---------------------------------------------------------------------------- straight-through: R72


class Sign(Function, check=False):
    """The sign, with the gradient of a hard tanh: Hubara et al. (2016), arXiv:1602.02830."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(np.abs(x) <= 1)
        return np.sign(x)

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved[0]


def test_a_straight_through_sign_learns_what_a_sign_cannot():
    """Binary weights that reproduce a linear map of signs."""
    rng = np.random.default_rng(0)
    X, truth = rng.standard_normal((200, 8)), np.sign(rng.standard_normal((8, 1)))
    start, losses = 0.1 * rng.standard_normal((8, 1)), {}
    for sign in (Sign.apply, ops.sign):
        w = Tensor(start, requires_grad=True)
        for _ in range(100):
            loss = ((X @ sign(w) - X @ truth) ** 2).mean()
            loss.backward()
            with no_grad():
                w -= 0.01 * w.grad
        losses[sign] = loss.item()
    assert losses[Sign.apply] < 1e-20 < losses[ops.sign]


def test_a_softmax_weighted_choice_has_a_gradient():
    """What stands in for argmax: as the temperature falls, the choice becomes one."""
    values, scores = np.array([1.0, 5.0, 2.0]), np.array([0.1, 0.4, 0.2])

    def chosen(scores, temperature=0.01):
        return ((scores / temperature).softmax() * values).sum()

    assert abs(chosen(Tensor(scores)).item() - values[scores.argmax()]) < 1e-6
    assert grad(lambda s: chosen(s, 1.0))(scores)[1] > 0


# ------------------------------------------------------------------------------------------- errors


def returning(forward=None, backward=None):
    class Op(Function, check=False):
        @staticmethod
        def forward(ctx, x):
            return x * 1 if forward is None else forward(x)

    if backward is not None:
        Op.backward = staticmethod(lambda ctx, dy: backward(dy))
    return Op


def test_what_forward_returns_is_checked():
    x = leaf(2, 3)
    for forward, message in [
        (lambda x: x.argmax(axis=1), "returned int64, wanted float64: integers have no gradient"),
        (lambda x: x > 0, "returned bool"),
        (lambda x: x.astype(np.float32), "returned float32, wanted float64"),
        (lambda x: x.tolist(), "returned list, wanted an array"),
        (lambda x: None, "returned NoneType"),
    ]:
        with pytest.raises(TypeError, match=rf"Op.forward {message}"):
            returning(forward).apply(x)
    assert returning(lambda x: x.sum()).apply(x).shape == ()


def test_what_backward_returns_is_checked():
    x = leaf(2, 3)
    for backward, message in [
        (lambda dy: (dy, dy), "returned 2 gradients, wanted 1"),
        (lambda dy: dy[0], r"gradient 0: found shape \(3,\), wanted \(2, 3\)"),
        (lambda dy: dy.astype(np.float32), "found float32, wanted float64"),
        (lambda dy: 1.0, "found float, wanted an array"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            returning(backward=backward).apply(x).sum().backward()
    with pytest.raises(NotImplementedError):
        returning().apply(x).sum().backward()
    returning(backward=lambda dy: None).apply(x).sum()


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="found no tensor of reals"):
        Product.apply(1.0, 2.0, 3)
    with pytest.raises(TypeError, match="found tensors of dtype float32 and float64"):
        Product.apply(leaf(2), leaf(2, dtype=np.float32), 3)
