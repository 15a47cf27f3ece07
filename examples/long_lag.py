"""What was said long ago: a recurrent network and an LSTM.

    python examples/long_lag.py
    python examples/long_lag.py --plot lags.png

A sequence begins with a number, and noise follows; what is asked at the end is the number. The
gradient by the input of a step says how far back a network can hear: in a plain recurrent network
it shrinks by about the same factor with each step (Bengio, Simard and Frasconi 1994), unless its
weights begin as an orthogonal matrix (Saxe, McClelland and Ganguli 2014); in an LSTM a gate that is
open keeps it (Hochreiter and Schmidhuber 1997).
"""

import argparse

import numpy as np

import fastbp
from fastbp import Tensor, nn

LENGTH, UNITS = 60, 32


def sequences(n, length, rng):
    """Noise (n, length, 2) with the number to be remembered in the second column of step 0."""
    X = np.zeros((n, length, 2), np.float32)
    X[:, :, 0] = 0.3 * rng.standard_normal((n, length))
    y = rng.choice([-1.0, 1.0], (n, 1)).astype(np.float32)
    X[:, 0, 1] = y[:, 0]
    return X, y


def gradient_by_lag(network, X, y):
    """The norm of the loss's gradient by the inputs of each step, the last first."""
    x = Tensor(X, requires_grad=True)
    with nn.training(False):
        nn.SquaredError()(network(x), y).backward()
    return np.linalg.norm(x.grad, axis=(0, 2))[::-1]


def layers():
    """Recurrent layers, of which the first is drawn as PyTorch draws it."""
    return {
        "RNN": nn.RNN(UNITS, output="last", recurrent_init=nn.init.Uniform(UNITS**-0.5)),
        "RNN, orthogonal": nn.RNN(UNITS, output="last", recurrent_init="orthogonal"),
        "LSTM": nn.LSTM(UNITS, output="last"),
    }


def main(length=LENGTH, max_epochs=20, plot=None):
    rng = np.random.default_rng(0)
    X, y = sequences(2000, length, rng)
    X_test, y_test = sequences(500, length, rng)
    found = {}
    for name, layer in layers().items():
        network = nn.Sequential(layer, nn.Linear(1)).build(X, seed=0)
        lags = gradient_by_lag(network, X[:100], y[:100])
        fastbp.fit(
            network,
            "squared_error",
            X,
            y,
            learning_rate_init=0.003,
            max_epochs=max_epochs,
            batch_size=50,
            seed=0,
        )
        with fastbp.no_grad():
            right = float(np.mean(np.sign(network(X_test).data) == y_test))
        found[name] = {"right": right, "lags": lags, "trained": gradient_by_lag(network, X, y)}
        print(
            f"{name:<16} remembers {right:.1%} after {length} steps; the gradient by the first "
            f"input is {lags[-1] / lags[0]:.0e} of that by the last before training"
        )
    if plot:
        draw(found, plot)
    return found


def draw(found, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.add_subplot()
    for (name, one), style in zip(found.items(), (":", "--", "-"), strict=True):
        ax.semilogy(one["lags"], style, color="0.6", label=f"{name}, before training")
        ax.semilogy(one["trained"], style, color="black", label=f"{name}, trained")
    ax.set(xlabel="steps back", ylabel="norm of the gradient", title="How far back a network hears")
    ax.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE", help="where to write a picture")
    main(plot=parser.parse_args().plot)
