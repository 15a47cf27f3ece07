"""What more threads than a machine has should bring: a model of a step, and what it is made of.

    python -m benchmarks.scale            prints shares and predicted speed-ups for 2 to 64 threads

A step takes, on T threads, the work of the busiest one in each phase (`plan.balance`, computed by
the code that cuts the phases), T's meetings, and the bytes that one core writes and another reads:
activations and deltas between the rows phase and the weights phase, weights or their packed copies
between this step and the next. The three constants were measured on two cores
(benchmarks/README.md); that they hold for 64 is what this model assumes and no machine here can
show.
"""

from benchmarks.shapes import SHAPES

THREADS = (2, 4, 8, 16, 32, 64)
FLOPS = 120e9  # a second, of one core in a step of 54-256-256-7
MEETING = 0.25e-6  # seconds for two threads; taken to grow with the logarithm of their number
CROSSING = 8.5e9  # bytes a second that one core gets from another's cache


def crossing_bytes(plan, batch):
    """What threads write for each other in a step: read by all in about equal parts."""
    memory = plan.memory(batch)
    as_they_lie = sum(
        layer["n_in"] * layer["n_out"] * plan.dtype.itemsize
        for layer in plan.layers
        if layer["products"] != "packed"
    )
    return memory["activations"] + memory["deltas"] + memory["weight_copies"] + as_they_lie


def step_seconds(shape, n_threads):
    """The model's time of one step."""
    plan = shape.plan()
    flops = plan.flops(shape.batch)
    weights = flops["forward"]  # the products of the weights phase are as many as forward's
    rows = flops["forward"] + flops["backward"] - weights
    balance = plan.balance(shape.batch, n_threads)
    work = rows / balance["rows"] + weights / balance["weights"]
    if n_threads == 1:
        return work / FLOPS
    meetings = 2 * len(plan.layers) + 2 if balance["by_columns"] else 2
    waiting = meetings * MEETING * (n_threads - 1).bit_length()
    foreign = (n_threads - 1) / n_threads * crossing_bytes(plan, shape.batch) / n_threads
    return work / FLOPS / n_threads + waiting + foreign / CROSSING


def speedup(shape, n_threads):
    """How many times as fast the model finds T threads than one."""
    return step_seconds(shape, 1) / step_seconds(shape, n_threads)


def line(shape):
    cells = []
    for n_threads in THREADS:
        balance = shape.plan().balance(shape.batch, n_threads)
        cut = "c" if balance["by_columns"] else " "
        cells.append(
            f"{balance['rows']:.2f}{cut}/{balance['weights']:.2f} {speedup(shape, n_threads):5.1f}"
        )
    return f"| {shape.name:<19} | " + " | ".join(cells) + " |"


def main():
    heads = [f"{n_threads} threads".rjust(16) for n_threads in THREADS]
    print("| share of work in rows phase/weights phase, then the speed-up that the model predicts;")
    print("| c: products are cut by columns")
    print(f"| {'network':<19} | " + " | ".join(heads) + " |")
    for name, shape in SHAPES.items():
        if name != "4-10-3":  # a step of it is all counters
            print(line(shape))


if __name__ == "__main__":
    main()
