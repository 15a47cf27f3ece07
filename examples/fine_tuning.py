"""A trained body, frozen, under a new head.

    python examples/fine_tuning.py

A network learns the ten digits from many images. Its body then serves, as it is, for another
question, of which only a few images have the answer: is the digit odd? A new head alone is trained.
The same network from scratch sees the same few images.
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import NetworkClassifier, nn


def body():
    return nn.Sequential(nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU())


def main(max_epochs=60, few=2):
    # As many epochs as are asked for is what is wanted here.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    many, rest = train_test_split(np.arange(len(y)), test_size=0.5, random_state=0, stratify=y)
    pretrained = NetworkClassifier(
        nn.Sequential(body(), nn.Linear(10)), max_epochs=max_epochs, random_state=0
    ).fit(X[many], y[many])

    rng = np.random.default_rng(0)
    train = np.concatenate([rng.choice(rest[y[rest] == d], few, False) for d in range(10)])
    test, odd = np.setdiff1d(rest, train), y % 2

    learnt = pretrained.module_[0].freeze()
    before = {name: one.data.copy() for name, one in learnt.parameters().items()}
    found = {}
    for name, start in (("fine-tuned", learnt), ("from scratch", body())):
        model = NetworkClassifier(
            nn.Sequential(start, nn.Linear(1)),
            learning_rate_init=0.01,
            max_epochs=4 * max_epochs,
            random_state=0,
        ).fit(X[train], odd[train])
        found[name] = float(model.score(X[test], odd[test]))
        print(f"{name:<13} {found[name]:.1%} of {len(test)} images right")
        if start is learnt:
            after = model.module_[0].parameters()
            assert all(np.array_equal(after[key].data, values) for key, values in before.items())
    return found


if __name__ == "__main__":
    main()
