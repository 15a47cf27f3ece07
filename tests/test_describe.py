"""A plan told and drawn: the table, what it says of shapes, FLOPs and bytes, and the drawings."""

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

import fastbp
from fastbp import nn, ops
from fastbp.nn import drawing
from fastbp.nn.describe import Description, Entry

SVG = "{http://www.w3.org/2000/svg}"


class Heads(nn.Module):
    """Two inputs, shared weights, rows with several results, two outputs."""

    def __init__(self):
        self.project = nn.Linear(8, bias=False)

    def forward(self, x, mask):
        once, again = self.project(x), self.project(ops.exp(x))
        mixed = ops.attention(once, again, once, mask, heads=2)
        gain = self.parameter("gain", (8,), 1.0)
        normal = nn.Lambda(lambda z: ops.layer_norm(z, gain, gain))(mixed + once)
        return {"class": normal.sum(axis=1), "peak": (normal * x).max(axis=2)}


def dense():
    network = nn.Sequential(
        nn.Linear(16),
        nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Linear(16), nn.GELU())),
        nn.Linear(3),
    )
    return fastbp.compile(network.build(4), "softmax_cross_entropy")


def heads(dtype=np.float64):
    network = Heads().build({"x": (5, 8), "mask": (5,)}, dtype=dtype)
    return fastbp.compile(network, {"class": "softmax_cross_entropy", "peak": ("huber", 0.5)})


def deep():
    """Every layer reads all before it."""

    def forward(x):
        made = [x]
        for i in range(6):
            made.append(ops.tanh(ops.concatenate(made, axis=1)[:, i : i + 3]))
        return ops.concatenate(made, axis=1)

    return fastbp.compile(nn.Lambda(forward).build(6))


PLANS = {"dense": dense, "heads": heads, "deep": deep}

# Of float32, 4 bytes each; room is in whole cache lines, and a one follows the inputs of products.
# Linear reads its input to form the gradient of its weights, relu its output, gelu its input: the
# sum past gelu is of the former kind, and its gradient is passed on. ReLU takes the place of what
# it is made of.
TABLE = """\
Sequential, float32

      module      row                    from  result   parameters  FLOPs  backward  bytes  kept
------------------------------------------------------------------------------------------------
   x              input                        (n, 4)                                   64   64*
   0  0           linear                 x     (n, 16)          80    128       128    128
   1  1           relu                   0     (n, 16)                 16        16         128*
   2  2.module.0  linear                 1     (n, 16)         272    512     1,024    128  128
   3  2.module.1  gelu                   2     (n, 16)                960       960    128
   4  2           add                    1, 3  (n, 16)                 16              128  128*
   5  3           linear                 4     (n, 3)           51     96       192     64
loss              softmax_cross_entropy  5                             72

403 parameters, 1,612 bytes; 1,800 FLOPs a sample forward, 2,320 backward (1.29 times as many)
bytes, and those kept for backward, of a sample; *: for the whole batch"""


def test_the_table():
    description = dense().describe()
    assert str(description) == TABLE
    assert repr(description) == TABLE


@pytest.mark.parametrize("name", PLANS)
def test_the_whole_is_the_sum_of_its_parts(name):
    plan = PLANS[name]()
    description = plan.describe()
    flops = plan.core.flops(1)
    assert sum(one.flops[0] for one in description.entries) == flops["forward"]
    assert sum(one.flops[1] for one in description.entries) == flops["backward"]
    assert sum(one.n_parameters for one in description.entries) == plan.core.n_params
    nodes = [one for one in description.entries if one.label.isdigit()]
    assert [one.row for one in nodes] == [node["name"] for node in plan.core.nodes]


def test_what_is_kept_is_what_backward_reads():
    """Of each node by itself the engine says what its backward reads; here, of all together."""
    plan = heads()
    core = plan.core
    read = set()
    for node, (_, attributes) in zip(core.nodes, plan.nodes, strict=True):
        operands = [core.values[v] for v in node["inputs"]]
        shapes = [((2,) if one["batched"] else ()) + one["shape"] for one in operands]
        alone = fastbp._core.Node(node["name"], shapes, dtype=core.dtype, attrs=attributes)
        read |= {v for v, does in zip(node["inputs"], alone.reads_inputs, strict=True) if does}
        results = alone.reads_outputs[: len(node["results"])]
        read |= {v for v, does in zip(node["results"], results, strict=True) if does}
    for one in plan.describe().entries:
        if one.label.isdigit():
            (result,) = core.nodes[int(one.label)]["results"]
            # Attention and norms keep more than their results.
            assert (one.kept > 0) == (result in read or one.row in ("attention", "layer_norm"))
    assert next(one for one in plan.describe().entries if one.row == "layer_norm").whole_batch


def test_nodes_know_the_module_that_they_belong_to():
    entries = {one.label: one for one in heads().describe().entries}
    # A module used twice, a function's row, a module without a path of its own.
    assert [entries[label].module for label in ("0", "1", "2", "5")] == [
        "project",
        "",
        "project",
        "",
    ]
    assert entries["0"].parameters == entries["2"].parameters == ("project.weight",)
    assert (entries["0"].n_parameters, entries["2"].n_parameters) == (64, 0)
    assert entries["3"].attributes == {"heads": 2}
    assert entries["3"].sources == ("0", "2", "0", "mask")
    assert entries["loss 1"].attributes == {"weight": 0.5}
    assert "shared" in str(heads().describe())


def test_what_no_loss_depends_on_has_no_backward():
    class Half(nn.Module):
        def forward(self, x):
            w = self.parameter("w", (3, 3), "he_normal")
            ops.tanh(x @ w) @ w
            return x @ w

    entries = fastbp.compile(Half().build(3), "squared_error").describe().entries
    assert [one.row for one in entries[1:5]] == ["linear", "tanh", "linear", "linear"]
    assert [one.flops[1] for one in entries[1:5]] == [0, 0, 0, 18]
    assert [one.kept for one in entries[1:5]] == [0, 0, 0, 0]


def test_a_plan_that_only_predicts_keeps_nothing():
    description = deep().describe()
    assert not any(one.kept for one in description.entries)
    assert "kept" not in str(description)
    assert description.flops[1] == 0


def test_what_samples_share_has_no_axis_of_samples():
    entry = Entry("0", "norm", "moments", shapes=((2, 5),), common=True, bytes=64)
    description = Description("", (entry, Entry("1", "", "sum", shapes=((),))), (1.0, 0.0), 0)
    assert re.findall(r"\(.*\)", str(description)) == ["(2, 5)", "(n,)"]
    assert "(2, 5)" in description.svg()


def test_names_that_coincide():
    class Clash(nn.Module):
        def forward(self, loss):
            return loss * 2 + self.parameter("0", (3,))

    plan = fastbp.compile(Clash().build({"loss": 3}), "squared_error")
    assert plan.describe()._drawn()[1] == [(0, 1), (1, 2), (2, 3)]


# ---- drawings ----


def rectangles(root):
    """Left, top, right and bottom of each box."""
    found = []
    for box in root.iter(f"{SVG}g"):
        x, y, w, h = (float(box[0].get(key)) for key in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def points(path, steps=24):
    """A path of M, V and C as many points."""
    commands = re.findall(r"([MVC])([^MVC]*)", path)
    found = []
    for command, rest in commands:
        numbers = np.array(rest.split(), float)
        if command == "M":
            found.append(numbers)
        elif command == "V":
            found.append(np.array([found[-1][0], numbers[0]]))
        else:
            a, (b, c, d) = found[-1], numbers.reshape(3, 2)
            for t in np.linspace(0, 1, steps)[1:]:
                u = 1 - t
                found.append(u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d)
    return found


def on_edge(point, place, side):
    """Whether a point is on the upper (1) or lower (3) edge of a box, to the digit printed."""
    return place[0] < point[0] < place[2] and abs(place[side] - point[1]) < 0.2


def check_drawing(boxes, arrows):
    """Boxes apart and within the image, text within boxes, arrows from box to box past others."""
    root = ElementTree.fromstring(drawing.svg(boxes, arrows))
    width, height = float(root.get("width")), float(root.get("height"))
    places = rectangles(root)
    assert len(places) == len(boxes)
    for left, top, right, bottom in places:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(places, 2):
        assert r1 < l2 or r2 < l1 or b1 < t2 or b2 < t1
    for box, group, (left, top, right, bottom) in zip(
        boxes, root.iter(f"{SVG}g"), places, strict=True
    ):
        texts = group.findall(f"{SVG}text")
        assert tuple(text.text for text in texts) == box.lines
        assert all(top < float(text.get("y")) < bottom for text in texts)
        # A monospaced letter is 0.6 of the font's size wide, to within a hundredth.
        assert max(map(len, box.lines)) * 0.61 * drawing.FONT < right - left
    paths = [points(one.get("d")) for one in root.findall(f"{SVG}path")]
    ends = []
    for path in paths:
        a = [i for i, place in enumerate(places) if on_edge(path[0], place, 3)]
        b = [i for i, place in enumerate(places) if on_edge(path[-1], place, 1)]
        assert len(a) == len(b) == 1
        ends.append((a[0], b[0]))
        for i, (left, top, right, bottom) in enumerate(places):
            inside = [left < x < right and top + 0.2 < y < bottom - 0.2 for x, y in path]
            assert not any(inside), f"arrow {ends[-1]} crosses box {i}"
    assert sorted(ends) == sorted(set(arrows))


@pytest.mark.parametrize("name", PLANS)
def test_drawings_of_plans(name):
    description = PLANS[name]().describe()
    check_drawing(*description._drawn())
    (root,) = re.findall(r"<svg.*</svg>", description._repr_html_(), re.DOTALL)
    assert root == description._repr_svg_().strip()
    colours = re.findall(r'(?:fill|stroke)="([^"]+)"', description.svg())
    assert set(colours) <= {"none", "black", "white", "#e6e6e6"}


@pytest.mark.parametrize("seed", range(12))
def test_drawings_of_any_graph(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    boxes = [
        drawing.Box(tuple("x" * int(rng.integers(1, 30)) for _ in range(int(rng.integers(1, 6)))))
        for _ in range(n)
    ]
    pairs = list(combinations(range(n), 2))
    chosen = rng.permutation(len(pairs))[: int(rng.integers(0, 2 * n + 1))]
    check_drawing(boxes, [pairs[i] for i in chosen])


def test_dot_source():
    boxes = [drawing.Box(('a "b"', "c\\d"), grey=True), drawing.Box(("e<f>&\ng",), thick=True)]
    assert drawing.dot(boxes, [(0, 1)]).splitlines()[2:] == [
        r'  0 [label="a \"b\"\nc\\d", style=filled]',
        r'  1 [label="e<f>& g", penwidth=2.5]',
        "  0 -> 1",
        "}",
    ]
    described = heads().describe()
    arrows = re.findall(r"^  (\d+) -> (\d+)$", described.dot(), re.MULTILINE)
    assert [(int(a), int(b)) for a, b in arrows] == described._drawn()[1]
    check_drawing(boxes[:1], [])
    assert "e&lt;f&gt;&amp;" in drawing.svg(boxes, [(0, 1)])
