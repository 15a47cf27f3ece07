"""Elementwise functions of several operands."""

import numpy as np


def mask(compare):
    return lambda a, b: compare(a, b).astype(np.float64)


OPS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "less": mask(np.less),
    "less_equal": mask(np.less_equal),
    "greater": mask(np.greater),
    "greater_equal": mask(np.greater_equal),
    "equal": mask(np.equal),
    "not_equal": mask(np.not_equal),
    "where": lambda condition, a, b: np.where(condition != 0, a, b),
}
