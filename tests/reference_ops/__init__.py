"""What every op of the table ought to compute, in plain NumPy and float64: an independent witness.

Forward alone, written for the eye: gradients are held to finite differences of these functions. An
op has one entry under its name in its family's module: a function of its attributes, by name, and
its inputs, that returns the result, or a tuple of results.
"""

from reference_ops import (
    attention,
    binary,
    convolution,
    masks,
    moves,
    norms,
    picks,
    pooling,
    products,
    recurrence,
    reductions,
    softmax,
)

FAMILIES = (
    *(products, convolution, pooling, attention, recurrence, norms, masks),
    *(binary, reductions, softmax, moves, picks),
)
OPS = {name: op for family in FAMILIES for name, op in family.OPS.items()}
