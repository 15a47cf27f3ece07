"""The update rule that a user's `optimizer` means: the one place where its forms are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastbp.nn.rows import check_attributes, rows

_DECAY = "weight_decay"


class Rule(NamedTuple):
    """What the engine is told of an optimiser.

    `row` is the row of the table, `attributes` those of its numbers that are not at their default,
    `alpha` the penalty that stands in the loss: 0 where the rule decays weights itself.
    """

    row: str
    attributes: dict[str, float]
    alpha: float


def rule_of(optimizer: Any, params: Mapping[str, Any] | None, alpha: float) -> Rule:
    """The rule of a name of the table, with its numbers by name and `alpha`.

    Of a rule with a decay of its own, `alpha` is that decay; of others it is a penalty.
    """
    table = rows("rule")
    if not isinstance(optimizer, str) or optimizer not in table:
        wanted = ", ".join(map(repr, table))
        raise ValueError(f"optimizer: found {optimizer!r}, wanted one of {wanted}")
    row = table[optimizer]
    given = check_attributes(row, params, argument="optimizer_params", user_name=optimizer)
    if any(attr["name"] == _DECAY for attr in row["attrs"]):
        return Rule(optimizer, {_DECAY: float(alpha), **given}, 0.0)
    return Rule(optimizer, given, float(alpha))
