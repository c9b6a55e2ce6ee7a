"""Rows of choices such that every allowed pair of choices of two groups stands in some row."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

Choice = tuple[str, str]
"""A group and one of its choices."""

Pair = frozenset[Choice]
"""What a row covers: two choices of two groups, or what they stand for."""


def pair_of(a: Choice, b: Choice) -> Pair:
    """Every pair stands for itself alone."""
    return frozenset((a, b))


def covering(
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Choice, Choice], bool],
    pair: Callable[[Choice, Choice], Pair] = pair_of,
) -> list[dict[str, str]]:
    """Return rows that cover all pairs that ``allowed`` lets stand together, greedily.

    Each row starts from a pair that is not covered yet and takes, group by group, the choice that
    covers most pairs of those left. Two pairs that ``pair`` maps to the same are one. The same
    factors give the same rows.
    """
    groups = sorted(factors, key=lambda group: (-len(factors[group]), group))
    left = {
        pair((a, x), (b, y))
        for a, b in combinations(groups, 2)
        for x in factors[a]
        for y in factors[b]
        if allowed((a, x), (b, y))
    }
    rows = []
    for seed in sorted(left, key=sorted):
        if seed not in left:
            continue
        row = _row(dict(seed), groups, factors, allowed, pair, left)
        if row is None:
            continue  # no complete row holds this pair: a third group forbids it
        left -= {pair(a, b) for a, b in combinations(row.items(), 2)}
        rows.append(row)
    return rows


def beside(
    rows: list[dict[str, str]],
    group: str,
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Choice, Choice], bool],
    pair: Callable[[Choice, Choice], Pair] = pair_of,
) -> list[list[str]]:
    """Return for each row choices of one more group that stand beside it, one at a time.

    They cover all pairs of that group with the others that are allowed. Every row gets one at
    least; where no row has room for a pair, a row is added to ``rows``.
    """
    left = {
        pair((group, x), (other, y))
        for x in factors[group]
        for other in factors
        if other != group
        for y in factors[other]
        if allowed((group, x), (other, y))
    }

    def gain(x: str, row: dict[str, str]) -> int:
        if not all(allowed((group, x), choice) for choice in row.items()):
            return -1
        return sum(pair((group, x), choice) in left for choice in row.items())

    def take(row: dict[str, str], taken: list[str], least: int) -> bool:
        best = max(factors[group], key=lambda x: gain(x, row))
        if gain(best, row) < least:
            return False
        taken.append(best)
        left.difference_update(pair((group, best), choice) for choice in row.items())
        return True

    taken: list[list[str]] = [[] for _ in rows]
    for row, here in zip(rows, taken, strict=True):
        take(row, here, 0)
    gaining = True
    while gaining:
        gaining = sum(take(row, here, 1) for row, here in zip(rows, taken, strict=True)) > 0
    others = sorted(set(factors) - {group}, key=lambda name: (-len(factors[name]), name))
    for seed in sorted(left, key=sorted):
        if seed not in left:
            continue
        row = _row(dict(seed), [*others, group], factors, allowed, pair, left)
        if row is None:
            continue
        left -= {pair(a, b) for a, b in combinations(row.items(), 2)}
        taken.append([row.pop(group)])
        rows.append(row)
        while take(row, taken[-1], 1):
            pass
    return taken


def _row(
    row: dict[str, str],
    groups: Sequence[str],
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Choice, Choice], bool],
    pair: Callable[[Choice, Choice], Pair],
    left: set[Pair],
) -> dict[str, str] | None:
    open_groups = [group for group in groups if group not in row]
    if not open_groups:
        return row
    group = open_groups[0]
    fitting = [x for x in factors[group] if all(allowed((group, x), c) for c in row.items())]
    gains = {x: sum(pair((group, x), c) in left for c in row.items()) for x in fitting}
    for choice in sorted(fitting, key=lambda x: (-gains[x], x)):
        found = _row({**row, group: choice}, groups, factors, allowed, pair, left)
        if found is not None:
            return found
    return None
