"""Every row of the engine's table in plain NumPy, float64: an independent witness.

Here is what each row ought to compute, written for the eye and not for speed: activations with two
derivatives, losses with gradient and Hessian-vector product, links, update rules, and a whole
multilayer perceptron. It refuses to import anything of fastbp, and it shares no formula with the C
core beyond the definitions themselves: where a textbook form overflows, SciPy's special functions
stand in its place.

A row of the table has one entry below, under its name. All families stand in this one long file,
since they lean on each other (losses on the functions of activations, the perceptron on all), and
whoever adds a row looks in one place. `defaults` are the documented defaults of its attributes,
which the table has to match. `kinks` tells the tests where a derivative jumps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.special import erf, expit, log_softmax, ndtr, softmax, xlogy

# ------------------------------------------------------------------------------------- activations


@dataclass(frozen=True)
class Activation:
    """y = value(x), its first and its second derivative by x, elementwise.

    `kinks` are the x at which one of the derivatives jumps. The first derivative there is a
    convention, which `first` states; the second is left open. `domain(**attrs)` is the open
    interval in which there is a value.
    """

    value: Callable
    first: Callable
    second: Callable
    defaults: dict = field(default_factory=dict)
    kinks: tuple = ()
    domain: Callable = lambda **attrs: (-np.inf, np.inf)


def sech2(x):
    """1 - tanh(x)^2, without the cancellation."""
    return 4 * expit(2 * x) * expit(-2 * x)


def bump(x):
    """s (1 - s), the derivative of the logistic function s."""
    return expit(x) * expit(-x)


def normal_density(x):
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def gelu_tanh_argument(x):
    """u of y = x (1 + tanh u) / 2, and its two derivatives (Hendrycks and Gimpel 2016)."""
    c = np.sqrt(2 / np.pi)
    return c * (x + 0.044715 * x**3), c * (1 + 3 * 0.044715 * x**2), c * 6 * 0.044715 * x


def gelu_tanh_first(x):
    u, u1, _ = gelu_tanh_argument(x)
    return expit(2 * u) + 0.5 * x * sech2(u) * u1


def gelu_tanh_second(x):
    u, u1, u2 = gelu_tanh_argument(x)
    return sech2(u) * (u1 + 0.5 * x * (u2 - 2 * np.tanh(u) * u1**2))


def softplus(x):
    return np.logaddexp(0, x)


def mish_first(x):
    return np.tanh(softplus(x)) + x * expit(x) * sech2(softplus(x))


def mish_second(x):
    w, s, d = np.tanh(softplus(x)), expit(x), sech2(softplus(x))
    return d * (2 * s + x * (s * (1 - s) - 2 * w * s**2))


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_first(x, alpha):
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def elu_second(x, alpha):
    return np.where(x > 0, 0, alpha * np.exp(np.minimum(x, 0)))


# Klambauer et al. 2017: the fixed point with mean 0 and variance 1.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

ACTIVATIONS = {
    "identity": Activation(lambda x: x, np.ones_like, np.zeros_like),
    "logistic": Activation(expit, bump, lambda x: -bump(x) * np.tanh(x / 2)),
    "tanh": Activation(np.tanh, sech2, lambda x: -2 * np.tanh(x) * sech2(x)),
    "relu": Activation(
        lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1, 0), np.zeros_like, kinks=(0.0,)
    ),
    "leaky_relu": Activation(
        lambda x, slope: np.where(x > 0, x, slope * x),
        lambda x, slope: np.where(x > 0, 1, slope),
        lambda x, slope: np.zeros_like(x),
        defaults={"slope": 0.01},
        kinks=(0.0,),
    ),
    "elu": Activation(elu, elu_first, elu_second, defaults={"alpha": 1.0}, kinks=(0.0,)),
    "selu": Activation(
        lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
        lambda x: SELU_SCALE * elu_first(x, SELU_ALPHA),
        lambda x: SELU_SCALE * elu_second(x, SELU_ALPHA),
        kinks=(0.0,),
    ),
    "softplus": Activation(softplus, expit, bump),
    "softsign": Activation(
        lambda x: x / (1 + np.abs(x)),
        lambda x: 1 / (1 + np.abs(x)) ** 2,
        lambda x: -2 * np.sign(x) / (1 + np.abs(x)) ** 3,
        kinks=(0.0,),
    ),
    "silu": Activation(
        lambda x, beta: x * expit(beta * x),
        lambda x, beta: expit(beta * x) + beta * x * bump(beta * x),
        lambda x, beta: beta * bump(beta * x) * (2 - beta * x * np.tanh(beta * x / 2)),
        defaults={"beta": 1.0},
    ),
    "gelu": Activation(
        lambda x: x * ndtr(x),
        lambda x: ndtr(x) + x * normal_density(x),
        lambda x: (2 - x**2) * normal_density(x),
    ),
    "gelu_tanh": Activation(
        lambda x: x * expit(2 * gelu_tanh_argument(x)[0]), gelu_tanh_first, gelu_tanh_second
    ),
    "mish": Activation(lambda x: x * np.tanh(softplus(x)), mish_first, mish_second),
    "hard_tanh": Activation(
        lambda x: np.clip(x, -1, 1),
        lambda x: np.where(np.abs(x) < 1, 1, 0),
        np.zeros_like,
        kinks=(-1.0, 1.0),
    ),
}

# --------------------------------------------------------------------------------------- functions

# Elementwise functions that are no activations, in the same form.


def times_power(factor, x, exponent):
    """factor x^exponent, 0 where the factor is."""
    return factor * np.power(x, exponent) if factor != 0 else np.zeros_like(x)


def positive(**attrs):
    return 0.0, np.inf


def erf_first(x):
    return 2 / np.sqrt(np.pi) * np.exp(-(x**2))


FUNCTIONS = {
    "exp": Activation(np.exp, np.exp, np.exp),
    "expm1": Activation(np.expm1, np.exp, np.exp),
    "log": Activation(np.log, lambda x: 1 / x, lambda x: -1 / x**2, domain=positive),
    "log1p": Activation(
        np.log1p,
        lambda x: 1 / (1 + x),
        lambda x: -1 / (1 + x) ** 2,
        domain=lambda: (-1.0, np.inf),
    ),
    "erf": Activation(lambda x: erf(np.float64(x)), erf_first, lambda x: -2 * x * erf_first(x)),
    "negative": Activation(np.negative, lambda x: -np.ones_like(x), np.zeros_like),
    "absolute": Activation(np.abs, np.sign, np.zeros_like, kinks=(0.0,)),
    "sign": Activation(np.sign, np.zeros_like, np.zeros_like, kinks=(0.0,)),
    "square": Activation(np.square, lambda x: 2 * x, lambda x: np.full_like(x, 2)),
    "sqrt": Activation(
        np.sqrt,
        lambda x: 0.5 / np.sqrt(x),
        lambda x: -0.25 / (x * np.sqrt(x)),
        domain=positive,
    ),
    "reciprocal": Activation(
        lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, kinks=(0.0,)
    ),
    "power": Activation(
        lambda x, exponent: np.power(x, exponent),
        lambda x, exponent: times_power(exponent, x, exponent - 1),
        lambda x, exponent: times_power(exponent * (exponent - 1), x, exponent - 2),
        kinks=(0.0,),
        domain=lambda exponent: (-np.inf if exponent == round(exponent) else 0.0, np.inf),
    ),
    "clip": Activation(
        lambda x, low, high: np.clip(x, low, high),
        lambda x, low, high: np.where((x >= low) & (x <= high), 1, 0),
        lambda x, low, high: np.zeros_like(x),
        defaults={"low": -np.inf, "high": np.inf},
        kinks=(-0.7, 0.7),
    ),
}

# ------------------------------------------------------------------------------------------ losses


@dataclass(frozen=True)
class Loss:
    """One value per sample, of the raw output z (n, K) and the target t.

    `value` gives (n,), `gradient` d value / d z (n, K), `hvp` the product of the Hessian of each
    sample with dz (n, K). `link` and `target` are as in the table. `kinks(t)`, of targets with
    shape (n, K), lists the z at which the gradient or the second derivative jumps; the gradient
    there is a convention, which `gradient` states.
    """

    value: Callable
    gradient: Callable
    hvp: Callable
    link: str
    target: str
    defaults: dict = field(default_factory=dict)
    kinks: Callable = lambda t, **attrs: ()


def elementwise(value, first, second, **fields):
    """A loss that is a sum over outputs of value(z, t)."""
    return Loss(
        lambda z, t, **attrs: np.sum(value(z, t, **attrs), axis=1),
        first,
        lambda z, t, dz, **attrs: second(z, t, **attrs) * dz,
        **fields,
    )


def signs(t):
    """-1 and 1 for the targets 0 and 1."""
    return 2.0 * t - 1.0


def smoothed(t, n_classes, smoothing):
    """Shares of classes: what is taken from the true one goes to all (Szegedy et al. 2016)."""
    return (1 - smoothing) * t + smoothing / n_classes


def binary_cross_entropy(z, share):
    return share * softplus(-z) + (1 - share) * softplus(z)


def binary_slope(z, share):
    return (1 - share) * expit(z) - share * expit(-z)


def focal_value(z, t, gamma):
    """-(1 - p)^gamma log p, where p is the probability given to the target (Lin et al. 2017)."""
    u = signs(t) * z
    return expit(-u) ** gamma * softplus(-u)


def focal_first(z, t, gamma):
    u = signs(t) * z
    p, q, loss = expit(u), expit(-u), softplus(-u)
    return -signs(t) * q**gamma * (gamma * p * loss + q)


def focal_second(z, t, gamma):
    u = signs(t) * z
    p, q, loss = expit(u), expit(-u), softplus(-u)
    return q**gamma * p * (gamma * (gamma * p * loss + 2 * q - q * loss) + q)


def one_hot(t, n_classes):
    return np.eye(n_classes)[t]


def of_class(a, t):
    """The entry of each row of a (n, K) that belongs to its class: (n, 1)."""
    return np.take_along_axis(a, np.asarray(t, dtype=np.intp)[:, None], axis=1)


def cross_entropy(z, t, smoothing):
    shares = smoothed(one_hot(t, z.shape[1]), z.shape[1], smoothing)
    return -np.sum(shares * log_softmax(z, axis=1), axis=1)


def softmax_hvp(p, dz):
    """dp along dz, where p = softmax(z)."""
    return p * (dz - np.sum(p * dz, axis=1, keepdims=True))


def softmax_focal_parts(z, t):
    """log p, p and q = 1 - p of the target's class, and log p / q, which tends to -1 as q to 0."""
    log_p = of_class(log_softmax(z, axis=1), t)
    q = -np.expm1(log_p)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(q > 0, log_p / q, -1.0)
    return log_p, np.exp(log_p), q, ratio


def softmax_focal_value(z, t, gamma):
    log_p, _, q, _ = softmax_focal_parts(z, t)
    return (-(q**gamma) * log_p)[:, 0]


def softmax_focal_slope(z, t, gamma):
    """d value / d log p: (n, 1). With l = log p: gamma q^(gamma-1) p l - q^gamma."""
    _, p, q, ratio = softmax_focal_parts(z, t)
    return q**gamma * (gamma * p * ratio - 1)


def softmax_focal_gradient(z, t, gamma):
    p = softmax(z, axis=1)
    return softmax_focal_slope(z, t, gamma) * (one_hot(t, z.shape[1]) - p)


def softmax_focal_hvp(z, t, dz, gamma):
    log_p, p, q, ratio = softmax_focal_parts(z, t)
    probabilities = softmax(z, axis=1)
    hot = one_hot(t, z.shape[1])
    d_probabilities = softmax_hvp(probabilities, dz)
    d_log_p = of_class(dz, t) - np.sum(probabilities * dz, axis=1, keepdims=True)
    # For gamma < 1 the power is infinite at q = 0, where the class's p - 1 = -q makes up for it.
    power = np.maximum(q, np.finfo(np.float64).tiny) ** (gamma - 1)
    d_slope = gamma * power * p * (log_p + 2 - (gamma - 1) * p * ratio) * d_log_p
    return d_slope * (hot - probabilities) - softmax_focal_slope(z, t, gamma) * d_probabilities


LOSSES = {
    "squared_error": elementwise(
        lambda z, t: 0.5 * (z - t) ** 2,
        lambda z, t: z - t,
        lambda z, t: np.ones_like(z),
        link="identity",
        target="real",
    ),
    "absolute_error": elementwise(
        lambda z, t: np.abs(z - t),
        lambda z, t: np.sign(z - t),
        lambda z, t: np.zeros_like(z),
        link="identity",
        target="real",
        kinks=lambda t: (t,),
    ),
    "huber": elementwise(
        lambda z, t, delta: np.where(
            np.abs(z - t) <= delta, 0.5 * (z - t) ** 2, delta * (np.abs(z - t) - 0.5 * delta)
        ),
        lambda z, t, delta: np.clip(z - t, -delta, delta),
        lambda z, t, delta: np.where(np.abs(z - t) < delta, 1.0, 0.0),
        link="identity",
        target="real",
        defaults={"delta": 1.0},
        kinks=lambda t, delta: (t - delta, t + delta),
    ),
    "quantile": elementwise(
        lambda z, t, quantile: np.maximum(quantile * (t - z), (quantile - 1) * (t - z)),
        lambda z, t, quantile: np.where(z < t, -quantile, np.where(z > t, 1 - quantile, 0)),
        lambda z, t, quantile: np.zeros_like(z),
        link="identity",
        target="real",
        defaults={"quantile": 0.5},
        kinks=lambda t, quantile: (t,),
    ),
    "poisson": elementwise(
        lambda z, t: xlogy(t, t) - t * z - t + np.exp(z),
        lambda z, t: np.exp(z) - t,
        lambda z, t: np.exp(z),
        link="exp",
        target="nonnegative",
    ),
    "sigmoid_cross_entropy": elementwise(
        lambda z, t, smoothing: binary_cross_entropy(z, smoothed(t, 2, smoothing)),
        lambda z, t, smoothing: binary_slope(z, smoothed(t, 2, smoothing)),
        lambda z, t, smoothing: bump(z),
        link="logistic",
        target="binary",
        defaults={"smoothing": 0.0},
    ),
    "focal": elementwise(
        focal_value,
        focal_first,
        focal_second,
        link="logistic",
        target="binary",
        defaults={"gamma": 2.0},
    ),
    "hinge": elementwise(
        lambda z, t: np.maximum(0, 1 - signs(t) * z),
        lambda z, t: np.where(signs(t) * z < 1, -signs(t), 0),
        lambda z, t: np.zeros_like(z),
        link="identity",
        target="binary",
        kinks=lambda t: (signs(t),),
    ),
    "softmax_cross_entropy": Loss(
        cross_entropy,
        lambda z, t, smoothing: (
            softmax(z, axis=1) - smoothed(one_hot(t, z.shape[1]), z.shape[1], smoothing)
        ),
        lambda z, t, dz, smoothing: softmax_hvp(softmax(z, axis=1), dz),
        link="softmax",
        target="class",
        defaults={"smoothing": 0.0},
    ),
    "softmax_focal": Loss(
        softmax_focal_value,
        softmax_focal_gradient,
        softmax_focal_hvp,
        link="softmax",
        target="class",
        defaults={"gamma": 2.0},
    ),
}

# From the raw output z (n, K) to the prediction.
LINKS = {
    "identity": lambda z: z,
    "logistic": expit,
    "softmax": lambda z: softmax(z, axis=1),
    "exp": np.exp,
}

# ------------------------------------------------------------------------------------ update rules


def sum_squares(x):
    """In float64, in 16 interleaved chains that are then folded in half until one is left."""
    lanes = np.zeros((-(-x.size // 16) + 1, 16))
    lanes[1:].flat[: x.size] = x
    lanes = np.add.accumulate(lanes * lanes)[-1]
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return lanes[0]


def clip(g, squares, clip_norm=None, clip_value=None):
    """Clip g in place as torch.nn.utils does, by the norm that these sums of squares make, or by
    value; return the norm."""
    norm = np.sqrt(np.add.accumulate([0.0, *squares])[-1])
    if clip_norm is not None:
        g *= g.dtype.type(min(1, clip_norm / (norm + 1e-6)))
    if clip_value is not None:
        np.clip(g, -g.dtype.type(clip_value), g.dtype.type(clip_value), out=g)
    return norm


@dataclass(frozen=True)
class Rule:
    """update(w, g, states, rate, step, **attrs) changes w and the states in place.

    All arithmetic is in the dtype of w, one rounding an operation, in the order written. Scalars
    are worked out in float64 and rounded to that dtype once.
    """

    update: Callable
    n_states: int
    defaults: dict = field(default_factory=dict)


def sgd(w, g, states, rate, step):
    rate = w.dtype.type(rate)
    w -= rate * g


def momentum(w, g, states, rate, step, momentum):
    (v,) = states
    rate, mu = w.dtype.type(rate), w.dtype.type(momentum)
    v[:] = mu * v - rate * g
    w += v


def nesterov(w, g, states, rate, step, momentum):
    (v,) = states
    rate, mu = w.dtype.type(rate), w.dtype.type(momentum)
    v[:] = mu * v - rate * g
    w += mu * v - rate * g


def adagrad(w, g, states, rate, step, epsilon):
    """Duchi, Hazan and Singer (2011): every squared gradient counts for ever."""
    (total,) = states
    real = w.dtype.type
    total += g * g
    w -= real(rate) * g / (np.sqrt(total) + real(epsilon))


def rmsprop(w, g, states, rate, step, rho, epsilon):
    """Tieleman and Hinton (2012): they fade."""
    (v,) = states
    real = w.dtype.type
    v[:] = real(rho) * v + real(1 - rho) * (g * g)
    w -= real(rate) * g / (np.sqrt(v) + real(epsilon))


def adadelta(w, g, states, rate, step, rho, epsilon):
    """Zeiler (2012), algorithm 1: the root mean square of steps over that of gradients, times g."""
    v, u = states
    real = w.dtype.type
    v[:] = real(rho) * v + real(1 - rho) * (g * g)
    change = np.sqrt(u + real(epsilon)) / np.sqrt(v + real(epsilon)) * g
    u[:] = real(rho) * u + real(1 - rho) * (change * change)
    w -= real(rate) * change


def moments(g, states, beta_1, beta_2):
    """The running means of g and of its square (Kingma and Ba 2015)."""
    m, v = states
    real = g.dtype.type
    m[:] = real(beta_1) * m + real(1 - beta_1) * g
    v[:] = real(beta_2) * v + real(1 - beta_2) * (g * g)
    return m, v


def adam(w, g, states, rate, step, beta_1, beta_2, epsilon):
    m, v = moments(g, states, beta_1, beta_2)
    real = w.dtype.type
    corrected = real(rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step))
    w += -corrected * m / (np.sqrt(v) + real(epsilon))


def adamw(w, g, states, rate, step, beta_1, beta_2, epsilon, weight_decay):
    real = w.dtype.type
    w -= real(rate * weight_decay) * w
    m, v = moments(g, states, beta_1, beta_2)
    size = real(rate / (1 - beta_1**step))
    root = real(np.sqrt(1 - beta_2**step))
    w -= size * m / (np.sqrt(v) / root + real(epsilon))


def amsgrad(w, g, states, rate, step, beta_1, beta_2, epsilon):
    """Reddi, Kale and Kumar (2018), with PyTorch's corrections: never a larger step than before."""
    m, v = moments(g, states[:2], beta_1, beta_2)
    np.maximum(states[2], v, out=states[2])
    real = w.dtype.type
    size = real(rate / (1 - beta_1**step))
    root = real(np.sqrt(1 - beta_2**step))
    w -= size * m / (np.sqrt(states[2]) / root + real(epsilon))


def nadam(w, g, states, rate, step, beta_1, beta_2, epsilon, momentum_decay):
    """Dozat (2016), with PyTorch's schedule of the momentum."""
    m, v = moments(g, states, beta_1, beta_2)
    now, after = (beta_1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    # The momenta are beta_1 (1 - q^t / 2): here multiplied to the last, however small.
    q = np.cumprod(np.full(step, 0.96**momentum_decay))
    product = np.cumprod([beta_1**step, *(1 - 0.5 * q)])[-1]
    real = w.dtype.type
    of_g = real(rate * (1 - now) / (1 - product))
    of_m = real(rate * after / (1 - product * after))
    w -= (of_g * g + of_m * m) / (np.sqrt(v / real(1 - beta_2**step)) + real(epsilon))


def lion(w, g, states, rate, step, beta_1, beta_2, weight_decay):
    """Chen et al. (2023), algorithm 2."""
    (m,) = states
    real = w.dtype.type
    direction = np.sign(real(beta_1) * m + real(1 - beta_1) * g)
    w -= real(rate * weight_decay) * w
    w -= real(rate) * direction
    m[:] = real(beta_2) * m + real(1 - beta_2) * g


def lamb(w, g, states, rate, step, beta_1, beta_2, epsilon, weight_decay):
    """You et al. (2020), algorithm 2, with phi the identity; w is one tensor."""
    m, v = moments(g, states, beta_1, beta_2)
    real = w.dtype.type
    root = real(np.sqrt(1 - beta_2**step))
    adam = real(1 / (1 - beta_1**step)) * m / (np.sqrt(v) / root + real(epsilon))
    direction = adam + real(weight_decay) * w
    norms = np.sqrt(sum_squares(w)), np.sqrt(sum_squares(direction))
    ratio = norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1
    w -= real(rate) * real(ratio) * direction


ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
RULES = {
    "sgd": Rule(sgd, 0),
    "momentum": Rule(momentum, 1, {"momentum": 0.9}),
    "nesterov": Rule(nesterov, 1, {"momentum": 0.9}),
    "adagrad": Rule(adagrad, 1, {"epsilon": 1e-10}),
    "rmsprop": Rule(rmsprop, 1, {"rho": 0.99, "epsilon": 1e-8}),
    "adadelta": Rule(adadelta, 2, {"rho": 0.9, "epsilon": 1e-6}),
    "adam": Rule(adam, 2, ADAM),
    "adamw": Rule(adamw, 2, {**ADAM, "weight_decay": 0.01}),
    "amsgrad": Rule(amsgrad, 3, ADAM),
    "nadam": Rule(nadam, 2, {**ADAM, "momentum_decay": 0.004}),
    "lamb": Rule(lamb, 2, {**ADAM, "epsilon": 1e-6, "weight_decay": 0.01}),
    "lion": Rule(lion, 1, {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.0}),
}

# ------------------------------------------------------------------------------------- the network

# Rows with parameters, which the perceptron below stands for.
OPS = ("linear", "linear_csr")


def dense(x):
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)


@dataclass
class MLP:
    """A multilayer perceptron from the rows above, with the arguments of the engine's plan.

    Parameters lie in one flat vector: W of the first layer (n_in, n_out) row by row, its b
    (n_out,), then those of the next. loss = (sum_i s_i l_i + alpha/2 sum W^2) / sum_i s_i.
    """

    n_inputs: int
    layers: list  # [("linear", {"units": 3}), ("tanh", {}), ("linear", {"units": 1})]
    loss: tuple  # ("squared_error", {})

    def __post_init__(self):
        # One (units, activation) a linear row; the last activation is the identity.
        self.steps = []
        for name, attrs in self.layers:
            if name == "linear":
                self.steps.append([int(attrs["units"]), ("identity", {})])
            else:
                self.steps[-1][1] = (name, {**ACTIVATIONS[name].defaults, **attrs})
        name, attrs = self.loss
        self.row = LOSSES[name]
        self.loss_attrs = {**self.row.defaults, **attrs}
        self.sizes = [self.n_inputs, *(units for units, _ in self.steps)]
        self.n_params = sum((a + 1) * b for a, b in pairwise(self.sizes))

    def unpack(self, params):
        """[(W, b), ...] as views of the flat vector."""
        tensors, start = [], 0
        for n_in, n_out in pairwise(self.sizes):
            w = params[start : start + n_in * n_out].reshape(n_in, n_out)
            start += n_in * n_out
            b = params[start : start + n_out]
            start += n_out
            tensors.append((w, b))
        return tensors

    def forward(self, params, x):
        """The z and the a = f(z) of every layer; z of the last is the raw output."""
        a, trace = dense(x), []
        for (w, b), (_, (name, attrs)) in zip(self.unpack(params), self.steps, strict=True):
            z = a @ w + b
            a = ACTIVATIONS[name].value(z, **attrs)
            trace.append((z, a))
        return trace

    def raw(self, params, x):
        return self.forward(params, x)[-1][0]

    def predict(self, params, x):
        return LINKS[self.row.link](self.raw(params, x))

    def loss_gradient(self, params, x, y, sample_weight=None, alpha=0.0):
        """The loss and its gradient by every parameter."""
        loss, deltas, trace = self.deltas(params, x, y, sample_weight)
        total = float(len(y) if sample_weight is None else np.sum(sample_weight, dtype=np.float64))
        gradient = np.zeros(self.n_params)
        inputs = [dense(x), *(a for _, a in trace)]
        for (dw, db), (w, _), a, delta in zip(
            self.unpack(gradient), self.unpack(params), inputs, deltas, strict=False
        ):
            dw += a.T @ delta + alpha * w / total
            db += delta.sum(axis=0)
            loss += 0.5 * alpha * np.sum(w**2) / total
        return loss, gradient

    def deltas(self, params, x, y, sample_weight=None):
        """The loss without penalty, delta = d loss / d z of each layer, and the forward trace."""
        trace = self.forward(params, x)
        z = trace[-1][0]
        s = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        y = y if self.row.target == "class" else np.asarray(y, np.float64)
        loss = np.sum(s * self.row.value(z, y, **self.loss_attrs)) / np.sum(s)
        deltas = [s[:, None] * self.row.gradient(z, y, **self.loss_attrs) / np.sum(s)]
        below = list(zip(self.unpack(params)[1:], trace, self.steps, strict=False))
        for (w, _), (z, _), (_, (name, attrs)) in reversed(below):
            deltas.append((deltas[-1] @ w.T) * ACTIVATIONS[name].first(z, **attrs))
        return loss, deltas[::-1], trace
