"""What all gradients cost, against one evaluation of the network."""

import numpy as np

from benchmarks.rivals import equal_threads, interleaved
from benchmarks.shapes import LIGHT, SHAPES

ROUNDS = 15


def backward_over_forward(shape, rounds=ROUNDS):
    """Time and FLOPs of backward, each over those of forward, on one thread and one batch.

    Forward is `Plan.predict`; backward is `Plan.loss_gradient` less that. What the latter does
    besides (the loss, keeping activations, the penalty) counts as backward.

    Returns
    -------
    time, flops : float
    """
    plan = shape.plan()
    X, y = shape.data(n_samples=shape.batch)
    params, targets = shape.weights(plan), shape.targets(plan, y)
    grad = np.empty_like(params)
    flops = plan.flops(shape.batch)
    calls = max(1, int(2e8 / (flops["forward"] + flops["backward"])))  # some 5 ms of them

    def forward():
        for _ in range(calls):
            plan.predict(params, X, raw=True)

    def both():
        for _ in range(calls):
            plan.loss_gradient(params, X, targets, grad=grad)

    with equal_threads(1):
        seconds = interleaved({"forward": forward, "both": both}, rounds)
    # The best of each: a difference of two disturbed times would mean nothing.
    time = float(seconds["both"].min() / seconds["forward"].min()) - 1.0
    return time, flops["backward"] / flops["forward"]


class Gradient:
    """How many forward passes the gradients of all parameters cost: in time, and in FLOPs.

    By FLOPs it is 2 less the first layer's share, which needs no gradient by its input. The limit:
    `backward_over_forward` says what each side includes.
    """

    params = (LIGHT,)
    param_names = ("shape",)
    unit = "times forward"

    def track_time(self, name):
        return backward_over_forward(SHAPES[name])[0]

    def track_flops(self, name):
        flops = SHAPES[name].plan().flops(1)
        return flops["backward"] / flops["forward"]
