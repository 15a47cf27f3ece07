"""Layers with their options, inputs that suit them, and what they ought to compute in NumPy.

A witness takes the layer's parameters by name and its inputs. It is written from the formulas and
from tests/reference_ops, and knows nothing of modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from reference_ops import OPS
from reference_ops.recurrence import gru, lstm, rnn
from scipy.special import erf

from fastbp import nn


@dataclass(frozen=True)
class Case:
    """A layer, the shapes of a sample of its inputs by name, and its witness (None: random)."""

    name: str
    make: Callable[[], nn.Module]
    inputs: dict[str, Any]
    witness: Callable[..., Any] | None

    def arrays(self, n, dtype=np.float64, seed=0):
        """Inputs: masks of zeros and ones, the first of each row one; integers below 5."""
        rng = np.random.default_rng(seed)
        made = {}
        for name, shape in self.inputs.items():
            if isinstance(shape, nn.Input):
                made[name] = rng.integers(0, 5, (n, *shape.shape)).astype(np.int32)
            elif name == "mask":
                made[name] = np.asarray(rng.integers(0, 2, (n, *shape)), dtype)
                made[name][:, 0] = 1
            else:
                made[name] = rng.standard_normal((n, *shape)).astype(dtype)
        return made


def case(name, make, x, witness, **more):
    return Case(name, make, {"x": x, **more}, witness)


# -------------------------------------------------------------------------- windows and positions


def conv(**options):
    return lambda p, x: OPS["conv"](x, p["weight"], p.get("bias", 0.0), **options)


def pool(row, kernel, **options):
    return lambda p, x: OPS[row](x, kernel, **options)


WINDOWS = (
    case("Conv1d", lambda: nn.Conv1d(4, 3), (7, 2), conv()),
    case(
        "Conv1d, all options",
        lambda: nn.Conv1d(6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False),
        (9, 4),
        conv(stride=2, padding=2, dilation=2, groups=2),
    ),
    case("Conv1d, same", lambda: nn.Conv1d(3, 5, padding="same"), (7, 2), conv(padding=2)),
    case("Conv2d", lambda: nn.Conv2d(3, 2), (4, 5, 2), conv()),
    case(
        "Conv2d, all options",
        lambda: nn.Conv2d(6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=3),
        (5, 4, 3),
        conv(stride=[2, 1], padding=[1, 2], dilation=[1, 2], groups=3),
    ),
    case(
        "Conv2d, same",
        lambda: nn.Conv2d(2, (3, 5), padding="same", dilation=(2, 1)),
        (4, 6, 2),
        conv(padding=[2, 2], dilation=[2, 1]),
    ),
    case("Conv2d, valid", lambda: nn.Conv2d(2, 1, padding="valid", bias=False), (2, 3, 2), conv()),
    case("MaxPool1d", lambda: nn.MaxPool1d(2), (5, 3), pool("max_pool", 2)),
    case(
        "MaxPool1d, options",
        lambda: nn.MaxPool1d(3, stride=2, padding=1),
        (6, 2),
        pool("max_pool", 3, stride=2, padding=1),
    ),
    case("MaxPool2d", lambda: nn.MaxPool2d(2), (4, 5, 2), pool("max_pool", 2)),
    case(
        "MaxPool2d, options",
        lambda: nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0)),
        (4, 4, 2),
        pool("max_pool", [3, 2], stride=[1, 2], padding=[1, 0]),
    ),
    case("AvgPool1d", lambda: nn.AvgPool1d(3), (7, 2), pool("average_pool", 3)),
    case(
        "AvgPool1d, options",
        lambda: nn.AvgPool1d(4, stride=1, padding=2, count_include_pad=False),
        (5, 2),
        pool("average_pool", 4, stride=1, padding=2, count_include_pad=0),
    ),
    case("AvgPool2d", lambda: nn.AvgPool2d(2), (4, 4, 3), pool("average_pool", 2)),
    case(
        "AvgPool2d, options",
        lambda: nn.AvgPool2d((2, 3), stride=2, padding=(1, 0), count_include_pad=True),
        (4, 5, 2),
        pool("average_pool", [2, 3], stride=[2, 2], padding=[1, 0]),
    ),
    case("GlobalAvgPool", nn.GlobalAvgPool, (4, 5, 3), lambda p, x: x.mean((1, 2))),
    case("GlobalMaxPool", nn.GlobalMaxPool, (6, 3), lambda p, x: x.max(1)),
    case("Flatten", nn.Flatten, (2, 3, 2), lambda p, x: x.reshape(len(x), 12)),
)

# ------------------------------------------------------------------------------------------- norms


def norm(row, **options):
    def witness(p, x):
        scaled = [p[name] for name in ("weight", "bias") if name in p]
        return OPS[row](x, *scaled, **options)

    return witness


NORMS = (
    case("LayerNorm", nn.LayerNorm, (6,), norm("layer_norm")),
    case("LayerNorm, no bias", lambda: nn.LayerNorm(bias=False), (3, 5), norm("layer_norm")),
    case(
        "LayerNorm, bare",
        lambda: nn.LayerNorm(eps=0.1, elementwise_affine=False),
        (2, 3, 4),
        norm("layer_norm", epsilon=0.1),
    ),
    case("RMSNorm", lambda: nn.RMSNorm(eps=0.01), (3, 5), norm("rms_norm", epsilon=0.01)),
    case("RMSNorm, bare", lambda: nn.RMSNorm(elementwise_affine=False), (5,), norm("rms_norm")),
    case("GroupNorm", lambda: nn.GroupNorm(2), (3, 2, 4), norm("group_norm", groups=2)),
    case(
        "GroupNorm, bare",
        lambda: nn.GroupNorm(3, eps=0.1, affine=False),
        (6,),
        norm("group_norm", groups=3, epsilon=0.1),
    ),
)


def of_batches(**options):
    """As it predicts, by its running moments."""

    def witness(p, x):
        scaled = [p[name] for name in ("weight", "bias") if name in p]
        return OPS["normalize"](x, p["running_moments"], *scaled, **options)

    return witness


BATCHES = (
    case("BatchNorm1d", nn.BatchNorm1d, (4,), of_batches()),
    case(
        "BatchNorm1d, bare",
        lambda: nn.BatchNorm1d(eps=0.1, momentum=0.3, affine=False),
        (5, 3),
        of_batches(epsilon=0.1),
    ),
    case("BatchNorm2d", lambda: nn.BatchNorm2d(eps=0.01), (3, 2, 3), of_batches(epsilon=0.01)),
)

# -------------------------------------------------------------------- integers and places in lines


def sinusoids(p, x):
    length, width = x.shape[1:]
    made = np.zeros((length, width))
    for t in range(length):
        for i in range(width):
            angle = t / 10000 ** ((i - i % 2) / width)
            made[t, i] = np.sin(angle) if i % 2 == 0 else np.cos(angle)
    return x + made


TOKENS = nn.Input((4,), "index")

PLACES = (
    case("Embedding", lambda: nn.Embedding(5, 3), TOKENS, lambda p, x: p["weight"][x]),
    case(
        "Embedding, padding",
        lambda: nn.Embedding(5, 3, padding_idx=2),
        TOKENS,
        lambda p, x: np.where((x == 2)[..., None], 0.0, p["weight"][x]),
    ),
    case("SinusoidalEncoding", nn.SinusoidalEncoding, (4, 5), sinusoids),
    case("LearntEncoding", nn.LearntEncoding, (4, 5), lambda p, x: x + p["weight"]),
)

# --------------------------------------------------------------------------------------- attention


def attend(p, x, mask=None, *, heads, causal=0, prefix=""):
    packed = x @ p[f"{prefix}in_proj_weight"] + p.get(f"{prefix}in_proj_bias", 0.0)
    y = OPS["self_attention"](packed, mask, heads=heads, causal=causal)
    return y @ p[f"{prefix}out_proj_weight"] + p.get(f"{prefix}out_proj_bias", 0.0)


def cross(p, x, key, value=None, mask=None, *, heads, causal=0):
    inputs = zip("qkv", (x, key, key if value is None else value), strict=True)
    q, k, v = (one @ p[f"{n}_proj_weight"] + p.get(f"{n}_proj_bias", 0.0) for n, one in inputs)
    y = OPS["attention"](q, k, v, mask, heads=heads, causal=causal)
    return y @ p["out_proj_weight"] + p.get("out_proj_bias", 0.0)


def gelu(x):
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def block(p, x, mask=None, *, heads, first=True, causal=0, bent=gelu):
    def norm(name, x):
        scaled = [p[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in p]
        return OPS["layer_norm"](x, *scaled)

    def attention(x):
        return attend(p, x, mask, heads=heads, causal=causal, prefix="self_attn.")

    def feedforward(x):
        y = bent(x @ p["linear1_weight"] + p.get("linear1_bias", 0.0))
        return y @ p["linear2_weight"] + p.get("linear2_bias", 0.0)

    if first:
        x = x + attention(norm("norm1", x))
        return x + feedforward(norm("norm2", x))
    x = norm("norm1", x + attention(x))
    return norm("norm2", x + feedforward(x))


class Cross(nn.Module):
    """A layer of several inputs under the names of the cases."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x, **named):
        return self.layer(x, **named)


def crossing(witness):
    return lambda p, *inputs, **named: witness(
        {name.removeprefix("layer."): one for name, one in p.items()}, *inputs, **named
    )


ATTENTION = (
    case(
        "MultiheadAttention",
        lambda: nn.MultiheadAttention(2),
        (4, 6),
        lambda p, query, mask=None: attend(p, query, mask, heads=2),
    ),
    case(
        "MultiheadAttention, causal, masked",
        lambda: Cross(nn.MultiheadAttention(3, causal=True, bias=False)),
        (4, 6),
        crossing(lambda p, x, mask: attend(p, x, mask, heads=3, causal=1)),
        mask=(4,),
    ),
    case(
        "MultiheadAttention, of others",
        lambda: Cross(nn.MultiheadAttention(2)),
        (3, 4),
        crossing(lambda p, x, key, mask: cross(p, x, key, mask=mask, heads=2)),
        key=(5, 2),
        mask=(5,),
    ),
    case(
        "MultiheadAttention, of others, causal",
        lambda: Cross(nn.MultiheadAttention(1, causal=True, bias=False)),
        (3, 4),
        crossing(lambda p, x, key, value: cross(p, x, key, value, heads=1, causal=1)),
        key=(3, 5),
        value=(3, 2),
    ),
    case(
        "TransformerBlock",
        lambda: nn.TransformerBlock(2),
        (3, 4),
        lambda p, x: block(p, x, heads=2),
    ),
    case(
        "TransformerBlock, all options",
        lambda: nn.TransformerBlock(
            2, 5, activation=nn.Tanh(), norm_first=False, causal=True, bias=False, init="he_normal"
        ),
        (4, 4),
        lambda p, x, mask: block(p, x, mask, heads=2, first=False, causal=1, bent=np.tanh),
        mask=(4,),
    ),
    case(
        "TransformerBlock, dropout",
        lambda: nn.TransformerBlock(2, 5, dropout=0.3, activation="softplus"),
        (3, 4),
        lambda p, x: block(p, x, heads=2, bent=lambda x: np.log1p(np.exp(x))),
    ),
)

# -------------------------------------------------------------------------------------- recurrence


def recurrent(scan, layers=1, directions=1, last=False):
    """`scan` runs one layer over what inputs add to its gates; the names are those of the layer."""

    def witness(p, x, mask=None):
        for level in range(layers):
            made = []
            for reverse in range(directions):
                name = f"l{level}" + "_reverse" * reverse
                gates = x @ p[f"weight_ih_{name}"] + p.get(f"bias_{name}", 0.0)
                h = scan(p, name, gates, p[f"weight_hh_{name}"], mask, reverse)
                made.append(h[:, 0 if reverse else -1] if last and level == layers - 1 else h)
            x = np.concatenate(made, -1)
        return x

    return witness


def scan_rnn(nonlinearity=0):
    return lambda p, name, gates, w, mask, reverse: rnn(gates, w, mask, nonlinearity, reverse)


def scan_lstm(p, name, gates, w, mask, reverse):
    return lstm(gates, w, mask, reverse)


def scan_gru(p, name, gates, w, mask, reverse):
    return gru(gates, w, p.get(f"bias_hn_{name}"), mask, reverse)


RECURRENCE = (
    case("RNN", lambda: nn.RNN(3), (5, 2), recurrent(scan_rnn())),
    case(
        "RNN, all options",
        lambda: nn.RNN(
            3, num_layers=2, nonlinearity="relu", bias=False, bidirectional=True, output="last"
        ),
        (5, 2),
        recurrent(scan_rnn(1), 2, 2, last=True),
        mask=(5,),
    ),
    case("LSTM", lambda: nn.LSTM(3), (5, 2), recurrent(scan_lstm)),
    case(
        "LSTM, all options",
        lambda: nn.LSTM(2, num_layers=3, bias=False, dropout=0.4, bidirectional=True),
        (4, 3),
        recurrent(scan_lstm, 3, 2),
        mask=(4,),
    ),
    case("LSTM, last", lambda: nn.LSTM(3, output="last"), (4, 2), recurrent(scan_lstm, last=True)),
    case("GRU", lambda: nn.GRU(3), (5, 2), recurrent(scan_gru)),
    case(
        "GRU, masked",
        lambda: nn.GRU(2, num_layers=2, dropout=0.2, output="last", bidirectional=True),
        (4, 3),
        recurrent(scan_gru, 2, 2, last=True),
        mask=(4,),
    ),
    case(
        "GRU, no bias, masked",
        lambda: nn.GRU(3, bias=False, recurrent_init=0.1),
        (4, 2),
        recurrent(scan_gru),
        mask=(4,),
    ),
)

# ------------------------------------------------------------------------------------- of the rest

OTHERS = (
    case(
        "Checkpoint",
        lambda: nn.Checkpoint(nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Dropout(0.3))),
        (3,),
        lambda p, x: np.tanh(x @ p["module.0.weight"] + p["module.0.bias"]),
    ),
    case(
        "Checkpoint, of a batch's moments",
        lambda: nn.Checkpoint(nn.Sequential(nn.BatchNorm1d(affine=False), nn.Tanh())),
        (3,),
        lambda p, x: np.tanh(OPS["normalize"](x, p["module.0.running_moments"])),
    ),
)

LAYERS = (*WINDOWS, *NORMS, *BATCHES, *PLACES, *ATTENTION, *RECURRENCE, *OTHERS)
