"""Fifty layers with and without ways past them.

    python examples/depth.py

Each layer of a plain network passes a gradient on that is shorter than what it got, unless its
weights are drawn with care, so that the first of fifty hears next to nothing. With a way past each
layer (He et al. 2016) the gradient reaches it as it is, and the same number of layers learns.
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import NetworkClassifier, nn

DEPTH, WIDTH = 50, 32


def block():
    # Weights as PyTorch draws them, of a third of the variance that would keep a signal's size.
    return nn.Sequential(nn.Linear(WIDTH, init=nn.init.Uniform(WIDTH**-0.5)), nn.Tanh())


def network(residual):
    blocks = [nn.Residual(block()) if residual else block() for _ in range(DEPTH)]
    return nn.Sequential(nn.Linear(WIDTH), *blocks, nn.Linear(10))


def gradient_norms(module, X, y):
    """The norm of the loss's gradient by the weights of each dense layer, before training."""
    module.build(X, dtype=np.float64)
    nn.SoftmaxCrossEntropy()(module(X), y.astype(np.int32)).backward()
    return [
        float(np.linalg.norm(one.grad))
        for name, one in module.parameters().items()
        if name.endswith("weight") and len(one.shape) == 2
    ]


def main(max_epochs=20):
    # As many epochs as are asked for is what is wanted here.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    X = X / 16
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    found = {}
    for name, residual in (("plain", False), ("residual", True)):
        norms = gradient_norms(network(residual), X_train[:200], y_train[:200])
        model = NetworkClassifier(network(residual), max_epochs=max_epochs, random_state=0)
        accuracy = model.fit(X_train.astype(np.float32), y_train).score(
            X_test.astype(np.float32), y_test
        )
        found[name] = {"first": norms[0], "accuracy": accuracy}
        print(
            f"{name:<10} gradient of the first layer {norms[0]:.1e}, of the last {norms[-1]:.1e};"
            f" {accuracy:.1%} of test images right after {max_epochs} epochs"
        )
    return found


if __name__ == "__main__":
    main()
