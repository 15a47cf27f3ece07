"""How a step is cut for many threads: blocks of rows, columns of products, and shares of the work.

Bits must not depend on the number of threads in any form of a phase; `plan.balance` tells that a
form was taken at all.
"""

import numpy as np
import pytest
import reference
from helpers import Run, over_dtypes, over_inputs

from fastbp import _core, compile, fit, nn
from fastbp.testing import network

SOFTMAX = ("softmax_cross_entropy", {})
THREADS = (1, 2, 3, 7, 16)

# Network, samples a step, and the form that the phases take on 16 threads.
BLOCKS = ((20, 64, 32, 1), 4096)
COLUMNS = ((300, 600, 410, 10), 24)
BLAS_COLUMNS = ((40, 1100, 1030, 3), 70)
BLAS_TILES = ((20, 1030, 1100, 3), 1100)  # three tiles of at most 512 rows


def trained(net, batch_size, n_threads, epochs=2):
    weights = np.random.default_rng(1).uniform(0.5, 2, len(net.y)).astype(net.plan.dtype)
    run = Run(net, batch_size=batch_size, alpha=0.1, sample_weight=weights, n_threads=n_threads)
    losses = run(epochs, rate=1e-3)["losses"]
    return run, losses


def same_for_all_threads(net, batch_size, others=THREADS[1:], epochs=2):
    first, expected = trained(net, batch_size, 1, epochs)
    assert np.isfinite(expected).all()
    for n_threads in others:
        run, losses = trained(net, batch_size, n_threads, epochs)
        run.same_as(first)
        np.testing.assert_array_equal(losses, expected)


@pytest.mark.threads
@over_dtypes
@over_inputs
def test_blocks_of_rows_give_the_same_bits_for_any_number_of_threads(sparse, dtype):
    sizes, batch_size = BLOCKS
    net = network(sizes, ("silu", {}), dtype=dtype, sparse=sparse, n_samples=batch_size + 700)
    assert net.plan.balance(batch_size, 16)["n_blocks"] > 1
    same_for_all_threads(net, batch_size)


@pytest.mark.threads
@pytest.mark.parametrize("batch_size", [8, 200])
@pytest.mark.parametrize("precision", ["full", "bf16", "fp16"])
@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Mish, nn.Tanh])
def test_pieces_do_not_write_where_others_read(activation, precision, batch_size):
    """What a layer reads is done with once it has run: its room is another's, who may not be early.

    That is so in mixed precision, where it is stored, and before layers that are frozen.
    """
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 256), np.float32), rng.integers(0, 10, 400)
    found = []
    for n_threads in (1, 2, 4):
        layers = [layer for _ in range(3) for layer in (nn.Linear(256), activation())]
        module = nn.Sequential(*layers, nn.Linear(10)).build(256)
        if precision == "full":
            module.freeze("0", "2")
        plan = compile(module, "softmax_cross_entropy", precision=precision).core
        assert batch_size > 8 or plan.balance(batch_size, 4)["by_columns"]
        given = {"batch_size": batch_size, "max_epochs": 2, "precision": precision}
        fit(module, "softmax_cross_entropy", X, y, n_threads=n_threads, **given)
        found.append(module._home.flat.copy())
    for others in found[1:]:
        np.testing.assert_array_equal(others, found[0])


@pytest.mark.threads
@over_dtypes
@over_inputs
@pytest.mark.parametrize("activation", ["identity", "tanh", "gelu"])
def test_columns_give_the_same_bits_for_any_number_of_threads(activation, sparse, dtype):
    """Of activations that read their output, their input, or nothing in backward."""
    sizes, batch_size = COLUMNS
    net = network(sizes, (activation, {}), SOFTMAX, dtype=dtype, sparse=sparse, n_samples=50)
    assert not net.plan.balance(batch_size, 3)["by_columns"]
    assert net.plan.balance(batch_size, 16)["by_columns"]
    same_for_all_threads(net, batch_size)


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize("isa", _core.build_info()["isas"])
def test_columns_begin_where_panels_do_on_every_instruction_set(isa, dtype, force_isa):
    """Whatever number of vectors is left for the last pieces."""
    force_isa(isa)
    for width in (400, 410, 416, 420, 432, 440, 448, 461):
        net = network((30, width, width, 2), ("tanh", {}), dtype=dtype, n_samples=24)
        assert net.plan.balance(24, 16)["by_columns"]
        first, _ = trained(net, 24, 1)
        trained(net, 24, 16)[0].same_as(first)


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize(("sizes", "batch_size"), [BLAS_COLUMNS, BLAS_TILES])
def test_columns_on_blas_give_the_same_bits_for_any_number_of_threads(
    sizes, batch_size, dtype, leave_more_to_blas
):
    net = network(sizes, dtype=dtype, n_samples=batch_size + 30)
    assert net.plan.layers[1]["products"] == "blas"
    assert net.plan.balance(batch_size, 7)["by_columns"]
    same_for_all_threads(net, batch_size, others=(2, 7), epochs=1)


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize("batch_size", [70, 1100])
def test_weights_read_in_parts_give_the_same_bits_for_any_number_of_threads(batch_size, dtype):
    """By rows on one thread and on two, where one tile of 512 rows and one of 1100 differ; by
    columns on seven."""
    net = network((1600, 700, 1510, 3), dtype=dtype, n_samples=batch_size + 30)
    assert {layer["products"] for layer in net.plan.layers} == {"in parts", "packed"}
    assert net.plan.balance(batch_size, 7)["by_columns"]
    same_for_all_threads(net, batch_size, others=(2, 7), epochs=1)


def near_the_witness(net, grad, loss):
    """Sums of n terms, in two orders, differ by n eps of the largest magnitude at most."""
    witness = reference.MLP(*net.arguments)
    expected_loss, expected = witness.loss_gradient(net.params.astype(np.float64), net.X, net.y)
    limit = float(len(net.y) * np.finfo(net.plan.dtype).eps)
    assert loss == pytest.approx(expected_loss, rel=limit)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=limit * np.abs(expected).max())


@pytest.mark.threads
@over_dtypes
@over_inputs
def test_the_gradient_in_blocks_is_that_of_the_reference(sparse, dtype):
    """More than two passes of 1024 samples, each of four blocks, the last one ragged."""
    sizes = (70, 60, 40)
    net = network(sizes, ("tanh", {}), SOFTMAX, dtype=dtype, sparse=sparse, n_samples=2500)
    assert net.plan.balance(1024, 1)["n_blocks"] == 4
    found = []
    for n_threads in (1, 2, 3, 5):
        grad = np.full(net.plan.n_params, np.nan, dtype)
        loss = net.plan.loss_gradient(net.params, net.X, net.y, grad=grad, n_threads=n_threads)
        found.append((loss, grad))
    near_the_witness(net, found[0][1], found[0][0])
    for loss, grad in found[1:]:
        assert loss == found[0][0]
        np.testing.assert_array_equal(grad, found[0][1])


@over_dtypes
def test_the_gradient_of_one_output_in_several_tiles(dtype):
    """Its column lies like a row: tiles of it, first formed and then added to, meet exactly."""
    net = network((2101, 1), dtype=dtype, n_samples=1500)
    grad = np.full(net.plan.n_params, np.nan, dtype)
    loss = net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    near_the_witness(net, grad, loss)


@over_dtypes
def test_a_step_in_blocks_follows_the_gradient(dtype):
    """One step of gradient descent on all of 1000 samples, in three blocks of unequal length."""
    net = network((5, 8, 2), ("tanh", {}), dtype=dtype, n_samples=1000)
    assert net.plan.balance(1000, 1)["n_blocks"] == 3
    run = Run(net, "sgd", batch_size=1000)
    run(1, rate=0.5)
    _, grad = reference.MLP(*net.arguments).loss_gradient(
        net.params.astype(np.float64), net.X, net.y
    )
    bound = 1000 * np.finfo(dtype).eps * max(1.0, np.abs(grad).max())
    np.testing.assert_allclose(run.params, net.params - 0.5 * grad, rtol=0, atol=bound)


def test_one_thread_has_all_of_the_work():
    for sizes, batch_size in (BLOCKS, COLUMNS, BLAS_COLUMNS):
        plan = network(sizes, n_samples=2).plan
        balance = plan.balance(batch_size, 1)
        assert (balance["rows"], balance["weights"]) == (1.0, 1.0)
        assert not balance["by_columns"]


def test_cuts_occupy_threads():
    """Few tiles of weights, or few rows, leave threads idle where nothing else is cut."""
    plan = network((20, 64, 32, 1), dtype=np.float32, n_samples=2).plan
    assert plan.balance(256, 16)["weights"] < 0.2  # 6 tiles
    assert plan.balance(4096, 16)["weights"] > 0.7
    plan = network((784, 512, 256, 10), dtype=np.float32, n_samples=2).plan
    few, many = plan.balance(128, 16), plan.balance(128, 64)
    assert not few["by_columns"]
    assert few["rows"] == 1.0
    assert many["by_columns"]
    assert many["rows"] > 0.5


def test_small_steps_are_not_cut_by_columns():
    """Meeting after each of 33 layers would cost more than idle threads do."""
    plan = network((64,) + 32 * (64,) + (1,), dtype=np.float32, n_samples=2).plan
    assert not any(plan.balance(64, n_threads)["by_columns"] for n_threads in (2, 8, 64))


def test_sparse_samples_alone_are_no_reason_to_cut_columns():
    """Each piece of the first layer's columns would read all stored values again."""
    wide = network((100_000, 64, 2), sparse=True, n_samples=2).plan
    assert not any(wide.balance(64, n_threads)["by_columns"] for n_threads in (2, 16, 64))
    linear = network((100, 3), sparse=True, n_samples=2).plan
    assert linear.balance(64, 8)["rows"] == 1.0


@pytest.mark.parametrize(
    ("sizes", "batch_size", "most"),
    [
        ((64, 100, 10), 200, 8),
        ((20, 64, 32, 1), 32, 4),
        ((54, 256, 256, 7), 256, 32),
        ((784, 512, 256, 10), 128, 64),
        ((1, 64, 32, 1), 100, 2),
        ((64,) + 32 * (64,) + (10,), 64, 16),
    ],
)
def test_up_to_how_many_threads_half_of_them_work(sizes, batch_size, most):
    """In both phases, of 2, 4, 8 ... 64 threads: the table of benchmarks/README.md."""
    assert most_at_work(network(sizes, dtype=np.float32, n_samples=2).plan, batch_size) == most


def test_up_to_how_many_threads_half_of_them_work_on_wide_layers(leave_more_to_blas):
    """BLAS takes whole tiles of rows; the kernels of v4, which need it here no more, do not."""
    sizes = (1024, 2048, 2048, 1000)
    assert most_at_work(network(sizes, dtype=np.float32, n_samples=2).plan, 1024) == 16
    _core.set_isa(None)
    if _core.build_info()["isa"] == "v4":
        assert most_at_work(network(sizes, dtype=np.float32, n_samples=2).plan, 1024) == 64


def most_at_work(plan, batch_size):
    good = []
    for n_threads in (2, 4, 8, 16, 32, 64):
        balance = plan.balance(batch_size, n_threads)
        assert 0 < balance["rows"] <= 1
        assert 0 < balance["weights"] <= 1
        if min(balance["rows"], balance["weights"]) < 0.5:
            break
        good.append(n_threads)
    return good[-1]
