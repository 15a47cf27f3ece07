"""A graph run node by node: what a plan of it has to equal, bit for bit.

Reverse mode in its plainest form, over the engine's own nodes: a dictionary as `_core.Plan(graph=)`
takes it, forward in order and back in the opposite one, gradients added as they come. No schedule,
no tiles, no threads, no buffers shared.
"""

import numpy as np

from fastbp import _core


class Eager:
    """One pass of a graph over all samples.

    `values` and `gradients` are lists by number of value; a gradient that nothing reaches is None.
    `flat` is that of the parameters, one after the other, and `loss` the weighted mean.
    """

    def __init__(self, graph, params, inputs, targets, dtype, sample_weight=None):
        self.graph, self.dtype = graph, np.dtype(dtype)
        self.values = list(inputs)
        offset = 0
        for parameter in graph["parameters"]:
            size = int(np.prod(parameter["shape"]))
            part = params[offset : offset + size].reshape(parameter["shape"])
            self.values.append(np.ascontiguousarray(part))
            offset += size
        self.values += [
            constant if constant.dtype == np.int32 else constant.astype(dtype)
            for constant in graph.get("constants", ())
        ]
        self.n_samples = len(inputs[0])
        self._forward()
        self.gradients = [None] * len(self.values)
        weight = np.ones(self.n_samples, dtype) if sample_weight is None else sample_weight
        self._losses(targets, weight)
        self._backward()
        first = len(inputs)
        self.flat = np.concatenate(
            [
                np.zeros(parameter["shape"], dtype).ravel() if slope is None else slope.ravel()
                for parameter, slope in zip(
                    graph["parameters"], self.gradients[first:], strict=False
                )
            ]
        )

    def _forward(self):
        self.runs = []
        for name, attrs, inputs in self.graph["nodes"]:
            x = [self.values[v] for v in inputs]
            shapes = [a.shape for a in x]
            indices = [i for i, a in enumerate(x) if a.dtype == np.int32]
            node = _core.Node(name, shapes, dtype=self.dtype, attrs=attrs, indices=indices)
            y = node.forward(x, training=True)
            self.runs.append((node, inputs, x, y, len(self.values)))
            self.values += y[: node.n_results]

    def _arrive(self, v, slope):
        before = self.gradients[v]
        self.gradients[v] = slope if before is None else before + slope

    def _losses(self, targets, weight):
        """Each loss is the mean over a sample's positions, weighted by the samples."""
        self.loss = 0.0
        total = sum(weight.astype(np.float64).tolist())  # one after the other, as the engine
        for loss, target in zip(self.graph["losses"], targets, strict=True):
            z = self.values[loss["value"]]
            classes = target.dtype == np.int32
            node = _core.Node(
                loss["name"],
                [z.shape, target.shape],
                dtype=self.dtype,
                attrs=loss.get("attrs"),
                indices=(1,) if classes else (),
            )
            (value,) = node.forward([z, target])
            share = loss.get("factor", 1.0) / (value.size // max(1, self.n_samples))
            scale = (weight.astype(np.float64) / total * share).astype(self.dtype)
            dy = np.ascontiguousarray(
                np.broadcast_to(scale.reshape(-1, *[1] * (value.ndim - 1)), value.shape)
            )
            self.loss += float(np.sum(dy.astype(np.float64) * value))
            self._arrive(loss["value"], node.backward([z, target], [value], [dy], [True, False])[0])

    def _backward(self):
        trainable = self._trainable()
        for node, inputs, x, y, first in reversed(self.runs):
            dy = [self.gradients[first + i] for i in range(node.n_results)]
            wanted = [
                can and v in trainable for v, can in zip(inputs, node.differentiable, strict=True)
            ]
            if all(d is None for d in dy) or not any(wanted):
                continue
            slopes = node.backward(x, y, dy, wanted, training=True)
            for v, slope in zip(inputs, slopes, strict=True):
                if slope is not None:
                    self._arrive(v, slope)

    def _trainable(self):
        """Values that depend on a parameter that is not frozen."""
        first = len(self.graph["inputs"])
        found = {first + i for i, p in enumerate(self.graph["parameters"]) if not p.get("frozen")}
        for node, inputs, _, _, result in self.runs:
            if any(v in found for v in inputs):
                found |= set(range(result, result + node.n_results))
        return found
