"""What is easily forgotten in training is impossible or reported: R119 to R121.

Gradients that are not cleared, paths that are cut, leaves that change between forward and backward,
modes that are left on.
"""

import threading

import numpy as np
import pytest

from fastbp import Tensor, _core, no_grad, ops
from fastbp.tensor import apply


def leaf(data):
    return Tensor(np.asarray(data, float), requires_grad=True)


# ---------------------------------------------------------------------------------------- gradients


def test_gradients_are_replaced_once_they_have_been_read():
    """R120: nobody has to clear them."""
    x = leaf([1.0])
    for _ in range(3):
        (x * 2).backward()
        assert x.grad == [2]


def test_a_gradient_that_nobody_read_is_not_lost():
    x, y = leaf([1.0]), leaf([1.0])
    (x * y).backward()
    with pytest.raises(RuntimeError, match=r"holds a gradient of an earlier backward\(\).*add"):
        (x * 5).backward()
    assert x.grad == [1]  # one that is read speaks for its whole pass
    (y * 3).backward()
    assert y.grad == [3]


def test_accumulate_says_what_is_meant():
    x = leaf([1.0])
    (x * 2).backward()
    before = x.grad
    (x * 3).backward(accumulate=True)
    (x * 4).backward(accumulate=True)
    assert x.grad == [9] and before == [2]
    (x * 1).backward()
    (x * 7).backward(accumulate=False)
    assert x.grad == [7]
    x.grad = None
    (x * 2).backward()
    x.grad = x.grad * 10
    assert x.grad == [20]
    (x * 2).backward()


def test_accumulated_gradients_are_those_of_the_whole_batch(rng):
    X, w = rng.standard_normal((8, 3)), leaf(rng.standard_normal((3, 2)))
    (X @ w).tanh().sum().backward()
    whole = w.grad
    for i, part in enumerate(np.split(X, 4)):
        (part @ w).tanh().sum().backward(accumulate=i > 0)
    np.testing.assert_allclose(w.grad, whole, rtol=0, atol=32 * np.finfo(float).eps)


def test_backward_without_a_leaf_says_why():
    x = leaf([1.0])
    with no_grad():
        unrecorded = x * 2
    for tensor, why in [
        (Tensor([1.0]) * 2, "none of its inputs had requires_grad=True"),
        (x.detach() * 2, r"cut by detach\(\)"),
        (unrecorded + 1, r"cut by no_grad\(\)"),
        ((x > 0).sum(), "cut by greater"),
    ]:
        with pytest.raises(RuntimeError, match=f"depends on no leaf that requires.*{why}"):
            tensor.backward()


def test_backward_of_what_has_no_single_gradient():
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"found a tensor of shape \(2,\), wanted one element"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"found a gradient of shape \(3,\), wanted \(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(TypeError, match="float32"):
        (x * 2).backward(np.ones(2, np.float32))
    (x * 2).backward([1, 10])
    assert x.grad.tolist() == [2, 20]
    x.sum().backward()
    leaf(3.0).backward()


def test_frozen_leaves():
    x, w = leaf([1.0]), leaf([2.0])
    w.requires_grad = False
    (x * w).backward()
    assert w.grad is None and x.grad == [2]
    w.requires_grad = True
    (x * w).backward()
    assert w.grad == [1]
    result = x.detach() * w
    w.requires_grad = False
    with pytest.raises(RuntimeError, match="have been frozen since"):
        result.backward()
    with pytest.raises(ValueError, match="wanted a leaf"):
        (x * 2).requires_grad = False


def test_gradients_of_results_on_request():
    x = leaf([1.0, 2.0])
    h = x * 3
    h.retain_grad()
    x.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [6, 12] and x.grad.tolist() == [18, 36]
    with pytest.raises(RuntimeError, match=r"only after retain_grad\(\)"):
        _ = (x * 2).grad
    with pytest.raises(RuntimeError, match="requires no gradient"):
        Tensor([1.0]).retain_grad()
    assert Tensor([1.0]).grad is None


def test_changes_in_place_are_noticed():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    x.data -= 1
    with pytest.raises(RuntimeError, match=r"a leaf of shape \(2,\), which multiply read, was"):
        loss.backward()
    loss = (x * 3).sum()  # multiply by a constant reads x as well
    x.data = x.data + 1  # another array: what was recorded is as it was
    loss.backward()
    assert x.grad.tolist() == [3, 3]
    loss = (x + 3).sum()
    x.data -= 1  # add reads nothing
    loss.backward()


def test_updates_as_in_pytorch():
    w = leaf([1.0, 2.0])
    (w * w).sum().backward()
    data = w.data
    with no_grad():
        w -= 0.5 * w.grad
        w += 1
        w *= 2
        w /= 4
    assert w.requires_grad and w.is_leaf and w.data is data
    assert w.data.tolist() == [0.5, 0.5]
    with pytest.raises(RuntimeError, match=r"within no_grad\(\) only"):
        w -= 1
    with no_grad(), pytest.raises(ValueError, match="cannot take"):
        w += np.ones((2, 2))
    constant = same = Tensor([1.0])
    constant += 1
    assert constant.data == [2] and same.data == [1]


def test_an_input_without_gradient_may_not_require_one():
    z, t = leaf(np.ones((2, 3))), leaf(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="squared_error has no gradient by its input 1, 'target'"):
        ops.squared_error(z, t)
    ops.squared_error(z, t.detach())


# -------------------------------------------------------------------------------------------- modes


def test_no_grad_as_context_and_decorator():
    x = leaf([1.0])

    @no_grad()
    def evaluate(depth=2):
        y = x * 2
        return y if depth == 0 else evaluate(depth - 1)

    assert not evaluate().requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0  # noqa: B018
    assert (x * 2).requires_grad
    mode = no_grad()
    with mode, mode:
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_modes_belong_to_threads():
    x, found = leaf([1.0]), []
    with no_grad():
        thread = threading.Thread(target=lambda: found.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]


def test_ops_run_as_in_training_when_they_are_differentiated(monkeypatch):
    """R121: training in evaluation mode has to be asked for."""
    modes = []

    class Spy:
        def __init__(self, node):
            self.node = node

        def __getattr__(self, name):
            return getattr(self.node, name)

        def forward(self, x, *, draws, training):
            modes.append(training)
            return self.node.forward(x, draws=draws, training=training)

    monkeypatch.setattr(
        "fastbp.ops.running.node", lambda *a: Spy(_core.Node(a[0], a[2], dtype=a[1]))
    )
    x = leaf([1.0])
    x.tanh()
    with no_grad():
        x.tanh()
    Tensor([1.0]).tanh()
    apply("tanh", (x,), training=False)
    with no_grad():
        apply("tanh", (x,), training=True)
    assert modes == [True, False, False, False, True]
