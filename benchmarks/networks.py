"""A convolutional network, a transformer and an LSTM, trained by fastbp and by PyTorch.

Before anything is timed, both compute loss and gradient of a batch at the same weights, in float64,
and must agree. Times are those of training, taken in rounds in which each has its turn, on equally
many threads; PyTorch runs eagerly, compiled, and, with images, in its channels-last layout too.

    python -m benchmarks.networks [--networks NAME ...] [--threads N ...] [--rounds N] [--quick]
"""

import argparse
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from benchmarks.rivals import FASTBP, equal_threads, has_cxx, interleaved, ratios
from benchmarks.table import QUIET, SGEMM, cores, load, machine, sgemm

ROUNDS = 9

# Loss and gradients are sums of up to 2048 * 128 terms of 1e-16 relative error each, that cancel in
# part; the largest difference found was 1.2e-15 of a gradient's largest element.
AGREEMENT = 1e-13


# ------------------------------------------------------------------------------------------ graphs


@dataclass
class Graph:
    """A graph as `_core.Plan` takes it, put together from names: inputs first, then parameters.

    A result is named by the number that `node` gives.
    """

    inputs: list
    parameters: dict = field(default_factory=dict)
    nodes: list = field(default_factory=list)

    def parameter(self, name, *shape, penalised=False):
        self.parameters[name] = {"shape": shape, "penalised": penalised}
        return name

    def node(self, row, *operands, **attributes):
        self.nodes.append((row, attributes, operands))
        return len(self.nodes) - 1

    def linear(self, x, name, n_in, n_out):
        w = self.parameter(f"{name}.weight", n_in, n_out)
        return self.node("linear", x, w, self.parameter(f"{name}.bias", n_out))

    def layer_norm(self, x, name, width):
        gain = self.parameter(f"{name}.weight", width)
        return self.node("layer_norm", x, gain, self.parameter(f"{name}.bias", width))

    def plan(self, loss, dtype):
        """The plan that ends in the last node."""
        from fastbp import _core

        names = {name: len(self.inputs) + i for i, name in enumerate(self.parameters)}
        results = len(self.inputs) + len(names)

        def value(operand):
            if isinstance(operand, int):
                return results + operand
            return names[operand] if operand in names else int(operand.removeprefix("input "))

        nodes = [(row, attrs, tuple(map(value, operands))) for row, attrs, operands in self.nodes]
        last = results + len(nodes) - 1
        graph = {
            "inputs": self.inputs,
            "parameters": list(self.parameters.values()),
            "nodes": nodes,
            "losses": [{"name": loss, "value": last}],
            "outputs": [last],
        }
        return _core.Plan(graph=graph, dtype=dtype)


def convolutional():
    """28 x 28, two times convolution, relu and pooling, and a linear layer."""
    graph = Graph([((28, 28, 1), "real")])
    x, depth = "input 0", 1
    for name, outputs in (("conv1", 16), ("conv2", 32)):
        w = graph.parameter(f"{name}.weight", 3, 3, depth, outputs)
        x = graph.node("conv", x, w, graph.parameter(f"{name}.bias", outputs), padding=1)
        x = graph.node("max_pool", graph.node("relu", x), kernel=2)
        depth = outputs
    x = graph.node("reshape", x, shape=[7 * 7 * depth])
    graph.linear(x, "head", 7 * 7 * depth, 10)
    return graph


LENGTH, WIDTH, HEADS, LAYERS, HIDDEN, VOCABULARY = 128, 128, 4, 4, 512, 96


def transformer():
    """Pre-norm and causal; positions are learnt."""
    graph = Graph([((LENGTH,), "index")])
    x = graph.node("embedding", "input 0", graph.parameter("tokens", VOCABULARY, WIDTH))
    x = graph.node("add", x, graph.parameter("positions", LENGTH, WIDTH))
    for i in range(LAYERS):
        at = f"layers.{i}"
        y = graph.layer_norm(x, f"{at}.norm1", WIDTH)
        y = graph.linear(y, f"{at}.qkv", WIDTH, 3 * WIDTH)
        y = graph.node("self_attention", y, heads=HEADS, causal=1)
        x = graph.node("add", x, graph.linear(y, f"{at}.out", WIDTH, WIDTH))
        y = graph.layer_norm(x, f"{at}.norm2", WIDTH)
        y = graph.node("gelu", graph.linear(y, f"{at}.up", WIDTH, HIDDEN))
        x = graph.node("add", x, graph.linear(y, f"{at}.down", HIDDEN, WIDTH))
    graph.linear(graph.layer_norm(x, "norm", WIDTH), "head", WIDTH, VOCABULARY)
    return graph


STEPS, FEATURES, UNITS = 64, 16, 64


def lstm():
    """One layer, and a linear one from its last step."""
    graph = Graph([((STEPS, FEATURES), "real")])
    p = graph.linear("input 0", "lstm.input", FEATURES, 4 * UNITS)
    h = graph.node("lstm", p, graph.parameter("lstm.recurrent", UNITS, 4 * UNITS))
    last = graph.node("index", h, starts=[STEPS - 1, 0], steps=[1, 1], counts=[1, UNITS])
    graph.linear(graph.node("reshape", last, shape=[UNITS]), "head", UNITS, 1)
    return graph


# ---------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Network:
    """A graph with the way to train it; `steps` make a measurement."""

    name: str
    graph: Graph
    loss: str
    rule: str
    batch: int
    steps: int
    layouts: tuple = ("",)  # of PyTorch's images

    def plan(self, dtype=np.float32):
        return self.graph.plan(self.loss, dtype)

    def data(self, dtype=np.float32):
        """As many samples as the steps of a measurement take."""
        rng, n = np.random.default_rng(0), self.batch * self.steps
        shape, content = self.graph.inputs[0]
        if content == "index":
            X = rng.integers(0, VOCABULARY, (n, *shape), dtype=np.int32)
            return X, rng.integers(0, VOCABULARY, (n, *shape), dtype=np.int32)
        X = rng.standard_normal((n, *shape)).astype(dtype)
        if self.loss == "squared_error":
            return X, rng.standard_normal((n, 1)).astype(dtype)
        return X, rng.integers(0, 10, n, dtype=np.int32)

    def start(self, dtype=np.float32):
        """Weights to begin with: normal, by the number of inputs; gains are 1, biases 0."""
        rng, arrays = np.random.default_rng(1), {}
        for name, is_ in self.graph.parameters.items():
            shape = is_["shape"]
            if "norm" in name or len(shape) == 1:
                value = float("norm" in name and name.endswith("weight"))
                arrays[name] = np.full(shape, value, dtype)
            else:
                scale = 1.0 if name == "tokens" else np.prod(shape[:-1]) ** -0.5
                arrays[name] = (scale * rng.standard_normal(shape)).astype(dtype)
        return arrays


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "convolutional",
            convolutional(),
            "softmax_cross_entropy",
            "adam",
            batch=128,
            steps=20,
            layouts=("", "channels last"),
        ),
        Network("transformer", transformer(), "softmax_cross_entropy", "adamw", batch=16, steps=3),
        Network("LSTM", lstm(), "squared_error", "adam", batch=32, steps=40),
    )
}


# ------------------------------------------------------------------------------------------ rivals


class Ours:
    """fastbp's training of a network, from the same weights as PyTorch's."""

    def __init__(self, network, n_threads, dtype=np.float32):
        self.network, self.n_threads = network, n_threads
        self.plan = network.plan(dtype)
        self.params = np.concatenate([a.ravel() for a in network.start(dtype).values()])

    def loss_and_gradient(self, X, y):
        grad = np.empty_like(self.params)
        loss = self.plan.loss_gradient(self.params, X, y, grad=grad, n_threads=self.n_threads)
        return loss, grad

    def fit(self, X, y):
        """A function that trains one epoch."""
        from fastbp import _core

        states = np.zeros((2, self.params.size), self.params.dtype)
        training = _core.Training(
            self.plan,
            self.params.copy(),
            X,
            y,
            rule=self.network.rule,
            states=states,
            batch_size=self.network.batch,
            n_threads=self.n_threads,
        )
        return lambda: training.run([1e-3], first_epoch=0, step=0)


def torch_variants(network):
    """What PyTorch is measured in: words for each, with the layout and whether it is compiled."""
    variants = {}
    for layout in network.layouts if find_spec("torch") else ():
        for compiled in (False, True) if has_cxx() else (False,):
            words = ["torch", "compiled" if compiled else "eager", layout]
            variants[" ".join(filter(None, words))] = (layout, compiled)
    return variants


def in_torch(*args, **options):
    from benchmarks.frameworks.networks_torch import TorchNetwork

    return TorchNetwork(*args, **options)


def assert_agreement(network, n_threads):
    """Loss and gradient of a batch, in float64.

    Raises
    ------
    AssertionError
        PyTorch's differ by more than `AGREEMENT`, relatively to the largest element.
    """
    X, y = (array[: network.batch] for array in network.data(np.float64))
    loss, gradient = Ours(network, n_threads, np.float64).loss_and_gradient(X, y)
    for words, (layout, compiled) in torch_variants(network).items():
        if compiled:
            continue  # the same modules, and a minute for each in a second dtype
        theirs = in_torch(network, np.float64, n_threads, layout=layout)
        other_loss, other = theirs.loss_and_gradient(X, y)
        error = max(
            abs(other_loss / loss - 1), np.abs(other - gradient).max() / np.abs(gradient).max()
        )
        assert error <= AGREEMENT, f"{network.name}: {words} differs from fastbp by {error:.1e}"


def trainings(network, n_threads):
    """Functions that each train for the steps of a measurement, by rival."""
    assert_agreement(network, n_threads)
    X, y = network.data()
    fits = {FASTBP: Ours(network, n_threads).fit(X, y)}
    for words, (layout, compiled) in torch_variants(network).items():
        theirs = in_torch(network, np.float32, n_threads, layout=layout, compiled=compiled)
        fits[words] = theirs.fit(X, y)
    return fits


# ------------------------------------------------------------------------------------------- table


def lines(network, n_threads, rounds):
    """For each rival: samples a second, fastbp's ratio to it, the part of sgemm's rate."""
    product, product_flops = sgemm()
    with equal_threads(n_threads):
        seconds = interleaved({**trainings(network, n_threads), SGEMM: product}, rounds)
    samples = network.batch * network.steps
    flops = sum(network.plan().flops(samples).values())
    found = []
    for name in seconds:
        if name == SGEMM:
            continue
        each = ratios(seconds, name)
        of_sgemm = np.median(flops / seconds[name] * seconds[SGEMM] / product_flops)
        found.append(
            f"{network.name:14s} {n_threads}  {name:28s} {samples / np.median(seconds[name]):9,.0f}"
            f"  {np.median(each):6.2f} ({each.min():.2f}-{each.max():.2f})  {of_sgemm:4.0%}"
        )
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks")
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, choices=range(1, cores() + 1))
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    before = load()
    print(machine(("torch",) if find_spec("torch") else ()), f"load {before:.1f}", sep="\n")
    print("network    threads  rival   samples/s   fastbp is so many times as fast   of sgemm")
    for n_threads in arguments.threads or sorted({1, cores()}):
        for name in arguments.networks:
            print(*lines(NETWORKS[name], n_threads, rounds), sep="\n", flush=True)
    if not before < QUIET:
        print(f"NOT QUIET: the load average was {before:.1f} before this began; do not publish.")


if __name__ == "__main__":
    main()
