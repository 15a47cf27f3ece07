"""The multilayer perceptron in PyTorch on the CPU, as someone skilled would write it for speed.

No modules and no data loader. All weights are views of one tensor and all biases of another, so
that the fused optimiser has two tensors to go through. Eagerly, backward adds into gradients that
stay; compiled, the whole step is one graph: gather, forward, backward and update. The arithmetic is
that of `numpy_mlp`.
"""

import math
from itertools import chain

import torch
from torch.nn import functional

from benchmarks.numpy_mlp import ALPHA, BETA_1, BETA_2, EPSILON, rate_at

# Rows, the fastest of 256 to 4,096 for 54-256-256-7, on one thread and on two.
PREDICTED_AT_ONCE = 4096
PREDICTED_AT_ONCE_BY_ONE = 256  # eagerly, on one thread


class TorchMLP:
    """relu or tanh between linear layers; softmax with cross-entropy, or half squared error.

    Parameters
    ----------
    shape : Shape
        Sizes, activation, kind of loss, batch, solver and rate.
    start : list of ndarray
        Weights and biases of each layer in turn, from which each `fit` starts.
    n_threads : int
        For all of PyTorch, in the whole process.
    compiled : bool
        By `torch.compile`, for a batch of exactly this size. Compilation is in the first call.
    """

    def __init__(self, shape, start, n_threads, *, compiled=False):
        torch.set_num_threads(n_threads)
        self.shape, self.compiled = shape, compiled
        alone = n_threads == 1 and not compiled
        self.block = PREDICTED_AT_ONCE_BY_ONE if alone else PREDICTED_AT_ONCE
        self.decay = ALPHA / shape.batch
        arrays = start[::2], start[1::2]
        self.sizes = [[tuple(array.shape) for array in part] for part in arrays]
        self.start = [torch.cat([torch.from_numpy(a).ravel() for a in part]) for part in arrays]
        self.params = [tensor.clone() for tensor in self.start]
        self.states = [[torch.zeros_like(tensor) for _ in range(2)] for tensor in self.start]
        if compiled:
            torch._dynamo.reset()  # it counts compilations of a line, and gives up after eight
            options = {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": True}}
            self._compiled_step = torch.compile(self._whole_step, **options)
            self._classes = torch.compile(self._classes, **options)

    def arrays(self, X, y):
        """The data as `fit` takes them."""
        t = torch.from_numpy(y)
        return torch.from_numpy(X), t.long() if self.shape.classifier else t

    def fit(self, X, y, *, epochs, shuffle=True):
        """Train; give the mean loss of each epoch. The number of samples is a multiple of batch."""
        torch.manual_seed(0)
        make_step = self._compiled if self.compiled else self._eager
        step, order = make_step(X, y), torch.arange(len(X))
        losses = torch.zeros(epochs, dtype=X.dtype)
        for epoch in range(epochs):
            if shuffle:
                torch.randperm(len(X), out=order)
            for picked in order.split(self.shape.batch):
                losses[epoch] += step(picked)
        return (losses * (self.shape.batch / len(X))).tolist()

    def predict(self, X):
        """Classes, in blocks."""
        with torch.inference_mode():
            blocks = torch.from_numpy(X).split(self.block)
            return torch.cat([self._classes(block, *self.params) for block in blocks]).numpy()

    def _views(self, tensors):
        """Weights and biases of each layer, as parts of the two tensors."""
        views = []
        for flat, sizes in zip(tensors, self.sizes, strict=True):
            parts = flat.split([math.prod(size) for size in sizes])
            views.append([part.view(size) for part, size in zip(parts, sizes, strict=True)])
        return views

    def _forward(self, x, weights, biases):
        activation = getattr(torch, self.shape.activation)
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            x = activation(torch.addmm(b, x, w))
        return torch.addmm(biases[-1], x, weights[-1])

    def _classes(self, x, *params):
        return self._forward(x, *self._views(params)).argmax(1)

    def _loss(self, z, t):
        if self.shape.classifier:
            return functional.cross_entropy(z, t)
        return 0.5 * functional.mse_loss(z.view(-1), t)

    def _eager(self, X, y):
        """A function that makes a step with the rows it is given."""
        params = [tensor.clone() for tensor in self.start]
        for flat in params:
            flat.grad = torch.zeros_like(flat)
        views, gradients = self._views(params), self._views([flat.grad for flat in params])
        for view, gradient in zip(chain(*views), chain(*gradients), strict=True):
            view.requires_grad_().grad = gradient
        optimiser = self._optimiser(params)
        x = torch.empty((self.shape.batch, X.shape[1]), dtype=X.dtype)
        t = torch.empty(self.shape.batch, dtype=y.dtype)
        steps = 0

        def step(picked):
            nonlocal steps
            steps += 1
            torch.index_select(X, 0, picked, out=x)
            torch.index_select(y, 0, picked, out=t)
            for flat in params:
                flat.grad.zero_()
            loss = self._loss(self._forward(x, *views), t)
            loss.backward()
            penalty = 0.5 * self.decay * torch.dot(params[0], params[0])
            if self.shape.solver == "adam":
                # PyTorch adds epsilon after the correction of the bias, the others before.
                for group in optimiser.param_groups:
                    group["eps"] = EPSILON / math.sqrt(1 - BETA_2**steps)
            optimiser.step()
            return loss.detach() + penalty

        return step

    def _optimiser(self, params):
        weights, biases = params
        groups = [{"params": [weights], "weight_decay": self.decay}, {"params": [biases]}]
        if self.shape.solver == "sgd":
            return torch.optim.SGD(groups, lr=self.shape.rate, fused=True)
        return torch.optim.Adam(groups, lr=self.shape.rate, betas=(BETA_1, BETA_2), fused=True)

    def _compiled(self, X, y):
        """A function that makes a step with the rows it is given."""
        for tensor, start in zip(self.params, self.start, strict=True):
            tensor.copy_(start)
        for state in chain(*self.states):
            state.zero_()
        steps = 0

        @torch.no_grad()
        def step(picked):
            nonlocal steps
            steps += 1
            # A tensor: a number would be a constant of the graph.
            rate = torch.tensor(rate_at(self.shape, steps), dtype=X.dtype)
            return self._compiled_step(X, y, picked, rate, self.params, self.states)

        return step

    def _whole_step(self, X, y, picked, rate, params, states):
        def loss(params, x, t):
            return self._loss(self._forward(x, *self._views(params)), t)

        gradients, value = torch.func.grad_and_value(loss)(params, X[picked], y[picked])
        value = value + 0.5 * self.decay * torch.dot(params[0], params[0])
        gradients[0] = gradients[0] + self.decay * params[0]
        for p, g, (m, v) in zip(params, gradients, states, strict=True):
            if self.shape.solver == "sgd":
                p.sub_(rate * g)
                continue
            m.mul_(BETA_1).add_(g * (1 - BETA_1))
            v.mul_(BETA_2).add_(g * g * (1 - BETA_2))
            p.sub_(rate * m / (v.sqrt() + EPSILON))
        return value
