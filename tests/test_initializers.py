"""What parameters start from: distributions, orthogonality, and what fifty layers make of it."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from fastbp import nn, no_grad
from fastbp.nn.initializers import NAMES, initializer, start

F64 = np.dtype(np.float64)


def drawn(init, shape, seed=0, place=0, dtype=F64):
    return start(init, shape, seed, place, dtype)


# ----------------------------------------------------------------------------------- distributions

# By hand, of the weights of 64 inputs in 3 x 3 windows to 128 outputs, and of 300 to 400 units.
CONV, DENSE = (3, 3, 64, 128), (300, 400)
FANS = {CONV: (576, 1152), DENSE: (300, 400)}
VARIANCES = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


@pytest.mark.parametrize("shape", [CONV, DENSE])
@pytest.mark.parametrize("name", VARIANCES)
def test_variances(name, shape):
    variance = VARIANCES[name](*FANS[shape])
    normal = drawn(f"{name}_normal", shape).ravel()
    uniform = drawn(f"{name}_uniform", shape).ravel()
    # Of n = 73,728 or more numbers the standard deviation is off by 1 / sqrt(2 n) = 0.3 %, less for
    # uniform ones: 1 % is almost four times as much.
    assert abs(normal.std() / math.sqrt(variance) - 1) < 0.01
    assert abs(uniform.std() / math.sqrt(variance) - 1) < 0.01
    # By the test of Kolmogorov and Smirnov, which a distribution of its own passes with p = 0.001.
    assert stats.kstest(normal, "norm", (0, math.sqrt(variance))).pvalue > 0.001
    bound = math.sqrt(3 * variance)
    assert stats.kstest(uniform, "uniform", (-bound, 2 * bound)).pvalue > 0.001


def test_arguments_of_the_names():
    assert nn.init.he_normal("fan_out", slope=0.5).variance(3, 7) == 2 / 1.25 / 7
    assert nn.init.he_uniform(slope=1.0).variance(3, 7) == 1 / 3
    assert nn.init.glorot_normal(2.0).variance(3, 7) == 4 / 5
    assert nn.init.glorot_uniform(0.5).variance(3, 7) == 0.25 / 5
    assert nn.init.lecun_normal(3.0).variance(3, 7) == 3
    assert nn.init.lecun_uniform(3.0).uniform and not nn.init.lecun_normal(3.0).uniform
    assert nn.init.he_normal() == NAMES["he_normal"]


def test_plain_distributions():
    n = 100_000
    assert abs(drawn(nn.init.Normal(0.02), (n,)).std() / 0.02 - 1) < 0.01  # 4 / sqrt(2 n)
    uniform = drawn(nn.init.Uniform(0.3), (n,))
    assert -0.3 <= uniform.min() < -0.299 and 0.299 < uniform.max() < 0.3
    cut = drawn(nn.init.TruncatedNormal(0.5, 1.5), (n,))
    # The density within the cut, and its standard deviation, from the formula of the textbooks.
    inside = 2 * ndtr(1.5) - 1
    std = 0.5 * math.sqrt(1 - 2 * 1.5 * stats.norm.pdf(1.5) / inside)
    assert 0.749 < np.abs(cut).max() <= 0.75
    assert abs(cut.std() / std - 1) < 0.01
    assert stats.kstest(cut / 0.5, stats.truncnorm(-1.5, 1.5).cdf).pvalue > 0.001
    np.testing.assert_array_equal(drawn("zeros", (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(drawn("ones", (3,)), np.ones(3))
    np.testing.assert_array_equal(drawn(nn.init.Constant(0.3), (3,)), np.full(3, 0.3))
    np.testing.assert_array_equal(drawn(2, (3,)), np.full(3, 2.0))
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(drawn(array, (2, 3)), array)
    assert not np.shares_memory(drawn(array, (2, 3)), array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(5, 5), (97, 97), (70, 40), (40, 70), (3, 3, 4, 90), (3, 2, 5, 7)]
)
def test_orthogonal(shape, dtype):
    w = drawn(nn.init.Orthogonal(1.5), shape, dtype=np.dtype(dtype)).reshape(-1, shape[-1])
    assert w.dtype == dtype
    w = w.astype(np.float64) / 1.5
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    # Elements are rounded to the dtype: sums of products of numbers whose squares sum up to 1. One
    # pass instead of two is off by 1000 eps where rows are as many as columns.
    np.testing.assert_allclose(gram, np.eye(len(gram)), rtol=0, atol=10 * np.finfo(dtype).eps)


def test_orthogonal_is_even():
    """A rotation of the plane by an angle that is even in 0 to 2 pi, half of them with a mirror."""
    made = initializer("orthogonal").draw(4000, (2, 2), nn.init.Numbers(1, 0, F64))
    angles = np.arctan2(made[:, 0, 1], made[:, 0, 0]) % (2 * np.pi)
    assert stats.kstest(angles, "uniform", (0, 2 * np.pi)).pvalue > 0.001
    assert abs((np.linalg.det(made) > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(4000)


def test_blocks_are_matrices_of_their_own():
    made = drawn(nn.init.Blocks("orthogonal", 3), (4, 12))
    parts = np.split(made, 3, axis=1)
    for part in parts:
        np.testing.assert_allclose(part @ part.T, np.eye(4), atol=1e-15 * 8)
    assert not np.allclose(parts[0], parts[1]) and not np.allclose(parts[1], parts[2])
    of_gates = drawn(nn.init.Blocks("glorot_normal", 4), (500, 800))
    # The fans are those of a gate: 2 / (500 + 200), not 2 / (500 + 800).
    assert abs(of_gates.std() / math.sqrt(2 / 700) - 1) < 0.01
    with pytest.raises(ValueError, match=r"Blocks: found \(4, 7\), wanted a last axis of 3 equal"):
        drawn(nn.init.Blocks("ones", 3), (4, 7))


@pytest.mark.parametrize("name", [*NAMES, nn.init.Normal(1.0), nn.init.TruncatedNormal(1.0)])
def test_values_are_functions_of_seed_and_place(name):
    one = drawn(name, (6, 4), seed=1, place=2)
    np.testing.assert_array_equal(one, drawn(name, (6, 4), seed=1, place=2))
    if name not in ("zeros", "ones"):
        assert not np.array_equal(one, drawn(name, (6, 4), seed=2, place=2))
        assert not np.array_equal(one, drawn(name, (6, 4), seed=1, place=3))


ERRORS = {
    r"Normal: std: found -1, wanted a number above 0": lambda: nn.init.Normal(-1),
    r"Uniform: bound: found 0, wanted a number above 0": lambda: nn.init.Uniform(0),
    r"TruncatedNormal: cut: found 'a', wanted": lambda: nn.init.TruncatedNormal(1.0, "a"),
    r"TruncatedNormal: cut: found 0.1, wanted at least": lambda: nn.init.TruncatedNormal(1.0, 0.1),
    r"TruncatedNormal: std: found inf, wanted": lambda: nn.init.TruncatedNormal(math.inf),
    r"Constant: value: found nan, wanted a finite number": lambda: nn.init.Constant(math.nan),
    r"Orthogonal: gain: found 0.0, wanted": lambda: nn.init.Orthogonal(0.0),
    r"VarianceScaling: scale: found -2, wanted": lambda: nn.init.VarianceScaling(-2),
    r"mode: found 'fan', wanted 'fan_in', 'fan_out' or 'fan_avg'": lambda: nn.init.he_normal("fan"),
    r"VarianceScaling: found \(3,\), wanted a shape of at least": lambda: drawn("he_normal", (3,)),
    r"Orthogonal: found \(3,\), wanted a shape of at least two": lambda: drawn("orthogonal", (3,)),
    r"init: found \(3,\), wanted an array of shape \(4,\)": lambda: drawn(np.zeros(3), (4,)),
    r"init: found 'he', wanted a number or one of 'zeros', 'ones'": lambda: drawn("he", (3, 4)),
    r"init: found True, wanted a number": lambda: drawn(True, (3, 4)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()


# ------------------------------------------------------------------------------------ fifty layers

DEPTH, WIDTH = 50, 256

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(x):
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def identity(x):
    return x


def relu(x):
    return np.maximum(x, 0)


# The module, its formula, what weights start from, and the width times their variance.
PAIRS = {
    "relu, he": (nn.ReLU, relu, "he_normal", 2.0),
    "relu, he uniform": (nn.ReLU, relu, "he_uniform", 2.0),
    "tanh, xavier": (nn.Tanh, np.tanh, "glorot_normal", 1.0),
    "tanh, xavier with gain": (nn.Tanh, np.tanh, nn.init.glorot_uniform(5 / 3), 25 / 9),
    "selu, lecun": (nn.SELU, selu, "lecun_normal", 1.0),
    "identity, orthogonal": (nn.Identity, identity, "orthogonal", 1.0),
    "relu, xavier": (nn.ReLU, relu, "glorot_normal", 1.0),
    "relu, orthogonal": (nn.ReLU, relu, "orthogonal", 1.0),
    "identity, he": (nn.Identity, identity, "he_normal", 2.0),
    "selu, he": (nn.SELU, selu, "he_normal", 2.0),
    "tanh, too small": (nn.Tanh, np.tanh, nn.init.Normal(0.03), WIDTH * 0.03**2),
}


def mean_square_in_the_limit(f, gain):
    """Of activations after DEPTH layers of any width, from 1.

    A unit's sum over many is normal, so that the mean square q becomes that of f(sqrt(gain q) z)
    over normal z, layer by layer (Poole et al. 2016, arXiv:1606.05340).
    """
    z = np.linspace(-12, 12, 20_001)
    density = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    q = 1.0
    for _ in range(DEPTH):
        q = float(np.sum(density * f(math.sqrt(gain * q) * z) ** 2))
    return q


def mean_square(module, init):
    layers = [
        nn.Sequential(nn.Linear(WIDTH, bias=False, init=init), module()) for _ in range(DEPTH)
    ]
    x = np.random.default_rng(0).standard_normal((8, WIDTH)).astype(np.float32)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True))
    with no_grad():
        y = nn.Sequential(*layers).build(WIDTH, seed=1)(x).data
    return float((y.astype(np.float64) ** 2).mean())


# The mean square of a layer's WIDTH units strays by a share whose variance is that of f**2 over its
# squared mean, 5 / WIDTH for relu and at most that for the others, and layers' strays add up: after
# 50 of them a standard deviation of sqrt(50 * 5 / 256) = 1 in the logarithm. Three are a factor
# of 20.
FACTOR = 20.0


@pytest.mark.parametrize("pair", PAIRS)
def test_fifty_layers(pair):
    module, formula, init, gain = PAIRS[pair]
    expected = mean_square_in_the_limit(formula, gain)
    assert expected / FACTOR < mean_square(module, init) < expected * FACTOR


def test_right_pairs_keep_the_mean_square_and_wrong_ones_do_not():
    """What the table above amounts to: what is kept in the limit, and what is lost."""
    found = {pair: mean_square_in_the_limit(f, gain) for pair, (_, f, _, gain) in PAIRS.items()}
    kept = {pair for pair, q in found.items() if 1 / 3 < q < 3}
    assert kept == {
        "relu, he",
        "relu, he uniform",
        "tanh, xavier with gain",
        "selu, lecun",
        "identity, orthogonal",
    }
    # tanh without a gain loses 2 q**2 a layer: 1 / (2 DEPTH + 1) is left, not a power of 1 / 2.
    assert 0.5 < found["tanh, xavier"] * (2 * DEPTH + 1) < 2
    for lost in ("relu, xavier", "relu, orthogonal", "tanh, too small"):
        assert found[lost] < 1e-14
    for grown in ("identity, he", "selu, he"):
        assert found[grown] > 100
