"""Reverse-mode differentiation in fifty lines of NumPy: an independent witness of the record.

Scalars of `micrograd` made arrays: every value holds its parents and how a gradient goes back to
them; `gradients` sorts the graph by recursion and adds up. It knows nothing of fastbp.
"""

import numpy as np


class Value:
    def __init__(self, array, parents=()):
        self.array = array
        self.parents = parents  # pairs of a value and the function that maps dy to its dx

    def __add__(self, other):
        return Value(self.array + other.array, [(self, lambda d: d), (other, lambda d: d)])

    def __sub__(self, other):
        return Value(self.array - other.array, [(self, lambda d: d), (other, lambda d: -d)])

    def __mul__(self, other):
        if isinstance(other, Value):
            pairs = [(self, lambda d: d * other.array), (other, lambda d: d * self.array)]
            return Value(self.array * other.array, pairs)
        return Value(self.array * other, [(self, lambda d: d * other)])

    def __matmul__(self, other):
        pairs = [(self, lambda d: d @ other.array.T), (other, lambda d: self.array.T @ d)]
        return Value(self.array @ other.array, pairs)

    def tanh(self):
        y = np.tanh(self.array)
        return Value(y, [(self, lambda d: d * (1 - y * y))])

    def sum(self):
        return Value(self.array.sum(), [(self, lambda d: np.full(self.array.shape, d))])


def gradients(result, leaves):
    """The gradients of a value of one element by the leaves."""
    order, seen = [], set()

    def visit(value):
        if id(value) not in seen:
            seen.add(id(value))
            for parent, _ in value.parents:
                visit(parent)
            order.append(value)

    visit(result)
    sums = {id(result): np.ones(())}
    for value in reversed(order):
        for parent, back in value.parents:
            sums[id(parent)] = sums.get(id(parent), 0) + back(sums[id(value)])
    return [sums[id(leaf)] for leaf in leaves]
