"""A multilayer perceptron in plain NumPy, as someone skilled would write it for speed.

The same arithmetic as scikit-learn's (L2 penalty, Adam, losses), on arrays that are made once: all
weights in one flat buffer, products and elementwise work in place, no allocation a step beyond what
NumPy itself needs. It checks nothing and can do no more than the benchmarks ask for.
"""

from itertools import pairwise

import numpy as np

BETA_1, BETA_2, EPSILON, ALPHA = 0.9, 0.999, 1e-8, 1e-4


def rate_at(shape, step):
    """What a step multiplies by, with Adam's corrections of the bias; `step` counts from 1."""
    if shape.solver == "sgd":
        return np.full(np.shape(step), shape.rate)
    return shape.rate * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)


class NumpyMLP:
    """relu or tanh between linear layers; softmax with cross-entropy, or half squared error.

    Parameters
    ----------
    shape : Shape
        Sizes, activation, kind of loss, batch, solver and rate.
    start : list of ndarray
        Weights and biases of each layer in turn, from which each `fit` starts.
    """

    def __init__(self, shape, start):
        self.shape = shape
        dtype = start[0].dtype
        self.start = np.concatenate([array.ravel() for array in start])
        self.params = self.start.copy()
        self.gradient, self.m, self.v, self.scratch = (np.zeros_like(self.params) for _ in range(4))
        self.w, self.b = self._views(self.params)
        self.dw, self.db = self._views(self.gradient)
        self.a = [np.empty((shape.batch, n), dtype) for n in shape.sizes]
        self.delta = [np.empty((shape.batch, n), dtype) for n in shape.sizes[1:]]
        slopes = bool if shape.activation == "relu" else dtype
        self.slope = [np.empty((shape.batch, n), slopes) for n in shape.sizes[1:-1]]
        self.rows = np.arange(shape.batch)

    def arrays(self, X, y):
        """The data as `fit` takes them."""
        return X, y

    def _views(self, flat):
        weights, biases, at = [], [], 0
        for n_in, n_out in pairwise(self.shape.sizes):
            weights.append(flat[at : at + n_in * n_out].reshape(n_in, n_out))
            at += n_in * n_out
            biases.append(flat[at : at + n_out])
            at += n_out
        return weights, biases

    def fit(self, X, y, *, epochs, shuffle=True):
        """Train; give the mean loss of each epoch. The number of samples is a multiple of batch."""
        np.copyto(self.params, self.start)
        self.m.fill(0)
        self.v.fill(0)
        self.step = 0
        rng = np.random.default_rng(0)
        n, batch = len(X), self.shape.batch
        order = np.arange(n)
        losses = []
        for _ in range(epochs):
            if shuffle:
                rng.shuffle(order)
            total = 0.0
            for first in range(0, n, batch):
                picked = order[first : first + batch]
                # "clip" writes straight into `out`; the default mode goes by way of a copy.
                np.take(X, picked, axis=0, out=self.a[0], mode="clip")
                total += self._loss_and_gradient(y[picked])
                self._update()
            losses.append(total * batch / n)
        return losses

    def predict(self, X):
        """Classes, in blocks of the batch's size: they stay in cache."""
        out = np.empty(len(X), np.intp)
        for first in range(0, len(X), self.shape.batch):
            block = X[first : first + self.shape.batch]
            raw = self._forward(block, len(block))
            raw.argmax(axis=1, out=out[first : first + len(block)])
        return out

    def _forward(self, x, n):
        last = len(self.w) - 1
        for layer, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            y = self.a[layer + 1][:n]
            np.matmul(x, w, out=y)
            y += b
            if layer < last and self.shape.activation == "relu":
                np.maximum(y, 0, out=y)
            elif layer < last:
                np.tanh(y, out=y)
            x = y
        return x

    def _loss_and_gradient(self, t):
        n = self.shape.batch
        z = self._forward(self.a[0], n)
        delta = self.delta[-1]
        loss = (self._softmax if self.shape.classifier else self._squares)(z, t, delta)
        delta /= n
        for layer in range(len(self.w) - 1, -1, -1):
            delta, w, dw = self.delta[layer], self.w[layer], self.dw[layer]
            np.matmul(self.a[layer].T, delta, out=dw)
            np.sum(delta, axis=0, out=self.db[layer])
            penalised = self.scratch[: w.size].reshape(w.shape)
            np.multiply(w, ALPHA / n, out=penalised)
            dw += penalised
            loss += 0.5 * ALPHA * np.vdot(w, w)
            if layer > 0:
                below, a = self.delta[layer - 1], self.a[layer]
                np.matmul(delta, w.T, out=below)
                slope = self.slope[layer - 1]
                if self.shape.activation == "relu":
                    np.greater(a, 0, out=slope)
                else:
                    np.multiply(a, a, out=slope)
                    np.subtract(1, slope, out=slope)
                below *= slope
        return loss / n

    def _softmax(self, z, t, delta):
        np.subtract(z, z.max(axis=1, keepdims=True), out=delta)
        chosen = delta[self.rows, t].sum()
        np.exp(delta, out=delta)
        total = delta.sum(axis=1, keepdims=True)
        delta /= total
        delta[self.rows, t] -= 1
        return np.log(total).sum() - chosen

    def _squares(self, z, t, delta):
        np.subtract(z, t.reshape(z.shape), out=delta)
        return 0.5 * np.vdot(delta, delta)

    def _update(self):
        self.step += 1
        g, m, v, scratch = self.gradient, self.m, self.v, self.scratch
        if self.shape.solver == "sgd":
            g *= self.shape.rate
            self.params -= g
            return
        m *= BETA_1
        np.multiply(g, 1 - BETA_1, out=scratch)
        m += scratch
        v *= BETA_2
        g *= g
        g *= 1 - BETA_2
        v += g
        np.sqrt(v, out=scratch)
        scratch += EPSILON
        np.divide(m, scratch, out=scratch)
        scratch *= float(rate_at(self.shape, self.step))
        self.params -= scratch
