"""The record and the pass back over it: order, depth, memory, and whose the arrays are."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from fastbp import Tensor, nn, ops
from fastbp.autodiff import Entry


def leaf(data):
    return Tensor(np.asarray(data, float), requires_grad=True)


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


def test_backward_of_a_two_layer_relu_network_goes_from_the_loss_to_the_first_layer(backwards):
    """R13: dy, then dW2 and dh, then dz1, then dW1; by x, which wants none, there is none."""
    x, t = leaf([[0.3, -0.2]]).detach(), leaf([[1.0]]).detach()
    w1, b1 = leaf([[0.1, 0.4, -0.3], [0.2, 0.1, 0.5]]), leaf([0.1, 0.2, 0.3])
    w2, b2 = leaf([[0.3], [0.2], [-0.1]]), leaf([0.1])
    h = ops.linear(x, w1, b1).relu()
    nn.SquaredError()(ops.linear(h, w2, b2), t).backward()
    names = [name for _, name in backwards]
    assert names == ["mean", "squared_error", "linear", "relu", "linear"]
    assert all(one.grad.any() for one in (w1, b1, w2, b2)) and x.grad is None


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
