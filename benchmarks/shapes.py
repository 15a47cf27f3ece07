"""The networks that are measured, each once, with their data and the estimators' settings.

Everything that trains here is made from a `Shape`; how it is timed is told elsewhere.
"""

import os
from dataclasses import dataclass

import numpy as np
from scipy.sparse import random_array


@dataclass(frozen=True)
class Shape:
    """A network, how it is trained, and how much of that makes one measurement.

    Attributes
    ----------
    name : str
        What tables call it.
    sizes : tuple of int
        Units of every layer, inputs first.
    batch : int
        Samples a step.
    n_samples : int
        Training samples, a multiple of `batch`.
    epochs : int
        Passes over them in one measurement: 3 to 200 ms of fastbp's time, the widest
        takes three seconds.
    classifier : bool
        Whether the loss is the cross-entropy of a softmax, else half the squared error.
    activation : str
        Of the hidden layers.
    solver : {"adam", "sgd"}
        With the estimators' default rate, or a plain step of 0.01.
    density : float or None
        The share of values that are stored, where the samples are CSR.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    n_samples: int
    epochs: int
    classifier: bool = True
    activation: str = "relu"
    solver: str = "adam"
    density: float | None = None

    def __str__(self):
        return self.name

    @property
    def rate(self):
        return 0.01 if self.solver == "sgd" else 0.001

    def data(self, dtype=np.float32, n_samples=None):
        """Samples, and labels or values that depend on them.

        Returns
        -------
        X : ndarray or CSR array of shape (n_samples, sizes[0])
        y : ndarray of shape (n_samples,), int32 for a classifier, else `dtype`
        """
        rng = np.random.default_rng(0)
        n = self.n_samples if n_samples is None else n_samples
        if self.density is None:
            X = rng.standard_normal((n, self.sizes[0]), dtype=np.float32)
        else:
            shape = (n, self.sizes[0])
            # SciPy before 1.15 knows no `rng`.
            drawn = {"dtype": np.float32, "random_state": rng}
            X = random_array(shape, density=self.density, format="csr", **drawn)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]), dtype=np.float32)
        raw = X @ teacher / np.sqrt(np.float32(self.sizes[0]))
        raw += 0.3 * rng.standard_normal(raw.shape, dtype=np.float32)
        if self.classifier:
            labels = raw.argmax(axis=1).astype(np.int32)
            # Estimators count the classes that they see, so that each has to be there.
            classes = np.arange(min(self.sizes[-1], n))
            labels[: len(classes)] = classes
            return X.astype(dtype, copy=False), labels
        return X.astype(dtype, copy=False), np.sin(raw[:, 0]).astype(dtype)

    def options(self, epochs=None):
        """Arguments of either library's estimator: all epochs are made, whatever the loss."""
        epochs = self.epochs if epochs is None else epochs
        return {
            "hidden_layer_sizes": self.sizes[1:-1],
            "activation": self.activation,
            "solver": self.solver,
            "batch_size": self.batch,
            "learning_rate_init": self.rate,
            "momentum": 0.0,
            "max_iter": epochs,
            "tol": 0.0,
            "n_iter_no_change": epochs,
            "random_state": 0,
        }

    @property
    def estimator(self):
        """The name that its estimator has in both libraries."""
        return "MLPClassifier" if self.classifier else "MLPRegressor"

    def plan(self, dtype=np.float32):
        """The compiled network, without data or weights."""
        from fastbp import _core

        layers = []
        for units in self.sizes[1:-1]:
            layers += [("linear", {"units": units}), (self.activation, {})]
        layers.append(("linear", {"units": self.sizes[-1]}))
        loss = "softmax_cross_entropy" if self.classifier else "squared_error"
        sparse = self.density is not None
        return _core.Plan(self.sizes[0], layers, (loss, {}), dtype=dtype, sparse=sparse)

    def weights(self, plan):
        """Random weights of the usual size, one flat array."""
        rng = np.random.default_rng(1)
        params = np.empty(plan.n_params, dtype=plan.dtype)
        for tensor in plan.tensors:
            size = int(np.prod(tensor["shape"]))
            values = rng.standard_normal(size) / np.sqrt(tensor["shape"][0])
            params[tensor["offset"] : tensor["offset"] + size] = values
        return params

    def targets(self, plan, y):
        """Labels or values as a plan takes them."""
        return y if self.classifier else y.reshape(-1, 1).astype(plan.dtype)


WIDE = "1024-2048-2048-1000"

SHAPES = {
    shape.name: shape
    for shape in (
        Shape("64-100-10", (64, 100, 10), batch=200, n_samples=20_000, epochs=5),
        Shape(
            "20-64-32-1", (20, 64, 32, 1), batch=32, n_samples=16_000, epochs=5, classifier=False
        ),
        Shape("54-256-256-7", (54, 256, 256, 7), batch=256, n_samples=10_240, epochs=2),
        Shape("784-512-256-10", (784, 512, 256, 10), batch=128, n_samples=5_120, epochs=1),
        Shape(
            "1-64-32-1",
            (1, 64, 32, 1),
            batch=100,
            n_samples=100,
            epochs=500,
            classifier=False,
            solver="sgd",
        ),
        Shape(
            "64-(64)x32-10",
            (64, *(64,) * 32, 10),
            batch=64,
            n_samples=6_400,
            epochs=1,
            activation="tanh",
        ),
        # As many steps an epoch as iris makes with its 150 samples.
        Shape("4-10-3", (4, 10, 3), batch=32, n_samples=160, epochs=200),
        # Eight steps, since the first weights take as long as a quarter of one.
        Shape(WIDE, (1024, 2048, 2048, 1000), batch=1024, n_samples=4_096, epochs=2),
    )
}

# Of the peers, scikit-learn alone takes CSR samples.
SPARSE = Shape(
    "10000-100-10, CSR of 1 %",
    (10_000, 100, 10),
    batch=200,
    n_samples=4_000,
    epochs=10,
    density=0.01,
)

# Those of which a measurement takes a fraction of a second.
LIGHT = [name for name in SHAPES if name != WIDE]


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def skip_without_cores(n_threads):
    """Have asv skip a benchmark that wants more threads than there are cores."""
    if n_threads > cores():
        raise NotImplementedError(f"{n_threads} threads on {cores()} cores")
