"""The record and the pass back over it: gradients, order, memory, modes and their errors."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
import tape
from expressions import EXPRESSIONS
from helpers import STEP, bits, over
from scipy.optimize import approx_fprime

from fastbp import Tensor, _core, no_grad, ops
from fastbp.autodiff import Entry
from fastbp.tensor import apply
from fastbp.testing import activation_inputs, cases, loss_inputs


def leaf(data, dtype=np.float64):
    return Tensor(np.asarray(data, dtype), requires_grad=True)


def leaves(*arrays):
    return [Tensor(array, requires_grad=True) for array in arrays]


# ---------------------------------------------------------------------------------------- gradients

# A central difference is off by about 4e-11 for a function of size and curvature 1 (helpers.STEP);
# these are sums of some dozens of terms of size up to 10, whose third derivatives are up to 100
# times as large.
FINITE = 1e-7


def differences(f, arrays):
    """The gradients of a number by arrays, by SciPy's differences forward and backward."""
    sizes = np.cumsum([array.size for array in arrays])[:-1]

    def flat(vector):
        parts = np.split(vector, sizes)
        return f(*(p.reshape(a.shape) for p, a in zip(parts, arrays, strict=True)))

    point = np.concatenate([np.ravel(array) for array in arrays])
    found = sum(approx_fprime(point, flat, step) for step in (STEP, -STEP)) / 2
    parts = np.split(found, sizes)
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


@over([e for e in EXPRESSIONS if e.witness(*e.arguments()).size], "expression")
def test_gradients_against_finite_differences_of_numpy(expression):
    arrays = expression.arguments()
    weights = np.random.default_rng(1).standard_normal(np.shape(expression.witness(*arrays)))
    tensors = leaves(*arrays)
    (expression.on_tensors(*tensors) * weights).sum().backward()
    expected = differences(lambda *x: np.sum(expression.witness(*x) * weights), arrays)
    for tensor, slope in zip(tensors, expected, strict=True):
        scale = 1 + np.abs(slope).max()
        np.testing.assert_allclose(tensor.grad, slope, rtol=0, atol=FINITE * scale)


def test_an_empty_result_has_a_gradient_of_zeros():
    x = leaf(np.ones((3, 4)))
    (x[:0] * 2).sum().backward()
    assert x.grad.shape == (3, 4) and not x.grad.any()


@over(cases("activation", attributes=False) + cases("function", attributes=False))
def test_functions_have_the_derivatives_of_their_rows(case):
    (x,) = leaves(activation_inputs(case))
    function = getattr(ops, case.name)
    y = function(x, **case.attrs)
    y.backward(np.full(x.shape, 2.0))
    with np.errstate(all="ignore"):
        expected = 2 * _core.activation(case.name, x.data, case.attrs, order=1)
    np.testing.assert_array_equal(x.grad, expected)


@over(cases("loss", attributes=False))
def test_losses_give_a_value_for_each_row(case):
    z, target = loss_inputs(case)
    (x,) = leaves(z)
    value = getattr(ops, case.name)(x, target, **case.attrs)
    expected, slope = _core.loss(case.name, z, target, case.attrs)
    np.testing.assert_array_equal(value.data, expected)
    value.sum().backward()
    np.testing.assert_array_equal(x.grad, slope)


def test_the_example_of_the_guides():
    """R92: w.x + b is 0, the logistic 0.5 and the outer derivative 2 (0.5 - 1) 0.25."""
    x, w, b = leaf([1, 2]), leaf([0.5, -0.3]), leaf(0.1)
    (((w @ x + b).logistic() - 1) ** 2).backward()
    # Each is a handful of operations on numbers near 1.
    near = {"rtol": 0, "atol": 8 * np.finfo(float).eps}
    np.testing.assert_allclose(w.grad, [-0.25, -0.5], **near)
    np.testing.assert_allclose(b.grad, -0.25, **near)
    np.testing.assert_allclose(x.grad, [-0.125, 0.075], **near)


# ------------------------------------------------------------------------------------ random graphs


STEPS = (
    lambda tanh, w, x, y: x + y,
    lambda tanh, w, x, y: x - y,
    lambda tanh, w, x, y: tanh(x) * tanh(y),
    lambda tanh, w, x, y: tanh(x @ w) + x,
    lambda tanh, w, x, y: tanh(x) * 0.7,
    lambda tanh, w, x, y: tanh(x + x) * y,
)


def random_program(seed):
    """A function of three matrices and a square one, with shared nodes and residual paths.

    It uses operators, tanh and sum alone, which arrays, tensors and the tape all have.
    """
    rng = np.random.default_rng([seed, 3])
    steps = [
        (rng.integers(len(STEPS)), *rng.integers(0, 3 + i, 2)) for i in range(rng.integers(5, 25))
    ]

    def run(tanh, w, *values):
        values = list(values)
        for kind, i, j in steps:
            values.append(STEPS[kind](tanh, w, values[i], values[j]))
        last = values[-1] + tanh(values[0] + values[1] - values[2]) + values[len(values) // 2] @ w
        return (tanh(last * 0.1) * last).sum()

    return run


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_against_a_tape_and_finite_differences(seed):
    program, rng = random_program(seed), np.random.default_rng(seed)
    arrays = [0.5 * rng.standard_normal((4, 4)), *(rng.standard_normal((3, 4)) for _ in range(3))]
    tensors = leaves(*arrays)
    result = program(lambda x: x.tanh(), *tensors)
    result.backward()
    found = [tensor.grad for tensor in tensors]
    values = [tape.Value(array) for array in arrays]
    taped = program(lambda x: x.tanh(), *values)
    slopes = differences(lambda *x: program(np.tanh, *x), arrays)
    size = max(np.abs(slope).max() for slope in slopes) + abs(float(taped.array))
    for ours, other, slope in zip(found, tape.gradients(taped, values), slopes, strict=True):
        # The same formulas; up to 100 sums, in another order.
        np.testing.assert_allclose(ours, other, rtol=0, atol=100 * np.finfo(float).eps * size)
        np.testing.assert_allclose(ours, slope, rtol=0, atol=FINITE * size)


def test_the_same_program_gives_the_same_bits():
    program, rng = random_program(7), np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 4)), *(rng.standard_normal((3, 4)) for _ in range(3))]
    found = []
    for _ in range(2):
        tensors = leaves(*arrays)
        program(lambda x: x.tanh(), *tensors).backward()
        found.append(np.concatenate([bits(tensor.grad).ravel() for tensor in tensors]))
    np.testing.assert_array_equal(*found)


# -------------------------------------------------------------------------------------------- order


@pytest.fixture
def backwards(monkeypatch):
    """The names of the nodes whose backward ran, in order."""
    ran, through = [], Entry.gradients

    def counted(entry, *arguments):
        ran.append((entry.number, entry.name))
        return through(entry, *arguments)

    monkeypatch.setattr(Entry, "gradients", counted)
    return ran


def test_every_node_runs_backward_once(backwards):
    """R12: diamonds upon diamonds, of which there are 2 ** 30 paths."""
    x = leaf([0.3])
    h = x
    for _ in range(30):
        h = (h.tanh() + h.exp()) * 0.4
    h.sum().backward()
    assert len(backwards) == len(set(backwards)) == 30 * 4 + 1
    assert backwards == sorted(backwards, reverse=True)


def test_gradients_are_added_in_the_reverse_order_of_uses():
    """Three parts of which two cancel: only one order gives exactly this sum."""
    x = leaf([1.0])
    uses = [x * 1.0, x * 1e17, x * -1e17]
    (uses[0] + uses[1] + uses[2]).sum().backward()
    assert x.grad == [(-1e17 + 1e17) + 1.0]
    uses = [x * 1e17, x * -1e17, x * 1.0]
    (uses[0] + uses[1] + uses[2]).sum().backward()
    assert x.grad == [(1.0 + -1e17) + 1e17] == [0.0]


def test_a_part_that_leads_nowhere_is_not_run(backwards):
    x = leaf([1.0, 2.0])
    x.exp().tanh()
    (x * 3).sum().backward()
    assert [name for _, name in backwards] == ["sum", "multiply"]


def test_only_wanted_gradients_are_computed(monkeypatch):
    """Of a constant no gradient is asked."""
    asked = []
    through = Entry.gradients

    def noted(entry, saved, dy, wanted):
        asked.append((entry.name, wanted))
        return through(entry, saved, dy, wanted)

    monkeypatch.setattr(Entry, "gradients", noted)
    w = leaf(np.ones((3, 2)))
    (Tensor(np.ones((4, 3))) @ w).sum().backward()
    assert asked == [("sum", [True]), ("linear", [False, True])]


# -------------------------------------------------------------------------------------------- depth


def test_a_graph_of_100000_nodes_in_depth():
    x = leaf([1.0])
    h = x
    for _ in range(100_000):
        h = h * 1.00001
    h.sum().backward()
    # A chain of as many products, each rounded once.
    np.testing.assert_allclose(x.grad, [np.exp(1e5 * np.log1p(1e-5))], rtol=1e5 * 2e-16)


def test_a_deep_record_is_dropped_without_a_pass():
    x = leaf([1.0])
    h = x
    for _ in range(100_000):
        h = h * 1.0
    del h
    assert gc.collect() == 0


# ------------------------------------------------------------------------------------------- memory


def test_the_record_holds_what_backward_reads_and_nothing_else():
    x = leaf(np.ones(4))
    one = x * 2.0  # add reads nothing of it
    other = one + 1.0
    kept = other.exp()  # reads its output
    result = kept.sum()
    lost, held = weakref.ref(one.data), weakref.ref(kept.data)
    del one, other, kept
    assert lost() is None
    assert held() is not None
    result.backward()
    assert held() is None


def test_memory_is_freed_as_backward_passes():
    """At its peak, backward of a chain holds what forward held and a few arrays more."""
    size, depth = 100_000, 20
    x = leaf(np.ones(size))
    tracemalloc.start()
    h = x
    for _ in range(depth):
        h = h.tanh()
    del h  # the last result is read by its own backward
    h = x
    for _ in range(depth):
        h = h.tanh()
    result = h.sum()
    del h
    forward = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    result.backward()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    array = 8 * size
    assert forward >= depth * array
    assert peak - forward <= 3 * array
    assert after <= 2 * array  # the gradient


def test_buffers_are_dropped_as_soon_as_they_are_used(monkeypatch):
    held, alive = [], []
    x = leaf(np.ones(3))
    h = x
    for _ in range(5):
        h = h.exp()
        held.append(weakref.ref(h.data))
    result = h.sum()
    del h
    through = Entry.gradients

    def noted(entry, *arguments):
        alive.append(sum(ref() is not None for ref in held))
        return through(entry, *arguments)

    monkeypatch.setattr(Entry, "gradients", noted)
    result.backward()
    assert alive == [5, 5, 4, 3, 2, 1]


def test_retain_graph():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    assert x.grad.tolist() == [2, 4]
    loss.backward(accumulate=True)
    assert x.grad.tolist() == [4, 8]
    with pytest.raises(RuntimeError, match=r"dropped at sum by an earlier backward.*retain_graph"):
        loss.backward()


def test_parts_that_two_results_share():
    x = leaf([1.0])
    shared = x.exp()
    first, second = shared * 2, shared * 3
    first.backward()
    with pytest.raises(RuntimeError, match="dropped at exp"):
        second.backward()
    assert x.grad == 2 * shared.data


def test_the_gradients_of_two_leaves_are_two_arrays():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    given = np.ones(2)
    (x + y).backward(given)
    x.grad[0] = 9
    assert y.grad.tolist() == [1, 1] and given.tolist() == [1, 1]
    x.backward(given)
    assert x.grad is not given


# ---------------------------------------------------------------- forgotten gradients: R119 to R121


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
