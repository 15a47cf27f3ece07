"""Spam and other messages, told apart by their words.

    python examples/spam.py

The messages are made up here: words of two kinds of letters, mixed, with a few that only one kind
uses. They become sparse features, which the network reads as they are: a CSR matrix goes through a
pipeline into the engine without ever being a dense one.
"""

from time import perf_counter

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastbp import MLPClassifier

SYLLABLES = ["ba", "ko", "ri", "nu", "te", "sa", "lo", "mi", "du", "fe", "ga", "po"]


def words(n, rng):
    """A made-up vocabulary."""
    return ["".join(rng.choice(SYLLABLES, rng.integers(2, 5))) for _ in range(n)]


def messages(n, rng):
    """Messages and whether they are spam; what tells is often a pair of words, not one."""
    common, risky, pairs = words(500, rng), words(6, rng), words(6, rng)
    texts, spam = [], rng.random(n) < 0.3
    for is_spam in spam:
        text = list(rng.choice(common, rng.integers(8, 30)))
        # A risky word alone is harmless; with its partner it is spam.
        i = rng.integers(len(risky))
        partner = i if is_spam else (i + rng.integers(1, len(pairs))) % len(pairs)
        text += [risky[i], pairs[partner]] * (1 + int(rng.random() < 0.5))
        rng.shuffle(text)
        texts.append(" ".join(text))
    return texts, spam


def main(n=6000):
    texts, spam = messages(n, np.random.default_rng(0))
    train, test, y_train, y_test = train_test_split(texts, spam, random_state=0, stratify=spam)
    found = {}
    for name, classifier in (
        ("logistic regression", LogisticRegression(C=100.0, max_iter=1000)),
        ("two layers", MLPClassifier((64,), alpha=0.1, batch_size=50, tol=1e-3, random_state=0)),
    ):
        model = make_pipeline(TfidfVectorizer(dtype=np.float32), classifier)
        started = perf_counter()
        model.fit(train, y_train)
        taken = perf_counter() - started
        found[name] = float(f1_score(y_test, model.predict(test)))
        print(f"{name:<20} F1 {found[name]:.3f}, {taken:.1f} s")
    return found


if __name__ == "__main__":
    main()
