"""Checkpoints: the same bits with less memory, and what goes wrong between two runs."""

import numpy as np
import pytest
from helpers import bits

import fastbp
from fastbp import Tensor, checkpoint, grad, hessian_vector_product, jvp, no_grad, vjp
from fastbp.recompute import FirstRun, drawn


def blocks(n):
    """n layers with residual paths, whose weights come from outside."""
    rng = np.random.default_rng(3)
    weights = [Tensor(rng.standard_normal((4, 4)) / 2, requires_grad=True) for _ in range(n)]
    return weights, [lambda x, w=w: x + (x @ w).tanh().exp() * 0.1 for w in weights]


@pytest.mark.parametrize("segments", [1, 2, 6])
def test_checkpoints_give_the_same_bits(segments):
    """R98: gradients by arguments and by weights that the function takes from elsewhere."""
    X = np.random.default_rng(0).standard_normal((5, 4))
    found = []
    for checkpointed in (False, True):
        weights, layers = blocks(6)
        x = Tensor(X, requires_grad=True)
        h = x
        for part in np.array_split(np.arange(6), segments):

            def run(h, part=part, layers=layers):
                for i in part:
                    h = layers[i](h)
                return h

            h = checkpoint(run)(h) if checkpointed else run(h)
        (h * h).sum().backward()
        found.append([bits(t.grad) for t in (x, *weights)])
    for plain, again in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, again)


def test_a_checkpoint_drops_what_backward_reads(monkeypatch):
    held = []

    def f(x):
        for _ in range(5):
            x = x.exp()
            held.append(fastbp.autodiff.STATE.get().stretch)
        return x.sum()

    x = Tensor([0.1], requires_grad=True)
    result = checkpoint(f)(x)
    entry = result._entry
    while isinstance(entry, fastbp.autodiff.Entry):
        assert entry.saved is None
        entry = entry.parents[0]
    assert len(held) == 5 and isinstance(held[0], FirstRun)
    result.backward()
    assert len(held) == 10 and not isinstance(held[5], FirstRun)


def test_a_checkpoint_without_a_record_is_the_function():
    runs = []

    def f(x):
        runs.append(1)
        return x * 2

    with no_grad():
        checkpoint(f)(Tensor([1.0], requires_grad=True))
    assert len(runs) == 1
    assert checkpoint(f).__name__ == "f"


def test_checkpoints_within_checkpoints_and_again():
    """What was computed again is dropped again; the outermost checkpoint counts."""
    x, runs = Tensor([0.3], requires_grad=True), []
    inner = checkpoint(lambda x: runs.append(1) or x.tanh().exp())
    outer = checkpoint(lambda x: inner(inner(x) * 2).sum())
    result = outer(x)
    result.backward(retain_graph=True)
    first = x.grad
    assert len(runs) == 4
    result.backward()
    assert len(runs) == 6
    np.testing.assert_array_equal(x.grad, first)
    plain = grad(lambda x: ((x.tanh().exp() * 2).tanh().exp()).sum())(x.data)
    np.testing.assert_array_equal(first, plain)


def test_checkpoints_in_products(rng):
    x, v = rng.standard_normal((2, 3))

    def f(x):
        return (x.tanh() * x.exp()).sum()

    for run in (
        lambda f: grad(f)(x),
        lambda f: hessian_vector_product(f, x, v),
        lambda f: jvp(f, x, v)[1],
        lambda f: vjp(f, x)[1](2.0),
    ):
        np.testing.assert_array_equal(run(checkpoint(f)), run(f))


def test_random_masks_are_drawn_once():
    """R98: a generator moves on as if there were no checkpoint, and the masks are the same."""
    masks = iter(np.random.default_rng(0).integers(0, 2, (9, 4)).astype(float))
    seen = []

    def f(x):
        for _ in range(2):
            mask = drawn(lambda: next(masks))
            seen.append(mask)
            x = x * mask * 2
        return x.sum()

    x = Tensor(np.ones(4), requires_grad=True)
    checkpoint(f)(x).backward()
    assert len(seen) == 4
    np.testing.assert_array_equal(seen[:2], seen[2:])
    np.testing.assert_array_equal(x.grad, 4 * seen[0] * seen[1])
    assert len(list(masks)) == 7


def test_a_function_that_changes_between_its_runs_is_an_error():
    changes = iter(range(9))

    def other_ops(x):
        return (x.exp() if next(changes) else x.tanh()).sum()

    def more_ops(x):
        y = x.tanh()
        return (y.exp() if next(changes) else y).sum()

    def more_draws(x):
        for _ in range(next(changes) + 1):
            drawn(lambda: 0)
        return x.exp().sum()

    for f, message in [
        (other_ops, r"ran other ops in backward than before \(tanh became exp\)"),
        (more_ops, r"\(sum became exp\)"),
        (more_draws, "draws more often than before"),
    ]:
        changes = iter(range(9))
        x = Tensor([0.1], requires_grad=True)
        with pytest.raises(RuntimeError, match=message):
            checkpoint(f)(x).backward()


def test_a_weight_changed_between_the_runs_is_an_error():
    w = Tensor([2.0], requires_grad=True)
    result = checkpoint(lambda x: (x * w).sum())(Tensor([3.0], requires_grad=True))
    w.data += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        result.backward()
