"""What a gradient costs without backpropagation: finite differences, and evolution strategies.

    python -m benchmarks.zero_order                     two tables, about a minute
    python -m benchmarks.zero_order --plot cost.png     and a picture of the first
    python -m benchmarks.zero_order --quick             small networks alone

One table has the time of all gradients by one backward pass, and by central differences, which take
two forward passes for each parameter: the ratio grows with the number of parameters. Up to a
thousand parameters the differences are taken, and their values asserted; beyond, the time of some
of them is multiplied.

The other has evolution strategies (Salimans et al. 2017, arXiv:1703.03864), which estimate the
gradient from losses at random weights around, beside plain gradient descent: the same plan, loss,
data, rate and number of forward passes (a backward counts as two), from the same weights. Both
descend; the estimate's error grows with the number of parameters, and so does the gap.
"""

import argparse
from time import perf_counter

import numpy as np

WIDTHS, OF_DESCENTS = (2, 4, 8, 16, 32, 64, 128, 256, 512), (2, 8, 32, 128)
TAKEN = 1000  # parameters up to which all differences are taken
N_SAMPLES, N_FEATURES, N_CLASSES = 200, 20, 3
STEP = 1e-6  # of central differences in float64, near the cube root of its rounding

# Of evolution strategies: pairs of a step, and the standard deviation of what is added to weights.
PAIRS, SPREAD = 16, 0.02
RATE, STEPS = 0.1, 300


class Problem:
    """A dense network with one hidden layer on random data with a rule to be found."""

    def __init__(self, width):
        from fastbp import compile, nn

        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((N_SAMPLES, N_FEATURES))
        rule = rng.standard_normal((N_FEATURES, N_CLASSES))
        self.y = (self.X @ rule).argmax(axis=1).astype(np.int32)
        network = nn.Sequential(nn.Linear(width), nn.Tanh(), nn.Linear(N_CLASSES))
        network.build(N_FEATURES, dtype=np.float64)
        self.plan = compile(network, "softmax_cross_entropy").core
        self.start = network._built().settle().copy()

    def loss(self, w):
        return self.plan.loss_gradient(w, self.X, self.y)

    def gradient(self, w):
        grad = np.empty_like(w)
        self.plan.loss_gradient(w, self.X, self.y, grad=grad)
        return grad


def differences(problem, w, indices):
    """Central differences by some of the weights."""
    found = np.empty(len(indices))
    for place, i in enumerate(indices):
        there = w.copy()
        there[i] += STEP
        above = problem.loss(there)
        there[i] -= 2 * STEP
        found[place] = (above - problem.loss(there)) / (2 * STEP)
    return found


def seconds(call, at_least=0.05):
    """The least of some times of a call."""
    times, started = [], perf_counter()
    while len(times) < 3 or perf_counter() - started < at_least:
        before = perf_counter()
        call()
        times.append(perf_counter() - before)
    return min(times)


def costs(width):
    """Parameters; seconds of all gradients by backpropagation and by central differences."""
    problem = Problem(width)
    w = problem.start
    n = len(w)
    some = np.linspace(0, n - 1, min(n, TAKEN)).astype(int)
    # Rounding of a loss near 1, over the step, and the third derivative times its square.
    assert np.abs(differences(problem, w, some) - problem.gradient(w)[some]).max() < 1e-7
    backward = seconds(lambda: problem.gradient(w))
    one_by_one = seconds(lambda: differences(problem, w, some[:50]), 0.2) / min(50, len(some)) * n
    return n, backward, one_by_one


def evolution(problem, rng, passes):
    """Losses of descent along estimates from pairs of losses, for so many forward passes."""
    w = problem.start.copy()
    for _ in range(passes // (2 * PAIRS)):
        estimate = np.zeros_like(w)
        for _ in range(PAIRS):
            direction = rng.standard_normal(len(w))
            gain = problem.loss(w + SPREAD * direction) - problem.loss(w - SPREAD * direction)
            estimate += gain / (2 * SPREAD * PAIRS) * direction
        # A mean of k such products is about 1 + n / k times too long: as long as it would be, the
        # steps of large networks would leap.
        w -= RATE / (1 + len(w) / (2 * PAIRS)) * estimate
    return problem.loss(w)


def descent(problem, passes):
    """The loss of gradient descent for so many forward passes, of which a backward is two."""
    w = problem.start.copy()
    for _ in range(passes // 3):
        w -= RATE * problem.gradient(w)
    return problem.loss(w)


def table_of_costs(widths):
    print("| parameters | backpropagation, us | central differences, us | ratio |")
    print("| ---: | ---: | ---: | ---: |")
    rows = [costs(width) for width in widths]
    for n, backward, one_by_one in rows:
        print(
            f"| {n} | {1e6 * backward:.0f} | {1e6 * one_by_one:.0f} | {one_by_one / backward:.0f} |"
        )
    return rows


def table_of_descents(widths):
    passes = 2 * PAIRS * STEPS
    print(f"| parameters | loss at first | evolution, {passes} passes | descent, as many |")
    print("| ---: | ---: | ---: | ---: |")
    for width in widths:
        problem = Problem(width)
        evolved = evolution(problem, np.random.default_rng(1), passes)
        first, last = problem.loss(problem.start), descent(problem, passes)
        assert last < evolved < first
        print(f"| {len(problem.start)} | {first:.3f} | {evolved:.3f} | {last:.3f} |")


def plot(rows, path):
    from matplotlib.figure import Figure

    n, backward, one_by_one = (np.array(column) for column in zip(*rows, strict=True))
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.add_subplot()
    ax.loglog(n, one_by_one, "s--", color="0.45", label="central differences")
    ax.loglog(n, backward, "o-", color="black", label="backpropagation")
    ax.set(xlabel="parameters", ylabel="seconds for all gradients", title="The cost of a gradient")
    ax.legend()
    ax.grid(True, which="both", color="0.9")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE", help="where to write a picture")
    parser.add_argument("--quick", action="store_true", help="small networks alone, for seconds")
    given = parser.parse_args()
    count = 2 if given.quick else None
    rows = table_of_costs(WIDTHS[:count])
    print()
    table_of_descents(OF_DESCENTS[:count])
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
