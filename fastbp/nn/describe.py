"""What a plan is, told: a table of its nodes, and drawings of the graph.

Nothing is compiled or counted here: shapes, FLOPs and bytes are the engine's own, as it says them
before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import _core
from fastbp.nn import drawing

if TYPE_CHECKING:
    from fastbp.nn.compiled import Plan

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A line of a description: an input, a node or a loss.

    Attributes
    ----------
    label : str
        The name of an input, the number of a node, the place of a loss.
    module : str
        The path of the module in whose forward it is.
    row : str
        Of the engine's table; "input" for an input; of a Function its name.
    attributes : dict
        Of the row, those that are not at their default.
    sources : tuple of str
        The labels of what it reads, parameters and constants left out; of a node with several
        results with the number of the result behind a dot.
    shapes : tuple of tuple of int
        Of its results, for one sample.
    common : bool
        Whether its results are made of all samples of a batch, which then share them: shapes, and
        the bytes below, are of all.
    parameters : tuple of str
        Names of those that it reads.
    n_parameters : int
        Elements of these, as far as none before has read them.
    flops : tuple of (float, float)
        Of one sample, forward and backward; nan of a Function, where nobody knows.
    bytes : int
        Room for the results of one sample in training; 0 where they take the place of what they are
        made of.
    kept : int
        Bytes of one sample, of its results and of what goes with them, that some backward reads.
    whole_batch : bool
        Whether these stay for all samples of the batch, until the gradients of parameters are
        formed from them; else only until a thread's tile of samples has gone back.
    checkpoint : int
        Of which checkpoint it is, from 1; 0 for none. Room is that of the second run.
    runs_again : bool
        Whether it runs again in backward, whose FLOPs count that.
    """

    label: str
    module: str
    row: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ()
    common: bool = False
    parameters: tuple[str, ...] = ()
    n_parameters: int = 0
    flops: tuple[float, float] = (0.0, 0.0)
    bytes: int = 0
    kept: int = 0
    whole_batch: bool = False
    checkpoint: int = 0
    runs_again: bool = False


@dataclass(frozen=True, repr=False)
class Description:
    """A plan told by its nodes in the order in which they run; prints as a table.

    Notebooks show the drawing and the table.

    Attributes
    ----------
    title : str
        The module, and the dtype.
    entries : tuple of Entry
        Inputs, nodes in their order, losses.
    flops : tuple of (float, float)
        Of one sample's forward and backward, losses included and Functions left out.
    parameter_bytes : int
        Of all parameters; running statistics of batch normalisation, which only predict reads, are
        not among them.
    """

    title: str
    entries: tuple[Entry, ...]
    flops: tuple[float, float]
    parameter_bytes: int

    def __str__(self) -> str:
        columns = COLUMNS if any(entry.kept for entry in self.entries) else COLUMNS[:-1]
        cells = [_cells(entry)[: len(columns)] for entry in self.entries]
        if any(entry.checkpoint for entry in self.entries):
            columns = (*columns, CHECKPOINT)
            for line, entry in zip(cells, self.entries, strict=True):
                again = " again" if entry.runs_again else ""
                line.append(f"{entry.checkpoint}{again}" if entry.checkpoint else "")
        lines = table(columns, cells)
        return "\n".join([self.title, "", *lines, "", *self._totals()])

    __repr__ = __str__

    def _totals(self) -> list[str]:
        forward, backward = self.flops
        n = sum(entry.n_parameters for entry in self.entries)
        lines = [f"{n:,} parameters, {self.parameter_bytes:,} bytes; "]
        lines[0] += f"{forward:,.0f} FLOPs a sample forward"
        if backward:
            lines[0] += f", {backward:,.0f} backward ({backward / forward:.2f} times as many)"
        unknown = dict.fromkeys(entry.row for entry in self.entries if isnan(entry.flops[0]))
        if unknown:
            lines[0] += f"; those of {', '.join(unknown)} are not known"
        if any(entry.kept for entry in self.entries):
            lines.append("bytes, and those kept for backward, of a sample; *: for the whole batch")
        if any(entry.runs_again for entry in self.entries):
            lines.append("again: run once more in backward, where the rest of its line is counted")
        return lines

    def _drawn(self) -> tuple[list[drawing.Box], list[drawing.Arrow]]:
        at: dict[str, int] = {}
        for i, entry in enumerate(self.entries):
            at.setdefault(entry.label, i)  # an input may be named as a loss is
        arrows = [
            (at[source if source in at else source.rpartition(".")[0]], i)
            for i, entry in enumerate(self.entries)
            for source in entry.sources
        ]
        return [_box(entry) for entry in self.entries], arrows

    def dot(self) -> str:
        """The graph as source of Graphviz's `dot`."""
        return drawing.dot(*self._drawn())

    def svg(self) -> str:
        """The graph as an SVG image.

        Grey boxes have parameters; of those with a thick border backward keeps something.
        """
        return drawing.svg(*self._drawn())

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return f"{self.svg()}<pre>{escape(str(self))}</pre>"


DEFAULTS = {
    row["name"]: {attr["name"]: attr["default"] for attr in row["attrs"]} for row in _core.table()
}

# ------------------------------------------------------------------------------------------- text

# Text stands to the left, numbers to the right.
COLUMNS = (
    ("", "rjust"),
    ("module", "ljust"),
    ("row", "ljust"),
    ("from", "ljust"),
    ("result", "ljust"),
    ("parameters", "rjust"),
    ("FLOPs", "rjust"),
    ("backward", "rjust"),
    ("bytes", "rjust"),
    ("kept", "rjust"),
)


CHECKPOINT = ("checkpoint", "ljust")


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the columns' titles, a rule, then the rows.

    Parameters
    ----------
    columns : sequence of (str, str)
        A title, and "ljust" or "rjust".
    rows : sequence of sequence of str

    Returns
    -------
    list of str
    """
    titles = [title for title, _ in columns]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join(
            getattr(cell, align)(width)
            for cell, (_, align), width in zip(row, columns, widths, strict=True)
        ).rstrip()
        for row in [titles, *rows]
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _shapes(entry: Entry) -> list[str]:
    """Of arrays of n samples, or of what they share."""
    if entry.common:
        return [str(shape) for shape in entry.shapes]
    return [str(("n", *shape)).replace("'n'", "n") for shape in entry.shapes]


def _told(row: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that are not at their default."""
    return {name: value for name, value in attributes.items() if value != DEFAULTS[row][name]}


def _number(value: float) -> str:
    if isnan(value):
        return "?"
    return f"{value:,.0f}" if value else ""


def _cells(entry: Entry) -> list[str]:
    return [
        entry.label,
        entry.module,
        entry.row,
        ", ".join(entry.sources),
        ", ".join(_shapes(entry)),
        _number(entry.n_parameters) or ("shared" if entry.parameters else ""),
        _number(entry.flops[0]),
        _number(entry.flops[1]),
        _number(entry.bytes),
        _number(entry.kept) + ("*" if entry.kept and entry.whole_batch else " "),
    ]


def _box(entry: Entry) -> drawing.Box:
    lines = [f"{entry.label} {entry.row}" if entry.row != "input" else entry.label]
    lines += [f"{name}={value}" for name, value in entry.attributes.items()]
    if entry.module:
        lines.append(entry.module)
    lines += _shapes(entry)
    if entry.parameters:
        lines.append(", ".join(name.removeprefix(f"{entry.module}.") for name in entry.parameters))
    if isnan(entry.flops[0]):
        lines.append("FLOPs not known")
    elif any(entry.flops):
        lines.append(f"{entry.flops[0]:,.0f} + {entry.flops[1]:,.0f} FLOPs")
    if entry.bytes or entry.kept:
        kept = f", {entry.kept:,} kept" if entry.kept else ""
        lines.append(f"{entry.bytes:,} bytes{kept}")
    return drawing.Box(tuple(lines), bool(entry.parameters), bool(entry.kept))


# ------------------------------------------------------------------------------------- of a plan


def describe(plan: Plan) -> Description:
    """The description of a plan; see `Plan.describe`."""
    core = plan.core
    flops = core.flops(1)
    teller = _Teller(plan)
    title = f"{plan.title}, {np.dtype(core.dtype)}"
    entries = teller.entries()
    n_bytes = sum(one.n_parameters for one in entries) * np.dtype(core.dtype).itemsize
    return Description(title, entries, (flops["forward"], flops["backward"]), n_bytes)


class _Teller:
    """Goes through a plan's values and nodes once."""

    def __init__(self, plan: Plan) -> None:
        self._plan, core = plan, plan.core
        self._values, self._nodes, self._losses = core.values, core.nodes, core.losses
        n = len(plan.inputs)
        names = [name or "x" for name in plan.inputs]
        self._labels = dict(enumerate(names))  # by value
        for number, node in enumerate(self._nodes):
            several = len(node["results"]) > 1
            for i, v in enumerate(node["results"]):
                self._labels[v] = f"{number}.{i}" if several else str(number)
        self._parameters = {n + i: name for i, name in enumerate(plan.parameters)}
        self._read = {v for node in self._nodes for v in node["reads"]}
        self._met: set[int] = set()

    def entries(self) -> tuple[Entry, ...]:
        plan = self._plan
        inputs = [
            Entry(self._labels[v], "", "input", **self._room([v])) for v in range(len(plan.inputs))
        ]
        nodes = [self._node(number) for number in range(len(self._nodes))]
        losses = [
            Entry(
                f"loss {i}" if len(self._losses) > 1 else "loss",
                "",
                loss["name"],
                {} if loss["factor"] == 1 else {"weight": loss["factor"]},
                (self._labels[loss["value"]],),
                flops=(loss["flops"], 0.0),
            )
            for i, loss in enumerate(self._losses)
        ]
        return (*inputs, *nodes, *losses)

    def _node(self, number: int) -> Entry:
        node, (path, attributes) = self._nodes[number], self._plan.nodes[number]
        parameters = [v for v in node["inputs"] if v in self._parameters]
        new = [v for v in dict.fromkeys(parameters) if v not in self._met]
        self._met.update(new)
        room = self._room(node["results"])
        room["kept"] += node["kept"]
        room["whole_batch"] |= node["kept_whole_batch"]
        return Entry(
            str(number),
            path,
            node["name"],
            _told(node["name"], attributes),
            tuple(self._labels[v] for v in node["inputs"] if v in self._labels),
            parameters=tuple(self._parameters[v] for v in parameters),
            n_parameters=sum(int(np.prod(self._values[v]["shape"])) for v in new),
            flops=(nan, nan) if node["kind"] == "callback" else node["flops"],
            checkpoint=node["checkpoint"],
            runs_again=node["runs_again"],
            **room,
        )

    def _room(self, results: Sequence[int]) -> dict[str, Any]:
        """Shapes, and bytes for one sample; what shares the room of another counts where it is."""
        values = [self._values[v] for v in results]
        kept = [
            value if value["shares"] < 0 else self._values[value["shares"]]
            for v, value in zip(results, values, strict=True)
            if v in self._read
        ]
        return {
            "shapes": tuple(value["shape"] for value in values),
            "common": not all(value["batched"] for value in values),
            "bytes": sum(value["bytes"] for value in values),
            "kept": sum(value["bytes"] for value in kept),
            "whole_batch": any(value["whole_batch"] for value in kept),
        }
