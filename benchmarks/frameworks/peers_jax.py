"""The multilayer perceptron in JAX on the CPU, as someone skilled would write it for speed.

All epochs are one compiled scan over their shuffled batches, with Adam by hand and with parameters
and states whose memory is given to the results: a call an epoch would cost the smallest networks
more than the steps do. The arithmetic is that of `numpy_mlp`.

XLA makes as many threads as the process has cores when it first computes, and cannot be told
otherwise later: who wants fewer threads starts the process on fewer cores, as `table` does.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.numpy_mlp import ALPHA, BETA_1, BETA_2, EPSILON, rate_at

jax.config.update("jax_platforms", "cpu")

PREDICTED_AT_ONCE = 4096  # rows, which was the fastest of 256 to 65,536 for 54-256-256-7


class JaxMLP:
    """relu or tanh between linear layers; softmax with cross-entropy, or half squared error.

    Compilation is in the first call.

    Parameters
    ----------
    shape : Shape
        Sizes, activation, kind of loss, batch, solver and rate.
    start : list of ndarray
        Weights and biases of each layer in turn, from which each `fit` starts.
    """

    def __init__(self, shape, start):
        self.shape = shape
        self.dtype = start[0].dtype
        self.start = list(zip(start[::2], start[1::2], strict=True))
        self._train = jax.jit(self._train, donate_argnums=0)
        self._classes = jax.jit(self._classes)
        with self._precision():
            self.params = jax.device_put(self.start)

    def arrays(self, X, y):
        """The data as `fit` takes them."""
        with self._precision():
            return jnp.array(X), jnp.array(y)

    def fit(self, X, y, *, epochs, shuffle=True):
        """Train; give the mean loss of each epoch. The number of samples is a multiple of batch."""
        orders = np.tile(np.arange(len(X), dtype=np.int32), (epochs, 1))
        if shuffle:
            np.random.default_rng(0).permuted(orders, axis=1, out=orders)
        orders = orders.reshape(-1, self.shape.batch)
        rates = rate_at(self.shape, np.arange(1, len(orders) + 1)).astype(self.dtype)
        with self._precision():
            params = jax.tree.map(jnp.array, self.start)
            m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
            (self.params, _, _), losses = self._train((params, m, v), X, y, (orders, rates))
            return np.asarray(losses).reshape(epochs, -1).mean(axis=1)

    def predict(self, X):
        """Classes, in blocks."""
        with self._precision():
            blocks = range(0, len(X), PREDICTED_AT_ONCE)
            found = [self._classes(self.params, X[i : i + PREDICTED_AT_ONCE]) for i in blocks]
            return np.concatenate(found)

    def _precision(self):
        return jax.enable_x64(self.dtype == np.float64)

    def _forward(self, params, x):
        activation = jax.nn.relu if self.shape.activation == "relu" else jnp.tanh
        for w, b in params[:-1]:
            x = activation(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    def _classes(self, params, x):
        return self._forward(params, x).argmax(axis=1)

    def _loss(self, params, x, t):
        z = self._forward(params, x)
        if self.shape.classifier:
            chosen = jnp.take_along_axis(z, t[:, None], axis=1, mode="promise_in_bounds")
            loss = jnp.mean(jax.nn.logsumexp(z, axis=1) - chosen[:, 0])
        else:
            loss = 0.5 * jnp.mean((z[:, 0] - t) ** 2)
        return loss + 0.5 * ALPHA / len(x) * sum(jnp.vdot(w, w) for w, _ in params)

    def _train(self, carried, X, y, batches):
        def step(carried, batch):
            params, m, v = carried
            picked, rate = batch
            x, t = (a.at[picked].get(mode="promise_in_bounds") for a in (X, y))
            loss, g = jax.value_and_grad(self._loss)(params, x, t)
            if self.shape.solver == "sgd":
                return (jax.tree.map(lambda p, g: p - rate * g, params, g), m, v), loss
            m = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, m, g)
            v = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, v, g)
            params = jax.tree.map(
                lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), params, m, v
            )
            return (params, m, v), loss

        return jax.lax.scan(step, carried, batches)
