"""How long each row of the engine's table takes by itself. A new row is here without a line of its
own.

All times are of calls through Python, in float32 on one thread: marshalling and the result's memory
are in them, some microseconds of tens.
"""

import json
import subprocess
import sys

import numpy as np

SAMPLES, UNITS, CLASSES = 256, 256, 10
ELEMENTS = SAMPLES * UNITS

_LIST = """
import json
from fastbp import _core
print(json.dumps([("sparse" if r["reads_sparse"] else r["kind"], r["name"]) for r in _core.table()]
                 + [("elementary", name) for name in _core.build_info()["elementary"]]))
"""


def _names():
    """The table's rows by kind, from a process of its own: see `benchmarks.__init__`."""
    listed = subprocess.run([sys.executable, "-c", _LIST], check=True, capture_output=True)
    names = {}
    for kind, name in json.loads(listed.stdout):
        names.setdefault(kind, []).append(name)
    return names


ROWS = _names()


def _inputs(shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


class _Row:
    """A benchmark with one row of the table as its parameter."""

    param_names = ("row",)

    def setup(self, name):
        from fastbp import _core, testing

        self.core, self.testing = _core, testing
        self.x = _inputs(ELEMENTS)


class Elementary(_Row):
    """One of the functions that activations and losses are made of, on 65,536 numbers."""

    params = (ROWS["elementary"],)

    def time_value(self, name):
        self.core.elementary(name, self.x)


class Activation(_Row):
    """An activation or function on 65,536 numbers, and its derivative.

    The derivative's limit: where backward reads the output, making that is in the time. Numbers are
    positive, since others are none of the domain of some.
    """

    params = (ROWS["activation"] + ROWS["function"],)

    def setup(self, name):
        super().setup(name)
        self.x = np.abs(self.x)
        cases = (*self.testing.cases("activation"), *self.testing.cases("function"))
        self.attrs = next(case.attrs for case in cases if case.name == name)

    def time_value(self, name):
        self.core.activation(name, self.x, self.attrs)

    def time_derivative(self, name):
        self.core.activation(name, self.x, self.attrs, order=1)


class Loss(_Row):
    """A loss and its gradient for 256 samples of 10 outputs.

    Its limit: copying to and from padded rows is in the time, which training does not do.
    """

    params = (ROWS["loss"],)

    def setup(self, name):
        super().setup(name)
        case = next(c for c in self.testing.cases("loss", attributes=False) if c.name == name)
        self.z, self.t = self.testing.loss_inputs(case, SAMPLES, CLASSES, np.float32)

    def time_value_and_gradient(self, name):
        self.core.loss(name, self.z, self.t)


class Fused:
    """Softmax and cross-entropy of 256 samples, as one row and as several, forward and back.

    On tensors, where the one row computes its exponentials in both directions, since it keeps none:
    of 10 outputs the record of the others costs more than that, of 4096 less. Plans compute the
    value and its gradient together, as `Loss` has it.
    """

    params = ([CLASSES, 4096], ["one row", "softmax, take_along, log, mean"])
    param_names = ("outputs", "as")

    def setup(self, outputs, way):
        from fastbp import Tensor, nn, ops

        z = Tensor(_inputs((SAMPLES, outputs)), requires_grad=True)
        y = np.random.default_rng(1).integers(0, outputs, SAMPLES).astype(np.int32)
        loss = nn.SoftmaxCrossEntropy()
        if way == "one row":
            self.step = lambda: loss(z, y).backward(accumulate=False)
        else:
            self.step = lambda: (
                (-ops.log(ops.take_along(z.softmax(axis=1), y[:, None], axis=1)))
                .mean()
                .backward(accumulate=False)
            )
        self.step()

    def time_step(self, outputs, way):
        self.step()


class Rule(_Row):
    """One update of 65,536 parameters, which stay in cache."""

    params = (ROWS["rule"],)

    def setup(self, name):
        super().setup(name)
        self.g = 1e-3 * self.x[::-1]
        row = next(row for row in self.testing.rows("rule") if row["name"] == name)
        self.states = [np.zeros_like(self.x) for _ in range(row["n_states"])]

    def time_update(self, name):
        self.core.update(name, self.x, self.g, self.states, 1e-3, 1)


class Layer(_Row):
    """A layer of 256 units on 256 samples of 256 features; for CSR half of them are zero.

    `time_gradient` is forward, a squared error and the gradient by the parameters. The limit of
    both: packing the weights is in the time.
    """

    params = (["linear", *ROWS["sparse"]],)

    def setup(self, name):
        super().setup(name)
        # A row for CSR samples is what its dense namesake becomes in a sparse plan.
        dense = name.removesuffix("_csr")
        self.net = self.testing.network(
            (UNITS, UNITS), dtype=np.float32, sparse=dense != name, n_samples=SAMPLES
        )
        assert self.net.plan.layers[0]["op"] == name, f"{name} needs a network of its own here"
        self.grad = np.empty_like(self.net.params)

    def time_forward(self, name):
        self.net.plan.predict(self.net.params, self.net.X, raw=True)

    def time_gradient(self, name):
        self.net.plan.loss_gradient(self.net.params, self.net.X, self.net.y, grad=self.grad)


class Op(_Row):
    """An op alone, forward and back, on the largest of its test cases.

    The limit of both: the cases are small, so that what a call costs is most of the time.
    """

    params = (ROWS["op"],)

    def setup(self, name):
        super().setup(name)
        cases = [case for case in self.testing.op_cases() if case.name == name]
        case = max(cases, key=lambda case: sum(array.size for array in case.arrays()))
        self.arrays = case.arrays(np.float32)
        self.options = {"draws": case.draws, "training": case.training}
        self.node = self.core.Node(
            name,
            [array.shape for array in self.arrays],
            dtype=np.float32,
            attrs=case.attrs,
            indices=case.indices,
        )
        self.y = self.node.forward(self.arrays, **self.options)
        self.dy = [np.ones_like(y) for y in self.y[: self.node.n_results]]

    def time_forward(self, name):
        self.node.forward(self.arrays, **self.options)

    def time_backward(self, name):
        self.node.backward(self.arrays, self.y, self.dy, self.node.differentiable, **self.options)
