"""What `make demo` shows: two networks trained beside scikit-learn's, one table and one picture.

The data are scikit-learn's bundled digits and a noisy parabola. Both libraries get the same
samples, the same hyper-parameters and one thread each. How they compare on other shapes and on more
threads is no matter of this file: benchmarks measure that.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import fastbp
from fastbp.gradreport import GradientReport

Array = NDArray[Any]

PICTURE = "fastbp-demo.png"
DIGITS_EPOCHS = 100  # by then the accuracy on held-out digits has settled
CURVE_EPOCHS = 5000
CHECKED_SAMPLES = 30  # about; differences take their loss ten times for each element checked


@dataclass(frozen=True)
class Trained:
    """A fitted estimator, the seconds that its `fit` took, and its score."""

    model: Any
    seconds: float
    score: float


@dataclass(frozen=True)
class Task:
    """What the two libraries made of one data set.

    Attributes
    ----------
    name, network, measure : str
        What the table calls the data, the network, and the score.
    ours, theirs : Trained
        fastbp's estimator and scikit-learn's.
    gradients : GradientReport
        What `check_gradients` says of fastbp's.
    """

    name: str
    network: str
    measure: str
    ours: Trained
    theirs: Trained
    gradients: GradientReport

    @property
    def speedup(self) -> float:
        """How many times as long scikit-learn took."""
        return self.theirs.seconds / self.ours.seconds


# ---------------------------------------------------------------------------------------- the tasks


def digits(epochs: int = DIGITS_EPOCHS) -> Task:
    """Train the default classifier, 100 hidden units, on pictures of 8 x 8 pixels.

    Parameters
    ----------
    epochs : int, default=100
        Passes over the training samples, at least 1.

    Returns
    -------
    Task
        Its score is the accuracy on a quarter of the samples, held out.
    """
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.25, stratify=y, random_state=0
    )
    return _compare(
        ("digits", "64-100-10, adam", "accuracy on held-out digits"),
        "MLPClassifier",
        {"hidden_layer_sizes": (100,), "max_iter": epochs},
        (X_train, y_train),
        lambda model: accuracy_score(y_test, model.predict(X_test)),
    )


def curve_data() -> tuple[Array, Array]:
    """100 points of y = x^2, x from -2 to 2, with Gaussian noise of deviation 0.1 and seed 42.

    Returns
    -------
    X : ndarray of shape (100, 1), float64
    y : ndarray of shape (100,), float64
    """
    x = np.linspace(-2, 2, 100)
    # The legacy generator, whose numbers are those that np.random.seed(42) brings.
    return x.reshape(-1, 1), x**2 + np.random.RandomState(42).normal(0, 0.1, x.size)


def curve(epochs: int = CURVE_EPOCHS) -> Task:
    """Fit the noisy parabola by plain gradient descent, all points a step, at a rate of 0.01.

    Parameters
    ----------
    epochs : int, default=5000
        Steps, at least 1.

    Returns
    -------
    Task
        Its score is the mean squared error on the training points.
    """
    X, y = curve_data()
    options = {
        "hidden_layer_sizes": (64, 32),
        "solver": "sgd",
        "momentum": 0.0,
        "alpha": 0.0,
        "batch_size": len(y),
        "learning_rate_init": 0.01,
        "max_iter": epochs,
    }
    return _compare(
        ("curve", "1-64-32-1, sgd", "mean squared error"),
        "MLPRegressor",
        options,
        (X, y),
        lambda model: mean_squared_error(y, model.predict(X)),
    )


def _compare(
    titles: tuple[str, str, str],
    estimator: str,
    options: Mapping[str, Any],
    data: tuple[Array, Array],
    score: Callable[[Any], float],
) -> Task:
    """Train the estimator of this name of both libraries for all its epochs, on one thread each."""
    options = {
        **options,
        "random_state": 0,
        "tol": 0.0,
        "n_iter_no_change": options["max_iter"],  # neither stops early
    }
    with threadpool_limits(limits=1):
        ours, theirs = (
            _train(getattr(library, estimator)(**options), data, score)
            for library in (fastbp, neural_network)
        )
    X, y = (array[:: len(array) // CHECKED_SAMPLES] for array in data)
    return Task(*titles, ours, theirs, fastbp.check_gradients(ours.model, X, y))


def _train(model: Any, data: tuple[Array, Array], score: Callable[[Any], float]) -> Trained:
    with warnings.catch_warnings():
        # The number of epochs is fixed, so that both do the same work.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clone(model).set_params(max_iter=1).fit(*data)  # what a library does once is not training
        started = time.perf_counter()
        model.fit(*data)
        seconds = time.perf_counter() - started
    return Trained(model, seconds, float(score(model)))


# ---------------------------------------------------------------------------------------- the table


def table(tasks: Sequence[Task]) -> str:
    """What came out, in lines of less than 80 characters.

    Parameters
    ----------
    tasks : sequence of Task
        As `digits` and `curve` return them.

    Returns
    -------
    text : str
    """
    lines = [_line("", f"fastbp {fastbp.__version__}", f"scikit-learn {sklearn.__version__}")]
    for task in tasks:
        ours, theirs = task.ours, task.theirs
        lines += [
            f"{task.name} ({task.network})",
            _line(task.measure, f"{ours.score:.5f}", f"{theirs.score:.5f}"),
            _line("epochs", str(ours.model.n_iter_), str(theirs.model.n_iter_)),
            _line("seconds", f"{ours.seconds:.2f}", f"{theirs.seconds:.2f}"),
            _line("times as fast", f"{task.speedup:.1f}", "1"),
            _line("worst error of its gradients", f"{task.gradients.worst.error:.0e}", "-"),
        ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _line(title: str, ours: str, theirs: str) -> str:
    return f"  {title:<31}{ours:>16}{theirs:>21}"


# -------------------------------------------------------------------------------------- the picture

OURS, THEIRS, DATA, TRUTH = "#c1440e", "#2b6cb0", "#9aa5b1", "#1a202c"


def draw(digits: Task, curve: Task, path: Path) -> None:
    """Write a picture: the curve with its fits, and the losses of both tasks on a log scale.

    Parameters
    ----------
    digits, curve : Task
        As the functions of these names return them.
    path : Path
        Where to write; the ending picks the format.

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib.
    """
    from matplotlib.figure import Figure  # not pyplot, which may want a display

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    fit, curve_loss, digits_loss = figure.subplots(1, 3)
    _draw_fit(fit, curve)
    # Both libraries minimise half the squared error.
    _draw_losses(
        curve_loss, curve, 2.0, "Curve: error on the training points", "mean squared error"
    )
    X, y = curve_data()
    curve_loss.axhline(
        mean_squared_error(y, X[:, 0] ** 2), color=TRUTH, ls=":", lw=1.2, label="$x^2$ itself"
    )
    curve_loss.legend(frameon=False)
    _draw_losses(digits_loss, digits, 1.0, "Digits: loss on the training samples", "log loss")
    digits_loss.legend(frameon=False)
    figure.savefig(path, dpi=130)


def _draw_fit(axes: Any, task: Task) -> None:
    X, y = curve_data()
    axes.plot(X, y, "o", color=DATA, ms=4.5, mew=0, label="samples")
    axes.plot(X, X**2, ":", color=TRUTH, lw=1.2, label="$x^2$")
    axes.plot(X, task.ours.model.predict(X), color=OURS, lw=2.4, label="fastbp")
    axes.plot(X, task.theirs.model.predict(X), "--", color=THEIRS, lw=1.2, label="scikit-learn")
    axes.set(title="Curve: $y = x^2$ + noise, and what was learnt", xlabel="x", ylabel="y")
    axes.legend(frameon=False, loc="upper center")
    _tidy(axes)


def _draw_losses(axes: Any, task: Task, factor: float, title: str, ylabel: str) -> None:
    for trained, color, label in (
        (task.theirs, THEIRS, f"scikit-learn, {task.theirs.seconds:.2f} s"),
        (task.ours, OURS, f"fastbp, {task.ours.seconds:.2f} s"),
    ):
        losses = factor * np.asarray(trained.model.loss_curve_)
        axes.plot(np.arange(1, len(losses) + 1), losses, color=color, lw=1.6, label=label)
    axes.set(title=title, xlabel="epoch", ylabel=ylabel, yscale="log")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)


# ------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    arguments : sequence of str or None, default=None
        Of the command line; None takes the process's own.

    Returns
    -------
    status : int
        0, or 1 where the gradient check found something.
    """
    parser = argparse.ArgumentParser(prog="python -m fastbp.demo", description="fastbp, tried out.")
    parser.add_argument(
        "picture",
        nargs="?",
        type=Path,
        default=Path(PICTURE),
        help="where to write the picture (default: %(default)s)",
    )
    path = parser.parse_args(arguments).picture
    if not path.parent.is_dir():
        parser.error(f"picture: found no folder {path.parent}")
    print(
        "Training beside scikit-learn: same samples, same settings, one thread each\n", flush=True
    )
    tasks = digits(), curve()
    print(table(tasks))
    print("Errors of gradients: against finite differences, relative to each tensor")
    for task in tasks:
        if not task.gradients.ok:
            print(f"\n{task.name}: {task.gradients}")
    try:
        draw(*tasks, path)
        print(f"Picture of the fit and of the losses: {path}")
    except ModuleNotFoundError:
        print("No picture, for want of matplotlib: pip install 'fastbp[plot]' brings it.")
    return 0 if all(task.gradients.ok for task in tasks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
