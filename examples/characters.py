"""A character transformer on sentences of which the entropy is known.

    python examples/characters.py

Sentences are made by a small grammar: "the grey owl saw the old toad and the owl was grey." The
words of the first part are drawn, each as likely as the others, so that no reader can do better
than their entropy; the second part only repeats what the first has said, so that whoever can look
back pays nothing for it. A transformer that reads 64 characters learns the words first, and then to
look back.
"""

import math

import numpy as np

import fastbp
from fastbp import nn

ADJECTIVES = ["grey", "old", "small", "quick", "wet", "blue", "calm", "loud"]
NOUNS = ["owl", "toad", "mole", "crow", "hare", "newt", "moth", "vole"]
VERBS = ["saw", "met", "fed", "led"]
LENGTH = 64


def sentence(rng):
    noun, other = rng.choice(NOUNS, 2)
    adjective, second = rng.choice(ADJECTIVES, 2)
    verb = rng.choice(VERBS)
    return f"the {adjective} {noun} {verb} the {second} {other} and the {noun} was {adjective}. "


def text(n, rng):
    return "".join(sentence(rng) for _ in range(n))


def entropy(sample):
    """Nats a character of the grammar, as no reader can do better in the long run."""
    choices = 2 * math.log(len(NOUNS)) + 2 * math.log(len(ADJECTIVES)) + math.log(len(VERBS))
    return choices * sample.count(".") / len(sample)


class Reader(nn.Module):
    """Predicts the next character at each place, from those before it."""

    def __init__(self, n_characters, width=48, heads=4, depth=2):
        self.n_characters, self.width, self.heads, self.depth = n_characters, width, heads, depth
        self.embedding = nn.Embedding(n_characters, width)
        self.position = nn.LearntEncoding()
        self.blocks = [nn.TransformerBlock(heads, causal=True) for _ in range(depth)]
        self.norm = nn.LayerNorm()
        self.head = nn.Linear(n_characters)

    def forward(self, characters):
        x = self.position(self.embedding(characters))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def windows(codes, n, rng):
    starts = rng.integers(0, len(codes) - LENGTH - 1, n)
    places = starts[:, None] + np.arange(LENGTH)
    return codes[places], codes[places + 1]


def write(network, alphabet, rng, start, n):
    """How a text goes on: n characters, each drawn as the network thinks likely."""
    codes = [alphabet.index(c) for c in start]
    for _ in range(n):
        window = np.array([codes[-LENGTH:]], np.int32)
        with fastbp.no_grad():
            raw = network(window).data[0, -1].astype(np.float64)
        share = np.exp(raw - raw.max())
        codes.append(int(rng.choice(len(alphabet), p=share / share.sum())))
    return "".join(alphabet[c] for c in codes)


def main(n_windows=4000, max_epochs=24):
    rng = np.random.default_rng(0)
    sample = text(5000, rng)
    alphabet = sorted(set(sample))
    codes = np.array([alphabet.index(c) for c in sample], np.int32)
    X, y = windows(codes, n_windows, rng)
    X_test, y_test = windows(
        np.array([alphabet.index(c) for c in text(500, rng)], np.int32), 200, rng
    )
    network = Reader(len(alphabet)).build(X, seed=0)
    fastbp.fit(
        network,
        "softmax_cross_entropy",
        X,
        y,
        optimizer="adamw",
        learning_rate_init=3e-3,
        batch_size=32,
        max_epochs=max_epochs,
        seed=0,
    )
    with fastbp.no_grad():
        raw = network(X_test)
        # The second half of a window: by then a sentence has been seen from its start.
        late = nn.SoftmaxCrossEntropy()(raw[:, LENGTH // 2 :], y_test[:, LENGTH // 2 :]).item()
    least = entropy(sample)
    print(f"{late:.3f} nats a character, of which the grammar's entropy is {least:.3f}")
    written = write(network, alphabet, rng, sample[:LENGTH], 150)[LENGTH:]
    print(f"...{written}...")
    return {"loss": late, "entropy": least, "uniform": math.log(len(alphabet)), "text": written}


if __name__ == "__main__":
    main()
