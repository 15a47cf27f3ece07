"""What is special about attention: masks, heads, forms, lengths. That its values and derivatives
are right on the cases of fastbp.testing is test_ops.py's to say."""

import numpy as np
import pytest
import reference_ops
from helpers import bits, over_dtypes

from fastbp import _core

REFERENCE = reference_ops.OPS["attention"]


class Attention:
    """A node of attention on its arrays, with the gradient along dy where that is given."""

    def __init__(self, *x, dy=None, name="attention", **attrs):
        self.x = list(x)
        shapes = [a.shape for a in x]
        self.node = _core.Node(name, shapes, dtype=x[0].dtype, attrs=attrs)
        self.all = self.node.forward(self.x)
        self.y, self.lse = self.all
        if dy is not None:
            self.dx = self.node.backward(self.x, self.all, [dy], self.node.differentiable)

    def tangent(self, *tx):
        return self.node.tangent(self.x, self.all, list(tx))


def drawn(rng, *shapes, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def same(ours, theirs):
    np.testing.assert_array_equal(bits(np.ascontiguousarray(ours)), bits(theirs.copy()))


# ------------------------------------------------------------------------------------------- masks


@over_dtypes
@pytest.mark.parametrize("length", [5, 300])
def test_a_query_without_any_key_gives_zeros(rng, dtype, length):
    q, k, v, dy = drawn(rng, *[(2, length, 6)] * 4, dtype=dtype)
    mask = np.ones((2, length), dtype)
    mask[0] = 0
    run = Attention(q, k, v, mask, dy=dy, heads=2)
    assert not run.y[0].any()
    assert run.y[1].all()
    assert np.all(run.lse[0] == -np.inf)
    for slope in run.dx[:3]:
        assert np.isfinite(slope).all()
        assert not slope[0].any()
    assert run.dx[3] is None
    tx = drawn(rng, *[(2, length, 6)] * 3, dtype=dtype)
    ty, tlse = run.tangent(*tx, None)
    assert np.isfinite(ty).all()
    assert not ty[0].any()
    assert not tlse[0].any()
    tdx = run.node.backward_tangent(
        run.x, run.all, [*tx, None], [ty, tlse], [dy], [dy], run.node.differentiable
    )
    for slope in tdx[:3]:
        assert np.isfinite(slope).all()
        assert not slope[0].any()


def test_queries_before_the_first_key_of_a_causal_mask_give_zeros(rng):
    q, k, v, dy = drawn(rng, *[(1, 140, 4)] * 4)
    mask = np.ones((1, 140))
    mask[0, :135] = 0  # the first block of keys, and more, is forbidden
    run = Attention(q, k, v, mask, dy=dy, causal=1)
    assert not run.y[0, :135].any()
    assert not run.dx[0][0, :135].any()
    assert not run.dx[1][0, :135].any()
    np.testing.assert_allclose(run.y, REFERENCE(q, k, v, mask, causal=1), rtol=0, atol=1e-13)


@over_dtypes
def test_what_stands_at_forbidden_keys_has_no_effect(rng, dtype):
    q, k, v, dy = drawn(rng, (2, 40, 6), (2, 50, 6), (2, 50, 6), (2, 40, 6), dtype=dtype)
    mask = rng.integers(0, 2, (2, 50)).astype(dtype)
    without = Attention(q, k, v, mask, dy=dy, heads=3)
    k[mask == 0], v[mask == 0] = np.nan, np.inf
    run = Attention(q, k, v, mask, dy=dy, heads=3)
    same(run.y, without.y)
    for ours, theirs in zip(run.dx[:3], without.dx[:3], strict=True):
        same(ours, theirs)
    assert not run.dx[1][mask == 0].any()
    assert not run.dx[2][mask == 0].any()


@over_dtypes
@pytest.mark.parametrize("padding", [1, 40, 200])
def test_padding_changes_no_bit(rng, dtype, padding):
    q, k, v, dy = drawn(rng, *[(1, 37, 8)] * 4, dtype=dtype)
    mask = np.concatenate([np.ones((1, 37)), np.zeros((1, padding))], axis=1).astype(dtype)
    padded = [np.concatenate([a, np.ones((1, padding, 8), dtype)], axis=1) for a in (k, v)]
    short, long = Attention(q, k, v, dy=dy), Attention(q, *padded, mask, dy=dy)
    same(long.y, short.y)
    same(long.dx[0], short.dx[0])
    for ours, theirs in zip(long.dx[1:3], short.dx[1:3], strict=True):
        same(ours[:, :37], theirs)
        assert not ours[:, 37:].any()


def test_causal_queries_do_not_know_what_follows(rng):
    q, k, v, dy = drawn(rng, *[(2, 150, 6)] * 4)
    run = Attention(q, k, v, dy=dy, heads=2, causal=1)
    for length in (1, 31, 64, 129):
        part = [np.ascontiguousarray(a[:, :length]) for a in (q, k, v, dy)]
        same(run.y[:, :length], Attention(*part[:3], heads=2, causal=1).y)
    dy[:, 40:] = 0
    slopes = Attention(q, k, v, dy=dy, heads=2, causal=1).dx
    assert all(not slope[:, 40:].any() for slope in slopes)


# ------------------------------------------------------------------------------- heads and forms


@over_dtypes
def test_a_head_is_attention_on_its_columns(rng, dtype):
    x = drawn(rng, (2, 20, 15), (2, 33, 15), (2, 33, 15), (2, 20, 15), dtype=dtype)
    run = Attention(*x[:3], dy=x[3], heads=3)
    for head in range(3):
        columns = slice(5 * head, 5 * head + 5)
        q, k, v, dy = (np.ascontiguousarray(a[..., columns]) for a in x)
        alone = Attention(q, k, v, dy=dy)
        same(run.y[..., columns], alone.y)
        same(run.lse[:, head : head + 1], alone.lse)
        for ours, theirs in zip(run.dx, alone.dx, strict=True):
            same(ours[..., columns], theirs)


@over_dtypes
@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_is_attention_of_its_parts(rng, dtype, masked):
    qkv, dy = drawn(rng, (2, 35, 24), (2, 35, 8), dtype=dtype)
    mask = [np.repeat([[1, 0, 1, 1, 0]], 14, axis=0).reshape(2, 35).astype(dtype)] if masked else []
    parts = [part.copy() for part in np.split(qkv, 3, axis=2)]
    packed = Attention(qkv, *mask, dy=dy, name="self_attention", heads=2, causal=1)
    apart = Attention(*parts, *mask, dy=dy, heads=2, causal=1)
    same(packed.y, apart.y)
    same(packed.dx[0], np.concatenate(apart.dx[:3], axis=2))
    tqkv, tdy = drawn(rng, qkv.shape, dy.shape, dtype=dtype)
    tparts = [part.copy() for part in np.split(tqkv, 3, axis=2)]
    nothing = [None] * len(mask)
    along, beside = packed.tangent(tqkv, *nothing), apart.tangent(*tparts, *nothing)
    same(along[0], beside[0])
    second = packed.node.backward_tangent(
        packed.x, packed.all, [tqkv, *nothing], along, [dy], [tdy], packed.node.differentiable
    )
    other = apart.node.backward_tangent(
        apart.x, apart.all, [*tparts, *nothing], beside, [dy], [tdy], apart.node.differentiable
    )
    same(second[0], np.concatenate(other[:3], axis=2))


def test_only_the_gradients_that_are_wanted(rng):
    q, k, v, dy = drawn(rng, *[(2, 33, 6)] * 4)
    run = Attention(q, k, v, dy=dy)
    for i in range(3):
        wanted = [i == j for j in range(3)]
        slopes = run.node.backward(run.x, run.all, [dy], wanted)
        assert [slope is not None for slope in slopes] == wanted
        same(slopes[i], run.dx[i])


# -------------------------------------------------------------------------------------- numerics


@over_dtypes
@pytest.mark.parametrize("size", [1e-20, 30.0, 1e4])
def test_scores_of_any_size(rng, dtype, size):
    """The largest weight is 1 whatever the scores, and weights too small to count are 0."""
    q, k, v, dy = drawn(rng, (1, 40, 4), (1, 200, 4), (1, 200, 4), (1, 40, 4), dtype=dtype)
    q *= dtype(size)
    run = Attention(q, k, v, dy=dy)
    wide = [a.astype(np.float64) for a in (q, k, v)]
    # A score is off by some eps times its size, a weight by that as a factor.
    scale = np.abs(wide[0]).max() * np.abs(wide[1]).max()
    bound = 32 * np.finfo(dtype).eps * (1 + scale) * np.abs(v).max()
    np.testing.assert_allclose(run.y, REFERENCE(*wide), rtol=0, atol=bound)
    assert all(np.isfinite(slope).all() for slope in run.dx)


def test_the_log_of_the_sum_is_kept(rng):
    q, k, v = drawn(rng, (2, 7, 6), (2, 300, 6), (2, 300, 6))
    run = Attention(q, k, v, heads=2, scale=0.3)
    apart = [np.moveaxis(a.reshape(2, -1, 2, 3), 2, 1) for a in (q, k)]
    scores = 0.3 * apart[0] @ np.swapaxes(apart[1], 2, 3)
    assert run.lse.shape == (2, 2, 7)
    np.testing.assert_allclose(run.lse, np.log(np.exp(scores).sum(axis=3)), rtol=1e-13)


def test_nan_is_not_lost(rng):
    q, k, v = drawn(rng, *[(1, 40, 4)] * 3)
    k[0, 3, 1] = np.nan
    assert np.isnan(Attention(q, k, v).y).all()
    assert np.isfinite(Attention(q, k, v, causal=1).y[0, :3]).all()


def test_the_plainest_instruction_set_computes_the_same(rng, force_isa):
    force_isa(_core.build_info()["isas"][0])
    q, k, v = drawn(rng, (2, 33, 6), (2, 140, 6), (2, 140, 6))
    np.testing.assert_allclose(
        Attention(q, k, v, heads=2).y, REFERENCE(q, k, v, heads=2), rtol=0, atol=1e-13
    )


@over_dtypes
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(33, 33), (130, 130), (20, 150), (150, 20)])
def test_against_pytorch(rng, dtype, causal, queries, keys):
    torch = pytest.importorskip("torch")
    heads, width = 2, 16
    shapes = [(2, length, heads * width) for length in (queries, keys, keys, queries)]
    x = drawn(rng, *shapes, dtype=dtype)
    ours = Attention(*x[:3], dy=x[3], heads=heads, causal=int(causal))
    leaves = [torch.from_numpy(a).requires_grad_() for a in x[:3]]
    split = [a.reshape(2, -1, heads, width).transpose(1, 2) for a in leaves]
    y = torch.nn.functional.scaled_dot_product_attention(*split, is_causal=causal)
    y = y.transpose(1, 2).reshape(2, queries, heads * width)
    y.backward(torch.from_numpy(x[3]))
    # Both sides add up to max(keys, queries) terms whose factors are sums of `width` products.
    rounding = 4 * (max(keys, queries) + width) * np.finfo(dtype).eps
    theirs = [y.detach(), *(leaf.grad for leaf in leaves)]
    for a, b in zip([ours.y, *ours.dx], theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=rounding * np.abs(a).max())


# ----------------------------------------------------------------------------------------- misuse


def test_errors_name_op_argument_and_shapes():
    apart = [(2, 4, 6), (2, 5, 6), (2, 5, 6)]
    for name, shapes, attrs, message in [
        ("attention", apart[:2], {}, "attention: found 2 inputs, wanted 3 to 4"),
        ("attention", [(2, 4, 6), (2, 5, 7), (2, 5, 7)], {}, r"k of shape \(n, 5, 7\) and v of"),
        ("attention", [(2, 4, 6), (2, 5, 6), (2, 4, 6)], {}, r"v of shape \(n, 4, 6\), wanted"),
        ("attention", [(2, 6)] * 3, {}, r"found q of shape \(n, 6\)"),
        ("attention", [(2, 0, 6), *apart[1:]], {}, r"found q of shape \(n, 0, 6\)"),
        ("attention", apart, {"heads": 4}, "heads of attention: found 4, wanted a divisor of the"),
        ("attention", apart, {"heads": 1.5}, "heads of attention: found 1.5, wanted an integer"),
        ("attention", apart, {"causal": 2}, "causal of attention: found 2, wanted an integer in"),
        ("attention", apart, {"scale": -1}, "scale of attention: found -1, wanted a number in"),
        ("attention", [*apart, (2, 4)], {}, r"reals of shape \(n, 4\), wanted .* each of the 5"),
        ("attention", [*apart, (2, 4, 5)], {}, r"found a mask of reals of shape \(n, 4, 5\)"),
        ("self_attention", [(2, 4, 8)], {}, r"found qkv of shape \(n, 4, 8\), wanted reals"),
        ("self_attention", [(2, 4, 9), (2, 5)], {}, "self_attention: found a mask of reals"),
        ("self_attention", [(2, 4, 6)], {"heads": 3}, "heads of self_attention: found 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node(name, shapes, dtype="float64", attrs=attrs)
    with pytest.raises(ValueError, match="mask of attention: found integers, wanted reals"):
        _core.Node("attention", [*apart, (2, 5)], dtype="float64", indices=(3,))
    with pytest.raises(LookupError, match="with and without a sample axis"):
        _core.Node("attention", [(None, 4, 6), (5, 6), (5, 6)], dtype="float64")


def test_the_mask_has_no_gradient(rng):
    q, k, v = drawn(rng, *[(2, 5, 6)] * 3)
    run = Attention(q, k, v, np.ones((2, 5)))
    with pytest.raises(LookupError, match="attention has no gradient by its input 3"):
        run.node.backward(run.x, run.all, [run.y], [True] * 4)
