"""Matrix products."""


def linear(x, w, b=0.0):
    return x @ w + b


OPS = {"linear": linear}
