# cython: language_level=3
"""Marshalling between NumPy and the C core, and nothing else: no mathematics, no loop over elements, no
name of a row. Arrays are checked here, so that C meets only pointers it may follow; the GIL is released
around every call that works; every failure becomes an exception in `_raise`, in one place. It is long
because each public function of the header has its counterpart here, and one extension module is one
file."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
cimport numpy as cnp
from scipy.linalg.cython_blas cimport dgemm, sgemm

from fastbp._core.fbp cimport *

import operator
import os
import threading
from numbers import Real

import numpy as np
import scipy.sparse

from fastbp._core.blas import one_blas_thread
from fastbp.errors import NonFiniteError

cnp.import_array()
if fbp_isa_count() == 0:
    raise ImportError("fastbp was built for x86-64-v2 and later, which this processor is not")
fbp_set_blas(<fbp_sgemm_fn>sgemm, <fbp_dgemm_fn>dgemm)

KINDS = {"op": FBP_OP, "function": FBP_FUNCTION, "activation": FBP_ACTIVATION, "loss": FBP_LOSS,
         "rule": FBP_RULE}
AXES = {FBP_AXIS_NONE: "none", FBP_AXIS_DATA: "data", FBP_AXIS_SPANNED: "spanned"}
READS = {FBP_READS_NOTHING: "nothing", FBP_READS_INPUT: "input", FBP_READS_OUTPUT: "output"}
PRODUCTS = {FBP_PACKED: "packed", FBP_IN_PARTS: "in parts", FBP_BLAS: "blas"}
NEEDS = {FBP_NEEDS_NOTHING: "nothing", FBP_NEEDS_TENSOR_NORMS: "norms of tensors"}
FIRST_SCALING = (FBP_FIRST_DOUBLINGS, 0, 0)
PRECISIONS = {"full": FBP_FULL, "bf16": FBP_BF16, "fp16": FBP_FP16}
TARGETS = {
    FBP_TARGET_REAL: "real",
    FBP_TARGET_NONNEGATIVE: "nonnegative",
    FBP_TARGET_BINARY: "binary",
    FBP_TARGET_CLASS: "class",
}


# What a callback raised, for each thread, as fbp_message() is: callbacks run in the thread that has
# made the call, which raises it again.
_raised = threading.local()


cdef object _taken_error():
    error = _raised.error
    del _raised.error
    return error


cdef object _raise(fbp_status status):
    if status == FBP_FAILED:
        raise _taken_error()
    message = fbp_message().decode()
    if status == FBP_NO_MEMORY:
        raise MemoryError(message)
    if status == FBP_ABSENT:
        raise LookupError(message)
    raise ValueError(message)


# ---- arrays ----

cdef inline void *_data(object array):
    return cnp.PyArray_DATA(array)


cdef int _dtype(object dtype) except -1:
    if dtype == np.float32:
        return FBP_F32
    if dtype == np.float64:
        return FBP_F64
    raise TypeError(f"dtype: found {dtype}, wanted float32 or float64")


cdef object _np_dtype(int dtype):
    return np.dtype(np.float32 if dtype == FBP_F32 else np.float64)


cdef object _dense(object array, str name, object dtype, object shape, bint writable=False):
    """`array` itself, once it is known to be C-contiguous, aligned, of this dtype and shape."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: found {type(array).__name__}, wanted a numpy array")
    if array.dtype != dtype:
        raise TypeError(f"{name}: found dtype {array.dtype}, wanted {np.dtype(dtype)}")
    if array.shape != shape:
        raise ValueError(f"{name}: found shape {array.shape}, wanted {shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name}: found a strided or unaligned array, wanted a C-contiguous one")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name}: found a read-only array, wanted a writable one")
    return array


cdef object _reals(object array, str name):
    """`array` as a C-contiguous one, a copy where it is strided; float32 or float64."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: found {type(array).__name__}, wanted a numpy array")
    if array.dtype != np.float32 and array.dtype != np.float64:
        raise TypeError(f"{name}: found dtype {array.dtype}, wanted float32 or float64")
    return np.ascontiguousarray(array)


cdef object _samples(object X, fbp_samples *samples, Plan plan, int index, str name="X"):
    """Fills the view of one input and returns what must live as long as it."""
    cdef Py_ssize_t d, n_axes
    memset(samples, 0, sizeof(fbp_samples))
    if scipy.sparse.issparse(X):
        return _csr_samples(X, samples, plan, name)
    if not isinstance(X, np.ndarray):
        raise TypeError(f"{name}: found {type(X).__name__}, wanted a numpy array or a CSR matrix")
    shape, dtype = plan.input_shapes[index], plan.input_dtypes[index]
    if X.dtype != dtype:
        raise TypeError(f"{name}: found dtype {X.dtype}, wanted {dtype}")
    n_axes = X.ndim
    if n_axes != len(shape) + 1:
        wanted = "(n_samples, n_features)" if len(shape) == 1 else f"(n_samples, *{shape})"
        raise ValueError(f"{name}: found {n_axes} dimensions, wanted {len(shape) + 1}: {wanted}")
    size = dtype.itemsize
    if n_axes == 2:
        if not X.flags.aligned or X.strides[0] % size or X.strides[1] % size:
            raise ValueError(f"{name}: found strides of parts of elements, wanted whole, aligned ones")
        samples.data = _data(X)
        samples.rows, samples.cols = X.shape
        samples.row_stride, samples.col_stride = X.strides[0] // size, X.strides[1] // size
        return X
    if X.shape[1:] != shape:
        raise ValueError(f"{name}: found samples of shape {X.shape[1:]}, wanted {shape}")
    if not (X.flags.c_contiguous and X.flags.aligned):
        raise ValueError(f"{name}: found a strided or unaligned array, wanted a C-contiguous one")
    samples.data, samples.rows, samples.cols = _data(X), X.shape[0], 1
    for d in range(1, n_axes):
        samples.cols *= X.shape[d]
    samples.row_stride, samples.col_stride = samples.cols, 1
    return X


cdef object _all_samples(object X, fbp_samples *samples, Plan plan):
    """Fills the views of all inputs, X being their tuple where there are several."""
    if plan.n_graph_inputs == 1:
        return _samples(X, samples, plan, 0)
    if not isinstance(X, tuple) or len(X) != plan.n_graph_inputs:
        raise TypeError(f"X: found {type(X).__name__}, wanted a tuple of {plan.n_graph_inputs} arrays")
    return [_samples(one, &samples[i], plan, i, f"X[{i}]") for i, one in enumerate(X)]


cdef object _csr_samples(object X, fbp_samples *samples, Plan plan, str name):
    if X.format != "csr":
        raise TypeError(f"{name}: found a sparse matrix in {X.format} format, wanted csr")
    if X.dtype != plan.dtype:
        raise TypeError(f"{name}: found dtype {X.dtype}, wanted {plan.dtype}")
    if X.shape[1] > np.iinfo(np.int32).max:
        raise ValueError(f"{name}: found {X.shape[1]} columns, wanted at most {2**31 - 1}")
    data = np.ascontiguousarray(X.data)
    indices = np.ascontiguousarray(X.indices, dtype=np.int32)
    indptr = np.ascontiguousarray(X.indptr, dtype=np.int64)
    if indptr.shape != (X.shape[0] + 1,):
        raise ValueError(f"{name}: found an indptr of shape {indptr.shape}, wanted {(X.shape[0] + 1,)}")
    samples.data = _data(data)
    samples.rows, samples.cols = X.shape
    samples.indices = <const int32_t *>_data(indices)
    samples.indptr = <const int64_t *>_data(indptr)
    samples.stored = min(data.size, indices.size)
    return data, indices, indptr


cdef object _targets(object y, const void **pointers, Plan plan, int64_t n):
    """Fills the pointers to the targets of all losses, y being their tuple where there are several."""
    if plan.n_losses == 1:
        y = (y,)
    elif not isinstance(y, tuple) or len(y) != plan.n_losses:
        raise TypeError(f"y: found {type(y).__name__}, wanted a tuple of {plan.n_losses} arrays")
    for i, (shape, dtype) in enumerate(plan.target_forms):
        pointers[i] = _data(_dense(y[i], "y", dtype, (n, *shape)))
    return y


cdef object _problem(fbp_problem *problem, fbp_samples *samples, const void **targets, Plan plan,
                     object X, object y, object sample_weight, double alpha, object draws=None):
    """Fills the problem and returns what must live as long as it; random masks are of (seed, step)
    in `draws`, and there are none where that is None."""
    kept = _all_samples(X, samples, plan)
    n = samples[0].rows
    target = _targets(y, targets, plan, n)
    problem.x, problem.target = samples, targets
    problem.weight = NULL
    if sample_weight is not None:
        sample_weight = _dense(sample_weight, "sample_weight", plan.dtype, (n,))
        problem.weight = _data(sample_weight)
    problem.alpha = alpha
    problem.masks = draws is not None
    memset(&problem.draws, 0, sizeof(fbp_draws))
    if draws is not None:
        seed, step = draws
        problem.draws.seed, problem.draws.step = _seed(seed), _whole(step, "step", 0)
    return kept, target, sample_weight


cdef int64_t _whole(object number, str name, int64_t least) except? -1:
    """An integer of at least `least`, of any type that is one."""
    try:
        value = operator.index(number)
    except TypeError:
        raise TypeError(f"{name}: found {number!r}, wanted an integer") from None
    if not least <= value < 2**63:
        raise ValueError(f"{name}: found {value}, wanted at least {least} and less than 2**63")
    return value


cdef int64_t _rows(object number, str name, int64_t least) except? -1:
    """A number of samples that the engine can count."""
    count = _whole(number, name, least)
    if count >= 2**32:
        raise ValueError(f"{name}: found {number}, wanted less than 2**32")
    return count


cdef double _clipping(object most, str name) except -1:
    """The norm or size that gradients are clipped to; 0 for None."""
    if most is None:
        return 0.0
    cdef double number = most
    if not 0.0 < number < np.inf:
        raise ValueError(f"{name}: found {most!r}, wanted a finite number above 0, or None")
    return number


cdef uint64_t _seed(object seed) except? 0:
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: found {seed!r}, wanted an integer") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"seed: found {value}, wanted 0 to 2**64 - 1")
    return value


cdef int _threads(object n_threads) except -1:
    wanted = _whole(n_threads, "n_threads", 1)
    # OpenMP ends the process where it cannot start a thread, so their number must be a sane one.
    # (Counting the cores takes microseconds, so few threads are let pass without.)
    most = 64 if wanted <= 64 else max(64, 4 * (os.cpu_count() or 1))
    if wanted > most:
        raise ValueError(f"n_threads: found {wanted}, wanted at most {most} on this machine")
    cdef int count = wanted
    if count > 1 and fbp_in_forked_child():
        raise RuntimeError(
            f"n_threads: found {count} in a forked process, wanted 1: threads do not survive a fork. "
            "Start processes by spawn, or use joblib's loky"
        )
    return count


# ---- the table ----

cdef dict _row_dict(const fbp_row *row):
    cdef fbp_row_info info = fbp_row_describe(row)
    cdef fbp_op_info op = fbp_op_describe(row)
    return {
        "name": info.name.decode(),
        "kind": {code: kind for kind, code in KINDS.items()}[info.kind],
        "doc": info.doc.decode(),
        "attrs": tuple(
            {
                "name": info.attrs[i].name.decode(),
                "default": info.attrs[i].fallback,
                "low": info.attrs[i].low,
                "high": info.attrs[i].high,
                "low_open": bool(info.attrs[i].low_open),
                "high_open": bool(info.attrs[i].high_open),
                "doc": info.attrs[i].doc.decode(),
                "whole": bool(info.attrs[i].whole),
                "counts": (info.attrs[i].least, info.attrs[i].most) if info.attrs[i].most else None,
            }
            for i in range(info.n_attrs)
        ),
        "inputs": tuple(op.inputs[i].decode() for i in range(op.most_inputs)),
        "least_inputs": op.least_inputs,
        "indices": tuple(i for i in range(op.most_inputs) if op.indices >> i & 1),
        "random": bool(op.random),
        "samples": AXES[op.axis],
        "reads": READS[info.reads],
        "target": TARGETS[info.target],
        "link": "identity" if info.link == NULL else info.link.decode(),
        "n_states": info.n_states,
        "needs": NEEDS[info.needs],
        "row_independent": bool(info.row_independent),
        "tangent": bool(info.has_tangent),
        "tangent_of_backward": bool(info.has_backward_tangent),
        "reads_sparse": bool(info.reads_sparse),
    }


def table():
    """The rows of the engine's table, as dictionaries, in the order ops, activations, losses, rules."""
    return tuple(_row_dict(fbp_row_at(i)) for i in range(fbp_row_count()))


cdef const fbp_row *_row(fbp_kind kind, str name) except NULL:
    encoded = name.encode()
    cdef const fbp_row *row = fbp_row_find(kind, encoded)
    if row == NULL:
        _raise(FBP_INVALID)
    return row


cdef int _attrs(const fbp_row *row, object given, double *attrs) except -1:
    """The row's attributes in its order: those given, and the defaults of the others."""
    cdef fbp_row_info info = fbp_row_describe(row)
    rest = dict(given or {})
    for i in range(info.n_attrs):
        attrs[i] = rest.pop(info.attrs[i].name.decode(), info.attrs[i].fallback)
        if isnan(attrs[i]):
            raise ValueError(f"{info.attrs[i].name.decode()}: found nan, wanted a number")
    if rest:
        wanted = ", ".join(info.attrs[i].name.decode() for i in range(info.n_attrs)) or "none"
        raise ValueError(f"attributes of '{info.name.decode()}': found {sorted(rest)}, wanted {wanted}")
    cdef fbp_status status = fbp_row_check(row, attrs)
    if status != FBP_OK:
        _raise(status)
    return 0


cdef const fbp_row *_unary_row(str name) except NULL:
    """An elementwise function, or an activation."""
    encoded = name.encode()
    cdef const fbp_row *row = fbp_row_find(FBP_FUNCTION, encoded)
    return row if row != NULL else _row(FBP_ACTIVATION, name)


def activation(str name, x, attrs=None, int order=0):
    """Value (order 0), first or second derivative of an activation or function at each element of x."""
    if order not in (0, 1, 2):
        raise ValueError(f"order: found {order}, wanted 0, 1 or 2")
    cdef double values[FBP_MAX_ATTRS]
    cdef const fbp_row *row = _unary_row(name)
    _attrs(row, attrs, values)
    array = _reals(x, "x")
    cdef fbp_dtype dtype = <fbp_dtype>_dtype(array.dtype)
    out = np.empty(array.shape, array.dtype)
    cdef void *source = _data(array)
    cdef void *to = _data(out)
    cdef int64_t n = array.size
    cdef fbp_status status
    with nogil:
        status = fbp_activation_run(row, dtype, values, order, n, source, to)
    if status != FBP_OK:
        _raise(status)
    return out


cdef object _raw_outputs(object z):
    z = _reals(z, "z")
    if z.ndim != 2:
        raise ValueError(f"z: found {z.ndim} dimensions, wanted 2: (n_samples, n_outputs)")
    return z


cdef object _loss_arrays(const fbp_row *row, object z, object t):
    z = _raw_outputs(z)
    if fbp_row_describe(row).target == FBP_TARGET_CLASS:
        t = _dense(np.ascontiguousarray(t), "t", np.int32, (z.shape[0],))
        if t.size and not (0 <= t.min() and t.max() < z.shape[1]):
            raise ValueError(f"t: found classes {t.min()} to {t.max()}, wanted 0 to {z.shape[1] - 1}")
        return z, t
    return z, _dense(np.ascontiguousarray(t), "t", z.dtype, z.shape)


cdef tuple _losses(str name, object z, object t, object dz, object attrs):
    """Values (n,) and gradients (n, n_outputs) of a loss; with dz, their derivatives along it."""
    cdef double values[FBP_MAX_ATTRS]
    cdef const fbp_row *row = _row(FBP_LOSS, name)
    _attrs(row, attrs, values)
    z, t = _loss_arrays(row, z, t)
    value, gradient = np.empty(z.shape[0], z.dtype), np.empty_like(z)
    cdef fbp_dtype dtype = <fbp_dtype>_dtype(z.dtype)
    cdef int64_t n = z.shape[0], k = z.shape[1]
    cdef void *raw = _data(z)
    cdef void *target = _data(t)
    cdef void *to = _data(value)
    cdef void *slope = _data(gradient)
    cdef void *tangent = NULL
    if dz is not None:
        tangent = _data(_dense(dz, "dz", z.dtype, z.shape))
    cdef fbp_status status
    with nogil:
        if tangent == NULL:
            status = fbp_loss_run(row, dtype, values, n, k, raw, target, to, slope)
        else:
            status = fbp_loss_tangent(row, dtype, values, n, k, raw, tangent, target, to, slope)
    if status != FBP_OK:
        _raise(status)
    return value, gradient


def loss(str name, z, t, attrs=None):
    """A loss of each sample, (n,), and its gradient by the raw output z, (n, n_outputs)."""
    return _losses(name, z, t, None, attrs)


def loss_tangent(str name, z, t, dz, attrs=None):
    """The derivatives of a loss's values and of its gradient along dz."""
    return _losses(name, z, t, _reals(dz, "dz"), attrs)


def link(str name, z):
    """The predictions that belong to the raw outputs z of a network trained with the loss `name`."""
    cdef const fbp_row *row = _row(FBP_LOSS, name)
    z = _raw_outputs(z)
    out = np.empty_like(z)
    cdef fbp_dtype dtype = <fbp_dtype>_dtype(z.dtype)
    cdef int64_t n = z.shape[0], k = z.shape[1]
    cdef void *raw = _data(z)
    cdef void *to = _data(out)
    cdef fbp_status status
    with nogil:
        status = fbp_loss_predict(row, dtype, n, k, raw, to)
    if status != FBP_OK:
        _raise(status)
    return out


def update(str rule, w, g, states, double rate, step, attrs=None):
    """Applies an update rule to w in place, and to its state vectors."""
    cdef double values[FBP_MAX_ATTRS]
    cdef void *pointers[FBP_MAX_STATES]
    cdef const fbp_row *row = _row(FBP_RULE, rule)
    _attrs(row, attrs, values)
    cdef int n_states = fbp_row_describe(row).n_states
    if len(states) != n_states:
        raise ValueError(f"states: found {len(states)} vectors, wanted {n_states}")
    if not isinstance(w, np.ndarray):
        raise TypeError(f"w: found {type(w).__name__}, wanted a numpy array")
    _dense(w, "w", w.dtype, (w.size,), writable=True)
    _dense(g, "g", w.dtype, w.shape)
    for i in range(n_states):
        pointers[i] = _data(_dense(states[i], "states", w.dtype, w.shape, writable=True))
    cdef fbp_dtype dtype = <fbp_dtype>_dtype(w.dtype)
    cdef int64_t n = w.size, number = _whole(step, "step", 1)
    cdef void *to = _data(w)
    cdef void *gradient = _data(g)
    cdef fbp_status status
    with nogil:
        status = fbp_rule_run(row, dtype, values, rate, number, n, gradient, to, pointers)
    if status != FBP_OK:
        _raise(status)


def elementary(str name, x):
    """An elementary function, exp or the like, at each element of x."""
    x = _reals(x, "x")
    out = np.empty_like(x)
    encoded = name.encode()
    cdef const char *function = encoded
    cdef fbp_dtype dtype = <fbp_dtype>_dtype(x.dtype)
    cdef int64_t n = x.size
    cdef void *source = _data(x)
    cdef void *to = _data(out)
    cdef fbp_status status
    with nogil:
        status = fbp_elementary_run(function, dtype, n, source, to)
    if status != FBP_OK:
        _raise(status)
    return out


cdef fbp_precision _precision(object name) except *:
    """A precision by its name."""
    if name not in PRECISIONS:
        raise ValueError(f"precision: found {name!r}, wanted one of {[*PRECISIONS]}")
    return <fbp_precision><int>PRECISIONS[name]


cdef fbp_precision _of_16_bits(object name) except *:
    if name == "full":
        raise ValueError("precision: found 'full', wanted one of 16 bits")
    return _precision(name)


def narrow(x, str precision):
    """float32 numbers rounded to 16 bits, as bits (uint16)."""
    cdef fbp_precision code = _of_16_bits(precision)
    x = np.array(x, np.float32, order="C")  # a copy: the engine rounds it as well
    out = np.empty(x.shape, np.uint16)
    cdef int64_t n = x.size
    cdef float *source = <float *>_data(x)
    cdef uint16_t *to = <uint16_t *>_data(out)
    with nogil:
        fbp_narrow(code, n, source, to)
    return out


def widen(bits, str precision):
    """What `narrow` gave, as float32."""
    cdef fbp_precision code = _of_16_bits(precision)
    bits = np.ascontiguousarray(bits, np.uint16)
    out = np.empty(bits.shape, np.float32)
    cdef int64_t n = bits.size
    cdef uint16_t *source = <uint16_t *>_data(bits)
    cdef float *to = <float *>_data(out)
    with nogil:
        fbp_widen(code, n, source, to)
    return out


# ---- nodes ----

cdef const fbp_row *_op_row(str name) except NULL:
    """The row of a node: an op, an elementwise function or activation, or a loss."""
    encoded = name.encode()
    cdef const fbp_row *row
    for kind in (FBP_LOSS, FBP_FUNCTION, FBP_ACTIVATION, FBP_OP):
        row = fbp_row_find(kind, encoded)
        if row != NULL:
            return row
    _raise(FBP_INVALID)


cdef object _numbers(const fbp_row *row, object given):
    """The numbers of a node's attributes, one after the other, and how many each has."""
    cdef fbp_row_info info = fbp_row_describe(row)
    rest, numbers, counts = dict(given or {}), [], []
    for i in range(info.n_attrs):
        name = info.attrs[i].name.decode()
        value = rest.pop(name, None)
        if value is None:
            value = () if info.attrs[i].most and not info.attrs[i].least else info.attrs[i].fallback
        listed = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        for number in listed:
            if not isinstance(number, Real) or number != number:
                found = repr(number) if number == number else "none"
                raise ValueError(f"{name} of {info.name.decode()}: found {found}, wanted a number")
        numbers.extend(float(number) for number in listed)
        counts.append(len(listed))
    if rest:
        wanted = ", ".join(info.attrs[i].name.decode() for i in range(info.n_attrs)) or "none"
        raise ValueError(f"attributes of '{info.name.decode()}': found {sorted(rest)}, wanted {wanted}")
    return np.array(numbers, np.float64), np.array(counts, np.intc)


cdef object _fill_shape(fbp_shape *to, object shape, bint batched):
    if len(shape) > FBP_MAX_DIMS:
        raise ValueError(f"shape: found {len(shape)} dimensions, wanted at most {FBP_MAX_DIMS}")
    to.batched, to.ndim = batched, len(shape)
    for i, n in enumerate(shape):
        to.shape[i] = n


cdef class Node:
    """An op on operands of given shapes, to be run on arrays; immutable.

    `shapes` are those of whole arrays; a first axis of None is that of the samples, whose number is
    then open. `samples` is their number, 1 where the op knows no sample axis.
    """

    cdef fbp_node *node
    cdef fbp_node_info info
    cdef readonly object dtype, samples
    cdef readonly str name
    cdef readonly tuple shapes, contents, outputs, batched
    cdef readonly int n_results
    cdef readonly tuple differentiable
    cdef readonly tuple reads_inputs, reads_outputs
    cdef readonly double flops_forward, flops_backward

    def __cinit__(self, str name, shapes, *, dtype, attrs=None, indices=()):
        cdef const fbp_row *row = _op_row(name)
        cdef fbp_shape operands[FBP_MAX_INPUTS]
        memset(operands, 0, sizeof(operands))
        if len(shapes) > FBP_MAX_INPUTS:
            raise ValueError(f"{name}: found {len(shapes)} inputs, wanted at most {FBP_MAX_INPUTS}")
        self.name, self.shapes = name, tuple(tuple(shape) for shape in shapes)
        self.dtype = np.dtype(dtype)
        batched, leading = self._sample_axis(row)
        for i, shape in enumerate(self.shapes):
            _fill_shape(&operands[i], shape[1:] if leading[i] else shape, batched[i])
            operands[i].content = FBP_INDEX if i in indices else FBP_REAL
        self.batched = tuple(batched)
        self.contents = tuple(np.dtype(np.int32) if i in indices else self.dtype
                              for i in range(len(self.shapes)))
        numbers, counts = _numbers(row, attrs)
        cdef fbp_status status = fbp_node_create(
            row, <fbp_dtype>_dtype(self.dtype), <const double *>_data(numbers),
            <const int *>_data(counts), len(self.shapes), operands, &self.node)
        if status != FBP_OK:
            _raise(status)
        self._describe()

    cdef tuple _sample_axis(self, const fbp_row *row):
        """Which operands have the samples along their first axis, and whose first axis is therefore
        none of their own, which is also so where one element stands for all samples; sets the number
        of samples."""
        shapes = self.shapes
        open_axis = [bool(shape) and shape[0] is None for shape in shapes]
        if any(open_axis):
            self.samples = None
            return open_axis, open_axis
        cdef fbp_lengths whole[FBP_MAX_INPUTS]
        cdef fbp_sampled found
        for i, shape in enumerate(shapes):
            if len(shape) > FBP_MAX_DIMS + 1:
                raise ValueError(f"shape: found {len(shape)} dimensions, wanted at most {FBP_MAX_DIMS}")
            whole[i].ndim = len(shape)
            for axis, length in enumerate(shape):
                whole[i].lengths[axis] = length
        cdef fbp_status status = fbp_op_samples(row, len(shapes), whole, &found)
        if status != FBP_OK:
            _raise(status)
        self.samples = found.samples
        n = len(shapes)
        return [bool(found.batched[i]) for i in range(n)], [bool(found.leading[i]) for i in range(n)]

    cdef object _describe(self):
        self.info = fbp_node_describe(self.node)
        self.n_results = self.info.n_results
        outputs = []
        for i in range(self.info.n_outputs):
            shape = tuple(self.info.outputs[i].shape[j] for j in range(self.info.outputs[i].ndim))
            outputs.append((self.samples, *shape) if self.info.outputs[i].batched else shape)
        self.outputs = tuple(outputs)
        n = len(self.shapes)
        self.differentiable = tuple(bool(self.info.differentiable >> i & 1) for i in range(n))
        self.reads_inputs = tuple(bool(self.info.reads_inputs >> i & 1) for i in range(n))
        self.reads_outputs = tuple(bool(self.info.reads_outputs >> i & 1) for i in range(len(outputs)))
        self.flops_forward, self.flops_backward = self.info.flops_forward, self.info.flops_backward

    def __dealloc__(self):
        fbp_node_destroy(self.node)

    def __reduce__(self):
        raise TypeError("a Node belongs to this process and cannot be pickled: make it again")

    cdef object _start(self, fbp_arrays *arrays, object draws, bint training):
        memset(arrays, 0, sizeof(fbp_arrays))
        if self.samples is None:
            raise ValueError(f"{self.name}: found an open number of samples, wanted arrays of a known one")
        arrays.samples, arrays.training = self.samples, training
        if draws is not None:
            seed, step, stream, *first = draws
            arrays.draws.seed, arrays.draws.step, arrays.draws.stream = seed, step, stream
            arrays.draws.first = first[0] if first else 0

    cdef object _inputs(self, object given, const void **pointers, str name):
        """The arrays to be read in place of `shapes`; None is zero."""
        if len(given) != len(self.shapes):
            raise ValueError(f"{name} of {self.name}: found {len(given)} arrays, wanted {len(self.shapes)}")
        for i, array in enumerate(given):
            if array is not None:
                pointers[i] = _data(_dense(array, name, self.contents[i], self.shapes[i]))

    cdef object _results(self, object given, const void **pointers, str name, int count):
        if len(given) != count:
            raise ValueError(f"{name} of {self.name}: found {len(given)} arrays, wanted {count}")
        for i, array in enumerate(given):
            if array is not None:
                pointers[i] = _data(_dense(array, name, self.dtype, self.outputs[i]))

    cdef list _new_outputs(self, void **pointers):
        made = [np.empty(shape, self.dtype) for shape in self.outputs]
        for i, array in enumerate(made):
            pointers[i] = _data(array)
        return made

    cdef list _new_gradients(self, object wanted, void **pointers):
        made = [np.empty(shape, self.dtype) if want else None
                for shape, want in zip(self.shapes, wanted, strict=True)]
        for i, array in enumerate(made):
            if array is not None:
                pointers[i] = _data(array)
        return made

    def forward(self, x, *, draws=None, bint training=False):
        """Results and what is kept for backward, of the arrays x.

        `draws`, (seed, step, stream), is what random masks are functions of; and, where the arrays
        are a part of a batch, the place of their first sample in it."""
        cdef fbp_arrays arrays
        cdef fbp_status status
        self._start(&arrays, draws, training)
        self._inputs(x, arrays.x, "x")
        made = self._new_outputs(arrays.y)
        with nogil:
            status = fbp_node_forward(self.node, &arrays)
        if status != FBP_OK:
            _raise(status)
        return made

    def follow(self, y, p, double momentum):
        """p moves by a share of `momentum` towards what the result y says of further samples."""
        if self.samples is None:
            raise ValueError(f"{self.name}: found an open number of samples, wanted a known one")
        cdef int64_t samples = self.samples
        cdef const void *of = _data(_dense(y, "y", self.dtype, self.outputs[0]))
        cdef void *to = _data(_dense(p, "p", self.dtype, self.outputs[0], True))
        cdef fbp_status status
        with nogil:
            status = fbp_node_follow(self.node, samples, momentum, of, to)
        if status != FBP_OK:
            _raise(status)

    def backward(self, x, y, dy, wanted, *, draws=None, bint training=False):
        """Gradients of the wanted inputs along dy, the gradients of the results; the others None."""
        cdef fbp_arrays arrays
        cdef fbp_status status
        self._start(&arrays, draws, training)
        self._inputs(x, arrays.x, "x")
        self._results(y, <const void **>arrays.y, "y", len(self.outputs))
        self._results(dy, arrays.dy, "dy", self.n_results)
        made = self._new_gradients(wanted, arrays.dx)
        with nogil:
            status = fbp_node_backward(self.node, &arrays)
        if status != FBP_OK:
            _raise(status)
        return made

    def tangent(self, x, y, tx, *, draws=None, bint training=False):
        """Tangents of the results and of what is kept, along tx."""
        cdef fbp_arrays arrays
        cdef fbp_status status
        self._start(&arrays, draws, training)
        self._inputs(x, arrays.x, "x")
        self._inputs(tx, arrays.tx, "tx")
        self._results(y, <const void **>arrays.y, "y", len(self.outputs))
        made = self._new_outputs(arrays.ty)
        with nogil:
            status = fbp_node_tangent(self.node, &arrays)
        if status != FBP_OK:
            _raise(status)
        return made

    def backward_tangent(self, x, y, tx, ty, dy, tdy, wanted, *, draws=None, bint training=False):
        """Tangents of the wanted inputs' gradients, along tx, its ty, and tdy."""
        cdef fbp_arrays arrays
        cdef fbp_status status
        self._start(&arrays, draws, training)
        self._inputs(x, arrays.x, "x")
        self._inputs(tx, arrays.tx, "tx")
        self._results(y, <const void **>arrays.y, "y", len(self.outputs))
        self._results(ty, <const void **>arrays.ty, "ty", len(self.outputs))
        self._results(dy, arrays.dy, "dy", self.n_results)
        self._results(tdy, arrays.tdy, "tdy", self.n_results)
        made = self._new_gradients(wanted, arrays.tdx)
        with nogil:
            status = fbp_node_backward_tangent(self.node, &arrays)
        if status != FBP_OK:
            _raise(status)
        return made


# ---- instruction sets, threads, memory ----

def build_info():
    """How this build was made and what it runs on here."""
    names = []
    for i in range(fbp_isa_count()):
        names.append(fbp_isa_name(i).decode())
    return {
        "openmp": bool(fbp_has_openmp()),
        "isas": tuple(names),
        "isa": fbp_isa_current().decode(),
        "elementary": _elementary_names(),
    }


cdef tuple _elementary_names():
    names = []
    cdef const char *name = fbp_elementary_name(0)
    while name != NULL:
        names.append(name.decode())
        name = fbp_elementary_name(len(names))
    return tuple(names)


def set_isa(name):
    """Forces an instruction set for all later calls and plans; None chooses the widest. For tests."""
    cdef fbp_status status
    if name is None:
        status = fbp_isa_force(NULL)
    else:
        encoded = name.encode()
        status = fbp_isa_force(encoded)
    if status != FBP_OK:
        _raise(status)


def max_threads():
    """Threads that the OpenMP runtime grants the calling thread now."""
    return fbp_max_threads()


def in_forked_child():
    """Whether this process was forked after the engine was loaded, where it runs on one thread."""
    return bool(fbp_in_forked_child())


def allocation_count():
    """Allocations that the core has made so far: the steady state makes none."""
    return fbp_allocation_count()


def allocated_bytes():
    """Bytes that these allocations took, freed since or not."""
    return fbp_allocated_bytes()


def fail_allocation(int64_t nth):
    """Lets the nth allocation from now fail, once; 0 takes it back. For tests."""
    fbp_fail_allocation(nth)


# ---- random numbers ----

def permutation(seed, epoch, n):
    """The order of n samples in an epoch: a function of (seed, epoch)."""
    cdef int64_t size = _whole(n, "n", 0)
    cdef uint64_t key = _seed(seed), number = _whole(epoch, "epoch", 0)
    out = np.empty(size, np.uint32)
    cdef uint32_t *to = <uint32_t *>_data(out)
    cdef fbp_status status
    with nogil:
        status = fbp_permutation(key, number, size, to)
    if status != FBP_OK:
        _raise(status)
    return out


def uniform(seed, uint32_t stream, n, double low, double high, dtype):
    """n numbers, uniform in [low, high): a function of (seed, stream)."""
    if not low <= high:
        raise ValueError(f"low, high: found {low}, {high}, wanted low <= high")
    cdef int64_t size = _whole(n, "n", 0)
    cdef uint64_t key = _seed(seed)
    cdef fbp_dtype code = <fbp_dtype>_dtype(np.dtype(dtype))
    out = np.empty(size, dtype)
    cdef void *to = _data(out)
    with nogil:
        fbp_uniform(key, stream, size, low, high, code, to)
    return out


def normal(seed, uint32_t stream, n, dtype):
    """n standard normal numbers: a function of (seed, stream)."""
    cdef int64_t size = _whole(n, "n", 0)
    cdef uint64_t key = _seed(seed)
    cdef fbp_dtype code = <fbp_dtype>_dtype(np.dtype(dtype))
    out = np.empty(size, dtype)
    cdef void *to = _data(out)
    with nogil:
        fbp_normal(key, stream, size, code, to)
    return out


# ---- signals ----

cdef class _Signals:
    """What a signal's handler raised while C was running."""
    cdef object error


cdef int _poll(void *context) noexcept with gil:
    cdef _Signals signals = <_Signals>context
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        signals.error = error
        return 1
    return 0


# ---- callbacks ----

cdef object _in_place(const fbp_array *array, fbp_dtype dtype):
    """An array of the engine's, where it lies: for the length of a callback alone."""
    cdef cnp.npy_intp shape[FBP_MAX_DIMS + 1]
    cdef cnp.npy_intp strides[FBP_MAX_DIMS + 1]
    cdef int code = cnp.NPY_FLOAT32 if dtype == FBP_F32 else cnp.NPY_FLOAT64
    if array.content == FBP_INDEX:
        code = cnp.NPY_INT32
    for d in range(array.ndim):
        shape[d] = array.shape[d]
        strides[d] = array.strides[d] * (8 if code == cnp.NPY_FLOAT64 else 4)
    return cnp.PyArray_New(
        np.ndarray, array.ndim, shape, code, strides, array.data, 0, cnp.NPY_ARRAY_BEHAVED, None)


cdef int _call_forward(void *context, fbp_called *call) noexcept with gil:
    """What Python keeps are copies, dense and its own: it may hold them for as long as it likes."""
    try:
        arrays = [_in_place(&call.x[i], call.dtype).copy() for i in range(call.n_inputs)]
        wanted = [bool(call.wanted >> i & 1) for i in range(call.n_inputs)]
        left, results = (<object>context).forward(arrays, wanted)
        for i in range(call.n_results):
            np.copyto(_in_place(&call.y[i], call.dtype), results[i])
        if call.wanted:
            Py_INCREF(left)
            call.left = <void *>left
    except BaseException as error:
        _raised.error = error
        return 1
    return 0


cdef int _call_backward(void *context, fbp_called *call) noexcept with gil:
    try:
        slopes = [None if call.y[i].data == NULL else _in_place(&call.y[i], call.dtype).copy()
                  for i in range(call.n_results)]
        gradients = (<object>context).backward(<object>call.left, slopes)
        for i in range(call.n_inputs):
            if call.x[i].data != NULL:
                slope = gradients[i]
                np.copyto(_in_place(&call.x[i], call.dtype), 0 if slope is None else slope)
    except BaseException as error:
        _raised.error = error
        return 1
    return 0


cdef void _release(void *left) noexcept with gil:
    Py_DECREF(<object>left)


# ---- plans ----

cdef class Plan:
    """A network and its losses, compiled for one dtype: immutable, and safe to use from many threads.

    `Plan(n_inputs, layers, loss, dtype=...)` is a chain of dense layers, `Plan(graph=..., dtype=...)`
    any graph, told as the dictionary that `_graph_plan` reads.
    """

    cdef fbp_plan *plan
    cdef int n_graph_inputs, n_losses
    cdef readonly int64_t n_inputs, n_outputs, n_params
    cdef readonly object dtype, precision, sparse, uses_blas, tensors, layers, loss, target
    cdef readonly tuple nodes, values, parameters, losses, outputs
    cdef tuple callbacks
    cdef readonly tuple input_shapes, input_dtypes, output_shapes, target_forms

    def __cinit__(self, int64_t n_inputs=0, layers=(), loss=None, *, dtype, bint sparse=False,
                  graph=None):
        cdef fbp_dtype code = <fbp_dtype>_dtype(np.dtype(dtype))
        self.dtype = _np_dtype(code)
        self.callbacks = ()  # they live as long as the plan
        if graph is not None:
            self.callbacks = tuple(op for op, _, _ in graph["nodes"] if not isinstance(op, str))
        if graph is None:
            self.plan = _chain_plan(n_inputs, layers, loss, code, sparse)
        else:
            self.plan = _graph_plan(graph, code)
        self._describe()

    cdef object _describe(self):
        cdef fbp_plan_info info = fbp_plan_describe(self.plan)
        self.n_params, self.uses_blas = info.n_params, bool(info.uses_blas)
        self.precision = {code: name for name, code in PRECISIONS.items()}[info.precision]
        self.n_graph_inputs, self.n_losses = info.n_inputs, info.n_losses
        self.nodes = tuple(_node_dict(self.plan, n) for n in range(info.n_nodes))
        self.values = tuple(_value_dict(self.plan, v) for v in range(info.n_values))
        self.parameters = self.values[info.n_inputs:info.n_inputs + info.n_parameters]
        self.losses = tuple(_loss_dict(self.plan, i) for i in range(info.n_losses))
        self.outputs = tuple(info.outputs[i] for i in range(info.n_outputs))
        contents = {"real": self.dtype, "index": np.dtype(np.int32), "sparse": self.dtype}
        inputs = self.values[:info.n_inputs]
        self.input_shapes = tuple(value["shape"] for value in inputs)
        self.input_dtypes = tuple(contents[value["content"]] for value in inputs)
        self.sparse = any(value["content"] == "sparse" for value in inputs)
        self.output_shapes = tuple(self.values[v]["shape"] for v in self.outputs)
        self.n_inputs = inputs[0]["shape"][-1] if inputs[0]["shape"] else 1
        self.n_outputs = self.output_shapes[0][-1] if self.output_shapes[0] else 1
        self.target_forms = tuple(self._target_form(loss) for loss in self.losses)
        if self.losses:
            self.loss, self.target = self.losses[0]["name"], self.losses[0]["target"]
        self._describe_layers()

    cdef object _target_form(self, dict loss):
        shape = self.values[loss["value"]]["shape"]
        if loss["target"] == "class":
            return shape[:-1], np.dtype(np.int32)
        return shape, self.dtype

    cdef object _describe_layers(self):
        """The nodes with weights, with what follows them elementwise: the layers of a chain."""
        layers, tensors = [], []
        for n, node in enumerate(self.nodes):
            if len(node["inputs"]) == 1 and node["kind"] == "activation" and layers:
                layers[-1]["activation"] = node["name"]
            if len(node["inputs"]) < 2 or node["kind"] == "callback":
                continue
            shape = self.values[node["inputs"][1]]["shape"]
            batched = self.values[node["results"][0]]["batched"]
            if self.values[node["inputs"][1]]["offset"] < 0 or len(shape) != 2 or not batched:
                continue
            for name, v in zip(("weight", "bias"), node["inputs"][1:]):
                tensors.append({"name": f"layer{len(layers)}.{name}", "layer": len(layers),
                                "offset": self.values[v]["offset"], "shape": self.values[v]["shape"]})
            layers.append({"op": node["name"], "activation": None, "n_in": shape[0],
                           "n_out": shape[1], "products": node["products"], "node": n})
        self.layers, self.tensors = tuple(layers), tuple(tensors)

    cdef int _layer_of(self, int node):
        """The layer to which a node belongs: the last that begins no later; -1 for none."""
        found = [i for i, layer in enumerate(self.layers) if layer["node"] <= node]
        return found[-1] if found else -1

    def __dealloc__(self):
        fbp_plan_destroy(self.plan)

    def __reduce__(self):
        raise TypeError("a Plan is compiled for this process and cannot be pickled: make it again")

    cdef object _flat(self, object array, str name, bint writable=False):
        return _dense(array, name, self.dtype, (self.n_params,), writable)

    def predict(self, params, X, *, bint raw=False, n_threads=1):
        """Predictions (n, n_outputs) for X, or the raw outputs; a tuple where there are several."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef void *to[FBP_MAX_INPUTS]
        kept = _all_samples(X, samples, self)
        out = self._new_outputs(samples[0].rows, to)
        cdef int threads = _threads(n_threads)
        cdef _Signals signals = _Signals()
        cdef fbp_status status
        with nogil:
            status = fbp_predict(self.plan, w, samples, raw, threads, _poll, <void *>signals, to)
        if status == FBP_INTERRUPTED:
            raise signals.error
        if status != FBP_OK:
            _raise(status)
        return out

    cdef object _new_outputs(self, int64_t n, void **pointers):
        """Arrays for the outputs: one, or a tuple where there are several."""
        made = tuple([np.empty((n, *shape), self.dtype) for shape in self.output_shapes])
        for i, array in enumerate(made):
            pointers[i] = _data(array)
        return made[0] if len(made) == 1 else made

    def freeze(self, params):
        """This plan with a copy of `params`, prepared for many small predictions."""
        return Frozen(self, params)

    def loss_gradient(self, params, X, y, *, sample_weight=None, double alpha=0.0, grad=None,
                      draws=None, n_threads=1):
        """The loss over all samples; with `grad`, (n_params,), also its gradient.

        Random masks are those of the step of a training with this seed in `draws`, (seed, step);
        there are none where it is None."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef fbp_problem problem
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef const void *targets[FBP_MAX_INPUTS]
        kept = _problem(&problem, samples, targets, self, X, y, sample_weight, alpha, draws)
        cdef void *g = NULL
        if grad is not None:
            g = _data(self._flat(grad, "grad", writable=True))
        cdef int threads = _threads(n_threads)
        cdef double value = 0.0
        cdef _Signals signals = _Signals()
        cdef fbp_status status
        with one_blas_thread(self.uses_blas), nogil:
            status = fbp_gradient(self.plan, w, &problem, threads, _poll, <void *>signals, &value, g)
        if status == FBP_INTERRUPTED:
            raise signals.error
        if status != FBP_OK:
            _raise(status)
        return value

    def tangent(self, params, X, dparams, *, dX=None):
        """Forward mode: the derivative of the raw output along (dparams, dX), (n, n_outputs)."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef void *dw = _data(self._flat(dparams, "dparams"))
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef const void *dx[FBP_MAX_INPUTS]
        cdef void *to[FBP_MAX_INPUTS]
        kept = _all_samples(X, samples, self)
        directions = dX if isinstance(dX, tuple) else (dX,) * self.n_graph_inputs
        for i, direction in enumerate(directions[:self.n_graph_inputs]):
            dx[i] = NULL
            if direction is not None:
                shape = (samples[i].rows, *self.input_shapes[i])
                dx[i] = _data(_dense(direction, "dX", self.dtype, shape))
        out = self._new_outputs(samples[0].rows, to)
        cdef fbp_status status
        with nogil:
            status = fbp_tangent(self.plan, w, samples, dw, dx, to)
        if status != FBP_OK:
            _raise(status)
        return out

    def hessian_product(self, params, X, y, v, *, sample_weight=None, double alpha=0.0, draws=None):
        """Forward over reverse: the Hessian of the loss times v, (n_params,)."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef void *direction = _data(self._flat(v, "v"))
        cdef fbp_problem problem
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef const void *targets[FBP_MAX_INPUTS]
        kept = _problem(&problem, samples, targets, self, X, y, sample_weight, alpha, draws)
        out = np.empty(self.n_params, self.dtype)
        cdef void *to = _data(out)
        cdef fbp_status status
        with nogil:
            status = fbp_hessian_product(self.plan, w, &problem, direction, to)
        if status != FBP_OK:
            _raise(status)
        return out

    cdef object _look(self, object params, object X, object y, object sample_weight, dict values,
                      dict gradients, list predictions):
        """One pass laid open: fills the arrays given for values, gradients and outputs."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef fbp_problem problem
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef const void *targets[FBP_MAX_INPUTS]
        cdef void *last[FBP_MAX_INPUTS]
        kept = _problem(&problem, samples, targets, self, X, y, sample_weight, 0.0)
        cdef int64_t rows = samples[0].rows
        cdef int n = len(self.values)
        cdef void **pointers = <void **>calloc(2 * n, sizeof(void *))
        if pointers == NULL:
            raise MemoryError("the list of values could not be allocated")
        for place, arrays in enumerate((values, gradients)):
            for v in arrays:
                axis = (rows,) if self.values[v]["batched"] else ()
                arrays[v] = np.zeros((*axis, *self.values[v]["shape"]), self.dtype)
                pointers[place * n + v] = _data(arrays[v])
        for i, v in enumerate(self.outputs):
            predictions.append(np.empty((rows, *self.values[v]["shape"]), self.dtype))
            last[i] = _data(predictions[i])
        cdef fbp_status status
        with one_blas_thread(self.uses_blas), nogil:
            status = fbp_inspect(self.plan, w, &problem, pointers, pointers + n, last)
        free(pointers)
        if status != FBP_OK:
            _raise(status)

    def inspect(self, params, X, y, *, sample_weight=None):
        """One pass laid open: for each layer z, a and delta = dloss/dz, each (n, units).

        a is what the next layer takes, and of the last layer the prediction.
        """
        nodes = [self.nodes[layer["node"]] for layer in self.layers]
        raw = [node["results"][0] for node in nodes]
        after = [node["inputs"][0] for node in nodes[1:]] + raw[-1:]
        values, gradients, predictions = dict.fromkeys([*raw, *after]), dict.fromkeys(raw), []
        self._look(params, X, y, sample_weight, values, gradients, predictions)
        passes = [{"z": values[z], "a": values[a], "delta": gradients[z]}
                  for z, a in zip(raw, after, strict=True)]
        passes[-1]["a"] = predictions[0]
        return passes

    def trace(self, params, X, y, *, sample_weight=None, values=None, gradients=None):
        """One pass laid open: dictionaries of the values and of the gradients by them, by number.

        Of the results of nodes whose numbers are in `values`, and of those in `gradients`; None is
        all that there are."""
        made = [v for node in self.nodes for v in node["results"]]
        values, predictions = dict.fromkeys(made if values is None else values), []
        if gradients is None:
            gradients = [v for v in made if self.values[v]["gradient"]]
        gradients = dict.fromkeys(gradients)
        self._look(params, X, y, sample_weight, values, gradients, predictions)
        return values, gradients

    def profile(self, params, X, y, *, draws=None):
        """Seconds of one pass on one thread, (n_nodes + 1, 2): of each node forward and backward,
        then of gathering samples and of losses. Random masks as for `loss_gradient`."""
        cdef void *w = _data(self._flat(params, "params"))
        cdef fbp_problem problem
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef const void *targets[FBP_MAX_INPUTS]
        kept = _problem(&problem, samples, targets, self, X, y, None, 0.0, draws)
        seconds = np.zeros((len(self.nodes) + 1, 2))
        cdef double *to = <double *>_data(seconds)
        cdef fbp_status status
        with one_blas_thread(self.uses_blas), nogil:
            status = fbp_profile(self.plan, w, &problem, to)
        if status != FBP_OK:
            _raise(status)
        return seconds

    def memory(self, batch_size, *, accumulate=1, rule=None, clip_norm=None, n_samples=0, n_threads=1):
        """Bytes that a training takes, by part, known before anything runs.

        `gradients` holds the whole one too where it is kept: for steps of several batches, for
        clip_norm, and for a rule that needs norms.
        """
        cdef fbp_training_spec spec
        memset(&spec, 0, sizeof(spec))
        spec.batch, spec.shuffle = _rows(batch_size, "batch_size", 1), True
        spec.accumulate = _rows(accumulate, "accumulate", 1)
        spec.clip_norm, spec.n_threads = _clipping(clip_norm, "clip_norm"), _threads(n_threads)
        if rule is not None:
            encoded = rule.encode()
            _row(FBP_RULE, rule)
            spec.rule = encoded
        cdef dict parts = fbp_plan_memory(self.plan, &spec, _rows(n_samples, "n_samples", 0))
        parts["parameters"] = self.n_params * self.dtype.itemsize
        if rule is not None:
            parts["optimizer_state"] = (
                fbp_row_describe(_row(FBP_RULE, rule)).n_states * parts["parameters"])
        parts["total"] += parts["parameters"] + parts.get("optimizer_state", 0)
        return parts

    def memory_of_predict(self, n_samples, *, n_threads=1):
        """Bytes that a predict of so many samples takes, by part, its result among them."""
        cdef int64_t rows = _rows(n_samples, "n_samples", 1)
        cdef dict parts = fbp_plan_memory_of_predict(self.plan, rows, _threads(n_threads))
        found = {part: parts[part] for part in ("weight_copies", "thread_scratch", "other")}
        found["parameters"] = self.n_params * self.dtype.itemsize
        elements = sum(int(np.prod(shape)) for shape in self.output_shapes)
        found["outputs"] = rows * elements * self.dtype.itemsize
        found["total"] = parts["total"] + found["parameters"] + found["outputs"]
        return found

    def balance(self, batch_size, n_threads):
        """How evenly a step spreads over so many threads, if it is worth them to training.

        `rows` and `weights` are each phase's mean work of a thread over the busiest one's; and the
        phases are cut `by_columns` too, and into `n_blocks` of rows.
        """
        balance = fbp_plan_balance(
            self.plan, _rows(batch_size, "batch_size", 1), _threads(n_threads))
        return {
            "rows": balance.rows,
            "weights": balance.weights,
            "by_columns": bool(balance.by_columns),
            "n_blocks": balance.n_blocks,
        }

    def flops(self, batch_size):
        """FLOPs of one batch's forward and of its backward."""
        cdef int64_t samples = _whole(batch_size, "batch_size", 1)
        cdef double forward = 0.0, backward = 0.0
        fbp_plan_flops(self.plan, samples, &forward, &backward)
        return {"forward": forward, "backward": backward}

    def order(self):
        """What a pass in training runs, in order: pairs of what is done, and of which node or loss.

        "forward", "backward" and "loss" are the rows phase; "backward_shared", once for each use of
        a parameter, the weights phase. In a checkpoint "forward_again" comes before "backward", and
        "backward_shared" behind that.
        """
        cdef fbp_planned planned
        steps = []
        for i in range(fbp_plan_n_steps(self.plan)):
            planned = fbp_plan_step(self.plan, i)
            steps.append((planned.what.decode(), planned.index))
        return tuple(steps)


cdef object _fill_spec(fbp_row_spec *spec, fbp_kind kind, str name, object attrs):
    """Returns the encoded name, which must live as long as the spec."""
    memset(spec, 0, sizeof(fbp_row_spec))
    attrs = dict(attrs or {})
    encoded = name.encode()
    spec.name = encoded
    if fbp_row_find(FBP_OP, encoded) != NULL:
        if "units" not in attrs:
            raise ValueError(f"layers: found '{name}' without units, wanted the width of its output")
        kind = FBP_OP
        spec.units = _whole(attrs.pop("units"), "units", 1)
    _attrs(_row(kind, name), attrs, spec.attrs)
    return encoded


cdef fbp_plan *_chain_plan(int64_t n_inputs, object layers, object loss, fbp_dtype dtype,
                           bint sparse) except NULL:
    cdef int n_specs = len(layers)
    cdef fbp_row_spec loss_spec
    cdef fbp_plan *plan = NULL
    cdef fbp_row_spec *specs = <fbp_row_spec *>malloc((n_specs + 1) * sizeof(fbp_row_spec))
    if specs == NULL:
        raise MemoryError("a plan could not be allocated")
    names = []
    cdef fbp_status status
    try:
        for i, (name, attrs) in enumerate(layers):
            names.append(_fill_spec(&specs[i], FBP_ACTIVATION, name, attrs))
        names.append(_fill_spec(&loss_spec, FBP_LOSS, loss[0], loss[1]))
        status = fbp_plan_create(n_inputs, n_specs, specs, &loss_spec, dtype, sparse, &plan)
    finally:
        free(specs)
    if status != FBP_OK:
        _raise(status)
    return plan


CONTENTS = {"real": FBP_REAL, "index": FBP_INDEX, "sparse": FBP_SPARSE}


def _following(*, parameter, value, momentum=0.1):
    return parameter, value, momentum


cdef class _GraphSpec:
    """A graph's specification in C, and all that its pointers need to live."""

    cdef fbp_graph_spec spec
    cdef list kept

    def __cinit__(self, graph, int dtype):
        memset(&self.spec, 0, sizeof(fbp_graph_spec))
        self.kept = []
        self.spec.dtype = <fbp_dtype>dtype
        self.spec.precision = _precision(graph.get("precision", "full"))
        self._inputs(graph["inputs"])
        self._parameters(graph["parameters"])
        self._constants(graph.get("constants", ()))
        self._nodes(graph["nodes"], graph.get("checkpoints"))
        self._losses(graph.get("losses", ()))
        self._running(graph.get("running", ()))
        outputs = np.array(graph["outputs"], np.intc)
        self.kept.append(outputs)
        self.spec.n_outputs, self.spec.outputs = outputs.size, <const int *>_data(outputs)

    cdef void *_room(self, size_t n, size_t size):
        """Zeroed room for n of something, which lives as long as the specification."""
        room = np.zeros(max(<size_t>1, n) * size, np.uint8)
        self.kept.append(room)
        return _data(room)

    cdef object _inputs(self, object inputs):
        cdef fbp_shape *shapes = <fbp_shape *>self._room(len(inputs), sizeof(fbp_shape))
        for i, (shape, content) in enumerate(inputs):
            _fill_shape(&shapes[i], shape, True)
            shapes[i].content = CONTENTS[content]
        self.spec.n_inputs, self.spec.inputs = len(inputs), shapes

    cdef object _parameters(self, object parameters):
        cdef fbp_parameter_spec *specs = <fbp_parameter_spec *>self._room(
            len(parameters), sizeof(fbp_parameter_spec))
        for i, one in enumerate(parameters):
            _fill_shape(&specs[i].shape, one["shape"], False)
            specs[i].frozen, specs[i].penalised = one.get("frozen", False), one.get("penalised", False)
        self.spec.n_parameters, self.spec.parameters = len(parameters), specs

    cdef object _constants(self, object constants):
        cdef fbp_shape *shapes = <fbp_shape *>self._room(len(constants), sizeof(fbp_shape))
        cdef const void **data = <const void **>self._room(len(constants), sizeof(void *))
        for i, array in enumerate(constants):
            whole = np.issubdtype(array.dtype, np.integer)
            dtype = np.int32 if whole else _np_dtype(self.spec.dtype)
            array = np.ascontiguousarray(array, dtype)
            self.kept.append(array)
            _fill_shape(&shapes[i], array.shape, False)
            shapes[i].content = FBP_INDEX if whole else FBP_REAL
            data[i] = _data(array)
        self.spec.n_constants, self.spec.constants = len(constants), shapes
        self.spec.constant_data = data

    cdef object _nodes(self, object nodes, object checkpoints):
        cdef fbp_node_spec *specs = <fbp_node_spec *>self._room(len(nodes), sizeof(fbp_node_spec))
        for i, (op, attrs, inputs) in enumerate(nodes):
            values = np.array(inputs, np.intc)
            self.kept.append(values)
            specs[i].n_inputs, specs[i].inputs = values.size, <const int *>_data(values)
            specs[i].checkpoint = 0 if checkpoints is None else checkpoints[i]
            if isinstance(op, str):
                self._row_of(&specs[i], op, attrs)
            else:
                specs[i].callback = self._callback(op)
        self.spec.n_nodes, self.spec.nodes = len(nodes), specs

    cdef object _row_of(self, fbp_node_spec *spec, str name, object attrs):
        encoded = name.encode()
        numbers, counts = _numbers(_op_row(name), attrs)
        self.kept.append((encoded, numbers, counts))
        spec.op = encoded
        spec.numbers = <const double *>_data(numbers)
        spec.counts = <const int *>_data(counts)

    cdef fbp_callback *_callback(self, object op) except NULL:
        cdef fbp_callback *callback = <fbp_callback *>self._room(1, sizeof(fbp_callback))
        cdef fbp_shape *shapes = <fbp_shape *>self._room(len(op.results), sizeof(fbp_shape))
        for i, shape in enumerate(op.results):
            _fill_shape(&shapes[i], shape, op.batched)
        encoded = op.name.encode()
        self.kept.append(encoded)
        callback.name, callback.context = encoded, <void *>op
        callback.n_results, callback.results = len(op.results), shapes
        callback.forward, callback.backward = _call_forward, _call_backward
        callback.release = _release
        return callback

    cdef object _losses(self, object losses):
        cdef fbp_loss_spec *specs = <fbp_loss_spec *>self._room(len(losses), sizeof(fbp_loss_spec))
        for i, one in enumerate(losses):
            encoded = one["name"].encode()
            self.kept.append(encoded)
            specs[i].name = encoded
            _attrs(_row(FBP_LOSS, one["name"]), one.get("attrs"), specs[i].attrs)
            specs[i].value, specs[i].factor = one["value"], one.get("factor", 1.0)
        self.spec.n_losses, self.spec.losses = len(losses), specs

    cdef object _running(self, object running):
        cdef fbp_running_spec *specs = <fbp_running_spec *>self._room(
            len(running), sizeof(fbp_running_spec))
        for i, one in enumerate(running):
            specs[i].parameter, specs[i].value, specs[i].momentum = _following(**one)
        self.spec.n_running, self.spec.running = len(running), specs


cdef fbp_plan *_graph_plan(object graph, fbp_dtype dtype) except NULL:
    """A plan of a dictionary with `inputs` (pairs of shape, without samples, and content),
    `parameters` (dictionaries with shape, frozen, penalised), `constants` (arrays), `nodes` (op,
    attributes, numbers of the values read), `losses` (name, attrs, value, factor), `outputs`
    (values), `running` (parameter, value, momentum), `checkpoints` (of each node the number of the part
    that it is of, which runs again in backward, or 0) and `precision`. Values are numbered in that
    order, results of nodes last.

    In place of an op's name may stand an object that computes: `name`; `results`, their shapes, without
    samples; `batched`, whether they are of samples, as they are if any input is; `forward(arrays, wanted)`,
    which returns what it leaves for backward, and the results; and `backward(left, gradients)`, which
    returns those of the inputs. Both get all samples of a batch, or of a predict, and None is zero.

    A running parameter, frozen and read by no node, follows a value that all samples of a batch make
    together: p = (1 - momentum) p + momentum v after each step, v with its variance unbiased, from
    batches of more than one row. It has the value's place in predict."""
    cdef fbp_plan *plan = NULL
    cdef _GraphSpec spec = _GraphSpec(graph, dtype)
    cdef fbp_status status = fbp_plan_of_graph(&spec.spec, &plan)
    if status != FBP_OK:
        _raise(status)
    return plan


cdef dict _node_dict(fbp_plan *plan, int n):
    cdef fbp_node_place place = fbp_plan_node(plan, n)
    cdef fbp_row_info info = fbp_row_describe(place.row)
    return {
        "name": info.name.decode(),
        "kind": ("callback" if place.called
                 else {code: kind for kind, code in KINDS.items()}[info.kind]),
        "inputs": tuple(place.inputs[i] for i in range(place.n_inputs)),
        "results": tuple(range(place.first_result, place.first_result + place.n_results)),
        "products": PRODUCTS[place.products],
        "goes_back": bool(place.goes_back),
        "reads": tuple(
            [place.inputs[i] for i in range(place.n_inputs) if place.reads_inputs >> i & 1]
            + [place.first_result + i for i in range(place.n_results) if place.reads_results >> i & 1]
        ) if place.goes_back else (),
        "kept": place.kept,
        "kept_whole_batch": bool(place.kept_whole_batch),
        "flops": (place.flops[0], place.flops[1]),
        "checkpoint": place.checkpoint,
        "runs_again": bool(place.runs_again),
    }


cdef dict _value_dict(fbp_plan *plan, int v):
    cdef fbp_value_place place = fbp_plan_value(plan, v)
    return {
        "shape": tuple(place.shape.shape[i] for i in range(place.shape.ndim)),
        "content": {code: content for content, code in CONTENTS.items()}[place.shape.content],
        "batched": bool(place.shape.batched),
        "offset": place.offset,
        "gradient": bool(place.gradient),
        "bytes": place.bytes,
        "shares": place.shares,
        "whole_batch": bool(place.whole_batch),
    }


cdef dict _loss_dict(fbp_plan *plan, int i):
    cdef fbp_loss_place place = fbp_plan_loss_at(plan, i)
    cdef fbp_row_info info = fbp_row_describe(place.row)
    return {"name": info.name.decode(), "target": TARGETS[info.target], "value": place.value,
            "factor": place.factor, "flops": place.flops}


# ---- training ----

cdef class Frozen:
    """A plan with weights of its own that never change: predicts as the plan does, sooner."""

    cdef fbp_frozen *frozen
    cdef readonly Plan plan

    def __cinit__(self, Plan plan not None, params):
        cdef void *w = _data(plan._flat(params, "params"))
        cdef fbp_status status
        self.plan = plan
        with nogil:
            status = fbp_freeze(plan.plan, w, &self.frozen)
        if status != FBP_OK:
            _raise(status)

    def __dealloc__(self):
        fbp_frozen_destroy(self.frozen)

    def predict(self, X, *, bint raw=False, n_threads=1):
        """Predictions (n, n_outputs) for X, or the raw outputs."""
        cdef fbp_samples samples[FBP_MAX_INPUTS]
        cdef void *to[FBP_MAX_INPUTS]
        kept = _all_samples(X, samples, self.plan)
        out = self.plan._new_outputs(samples[0].rows, to)
        cdef int threads = _threads(n_threads)
        cdef _Signals signals = _Signals()
        cdef fbp_status status
        with nogil:
            status = fbp_frozen_predict(
                self.frozen, samples, raw, threads, _poll, <void *>signals, to)
        if status == FBP_INTERRUPTED:
            raise signals.error
        if status != FBP_OK:
            _raise(status)
        return out


cdef object _factors(object given, str name, Plan plan, const double **to):
    """A number for each parameter of the plan, as an array that must live as long as `to`; or None."""
    to[0] = NULL
    if given is None:
        return None
    factors = np.ascontiguousarray(given, np.float64)
    if factors.shape != (len(plan.parameters),):
        raise ValueError(f"{name}: found shape {factors.shape}, wanted {(len(plan.parameters),)}: "
                         "a number for each of the plan's parameters")
    to[0] = <const double *>_data(factors)
    return factors


cdef class Training:
    """A network in training: holds its scratch, and works on params and states in place.

    accumulate: so many batches of batch_size make a step, as one large batch would, with the room of a
    small one: means divide by the weight of all, random masks count positions in all. The bits are those
    of the large batch where a batch is a multiple of 256 samples. Two things round otherwise: layers that
    run on BLAS, and normalisation in a step that is no such multiple, as the last of an epoch may be.
    What couples the samples of a batch is made of those of the small one.

    clip_norm: where the L2 norm of the gradient, the penalty's part with it, over all that is trained is
    larger, every element is multiplied by clip_norm / (norm + 1e-6), as by
    torch.nn.utils.clip_grad_norm_; all gradients are then kept at once, and updated in a third phase.
    clip_value: every element is held to [-clip_value, clip_value]. One of them, or None.

    rate_factors and decay_factors, a number of at least 0 for each of `plan.parameters`: the rate of a
    parameter is multiplied by the one, alpha and the rule's weight decay by the other. alpha counts for
    parameters that are penalised alone, whatever their factor. Ones give the bits of None.

    `progress` is what the last `run` came to: "epochs" made whole, their "losses", the "gradient_norms"
    of their last steps, as `run` has them, the "seconds" that each took, the "step" reached, the "scaling"
    of losses, and whether a signal "interrupted" it."""

    cdef fbp_training *training
    cdef fbp_samples samples[FBP_MAX_INPUTS]
    cdef const void *targets[FBP_MAX_INPUTS]
    cdef Plan plan
    cdef object kept
    cdef int64_t n_steps
    cdef bint running
    cdef readonly dict progress

    def __cinit__(self, Plan plan not None, params, X, y, *, str rule, attrs=None, states, double alpha=0.0,
                  batch_size, accumulate=1, clip_norm=None, clip_value=None, rate_factors=None, decay_factors=None,
                  sample_weight=None, bint shuffle=True, seed=0, n_threads=1):
        cdef fbp_training_spec spec
        cdef void *pointers[FBP_MAX_STATES]
        memset(&spec, 0, sizeof(spec))
        problem = _problem(
            &spec.problem, self.samples, self.targets, plan, X, y, sample_weight, alpha)
        cdef const fbp_row *row = _row(FBP_RULE, rule)
        _attrs(row, attrs, spec.attrs)
        cdef int n_states = fbp_row_describe(row).n_states
        states = _dense(states, "states", plan.dtype, (n_states, plan.n_params), writable=True)
        params = plan._flat(params, "params", writable=True)
        for i in range(n_states):
            pointers[i] = _data(states[i])
        encoded = rule.encode()
        spec.rule = encoded
        spec.batch, spec.shuffle, spec.seed = _whole(batch_size, "batch_size", 1), shuffle, _seed(seed)
        spec.accumulate = _rows(accumulate, "accumulate", 1)
        spec.clip_norm = _clipping(clip_norm, "clip_norm")
        spec.clip_value = _clipping(clip_value, "clip_value")
        rate_factors = _factors(rate_factors, "rate_factors", plan, &spec.rate_factors)
        decay_factors = _factors(decay_factors, "decay_factors", plan, &spec.decay_factors)
        spec.n_threads = _threads(n_threads)
        cdef fbp_status status = fbp_training_create(
            plan.plan, &spec, _data(params), pointers, &self.training)
        if status != FBP_OK:
            _raise(status)
        self.plan = plan
        self.kept = (problem, states, params)
        cdef int64_t n = self.samples[0].rows, samples = spec.batch * spec.accumulate
        self.n_steps = (n + samples - 1) // samples

    def __dealloc__(self):
        fbp_training_destroy(self.training)

    def __reduce__(self):
        raise TypeError("a Training belongs to this process and cannot be pickled")

    def run(self, rates, *, first_epoch=0, step=0, scaling=FIRST_SCALING, step_losses=None, gradient_norms=None):
        """Runs len(rates) whole epochs; returns `progress`.

        rates (n_epochs,) holds the learning rate of each epoch; (n_epochs, steps of an epoch) that of
        each step, where one without weight has its place though it is not made. After any exception,
        too, params are those of the last whole epoch and `progress` tells how many were made.

        step_losses and gradient_norms, (n_epochs * steps of an epoch,), receive the loss of each step,
        and the L2 norm of its gradient: of all that is trained, with the penalty's part, before it is
        clipped. A step without weight has 0 in both.

        In precision "fp16" `scaling` is what `progress` told of the run before: the loss is multiplied by 2
        to the power of the first of it; good steps in a row, and skipped ones, are the others."""
        rates = np.ascontiguousarray(rates, np.float64)
        if rates.ndim not in (1, 2):
            raise ValueError(f"rates: found shape {rates.shape}, wanted (n_epochs,) or "
                             f"(n_epochs, {self.n_steps}), a rate for each epoch or each step")
        if not (np.isfinite(rates) & (rates >= 0)).all():
            raise ValueError("rates: found a rate that is negative or not finite")
        losses, norms, seconds = np.full((3, rates.shape[0]), np.nan)
        cdef fbp_run call
        memset(&call, 0, sizeof(call))
        call.first_epoch = _whole(first_epoch, "first_epoch", 0)
        call.n_epochs, call.step = losses.size, _whole(step, "step", 0)
        call.doublings, call.good_steps, call.skipped_steps = scaling
        call.rates = <const double *>_data(rates)
        call.rates_per_epoch = 1 if rates.ndim == 1 else rates.shape[1]
        call.losses = <double *>_data(losses)
        call.last_norms, call.seconds = <double *>_data(norms), <double *>_data(seconds)
        steps = (losses.size * self.n_steps,)
        if step_losses is not None:
            call.step_losses = <double *>_data(
                _dense(step_losses, "step_losses", np.float64, steps, writable=True))
        if gradient_norms is not None:
            call.gradient_norms = <double *>_data(
                _dense(gradient_norms, "gradient_norms", np.float64, steps, writable=True))
        cdef _Signals signals = _Signals()
        call.poll, call.poll_context = _poll, <void *>signals
        if self.running:
            raise RuntimeError("this Training is running in another thread")
        cdef fbp_status status
        self.running = True
        try:
            with one_blas_thread(self.plan.uses_blas):
                with nogil:
                    status = fbp_training_run(self.training, &call)
                self.progress = {
                    "epochs": call.epochs_done,
                    "losses": losses[:call.epochs_done],
                    "gradient_norms": norms[:call.epochs_done],
                    "seconds": seconds[:call.epochs_done],
                    "step": call.step,
                    "scaling": (call.doublings, call.good_steps, call.skipped_steps),
                    "interrupted": status == FBP_INTERRUPTED,
                }
        finally:
            self.running = False
        if status == FBP_NOT_FINITE:
            culprit = fbp_training_culprit(self.training)
            raise NonFiniteError(fbp_message().decode(), epoch=culprit.epoch, step=culprit.step,
                                 layer=self.plan._layer_of(culprit.node))
        if status == FBP_FAILED:
            signals.error = _taken_error()
            self.progress["interrupted"] = isinstance(signals.error, KeyboardInterrupt)
        if status in (FBP_INTERRUPTED, FBP_FAILED):
            if not isinstance(signals.error, KeyboardInterrupt):
                raise signals.error
        elif status != FBP_OK:
            _raise(status)
        return self.progress
