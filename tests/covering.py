"""Rows of choices such that every allowed pair of choices of two groups stands in some row."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

Choice = tuple[str, str]
"""A group and one of its choices."""


def covering(
    factors: Mapping[str, Sequence[str]], allowed: Callable[[Choice, Choice], bool]
) -> list[dict[str, str]]:
    """Return rows that cover all pairs that ``allowed`` lets stand together, greedily.

    Each row starts from a pair that is not covered yet and takes, group by group, the choice that
    covers most pairs of those left. The same factors give the same rows.
    """
    groups = sorted(factors, key=lambda group: (-len(factors[group]), group))
    left = {
        frozenset(((a, x), (b, y)))
        for a, b in combinations(groups, 2)
        for x in factors[a]
        for y in factors[b]
        if allowed((a, x), (b, y))
    }
    rows = []
    for seed in sorted(left, key=sorted):
        if seed not in left:
            continue
        row = _row(dict(seed), groups, factors, allowed, left)
        if row is None:
            continue  # no complete row holds this pair: a third group forbids it
        left -= {frozenset(pair) for pair in combinations(row.items(), 2)}
        rows.append(row)
    return rows


def _row(
    row: dict[str, str],
    groups: Sequence[str],
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Choice, Choice], bool],
    left: set[frozenset[Choice]],
) -> dict[str, str] | None:
    open_groups = [group for group in groups if group not in row]
    if not open_groups:
        return row
    group = open_groups[0]
    fitting = [x for x in factors[group] if all(allowed((group, x), c) for c in row.items())]
    gains = {x: sum(frozenset(((group, x), c)) in left for c in row.items()) for x in fitting}
    for choice in sorted(fitting, key=lambda x: (-gains[x], x)):
        found = _row({**row, group: choice}, groups, factors, allowed, left)
        if found is not None:
            return found
    return None
