"""Did you mean: rank known names by how likely they are what was meant.

Two kinds of slip are told apart. A slip of the fingers is a small edit distance over the whole
dotted name (Damerau 1964: insert, drop, replace, swap neighbours). A slip of memory is the right
last part in the wrong place, ``lr`` for ``optimizer.lr``, or by other words, ``steps`` for
``max_steps``. The second costs a constant, so that a near spelling in the right place wins.
"""

import math
from collections.abc import Iterable
from difflib import SequenceMatcher

_MISPLACED = 1.5
_UNDER_PARENT = 1.0


def edit_distance(a: str, b: str) -> int:
    """Return the least number of inserts, drops, replacements and swaps from ``a`` to ``b``."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _slip(a: str, b: str, reach: float) -> float:
    """Edit distance, counted more in short names: two letters of four are another word.

    Capitals are no letters of their own: all of them together cost half a slip. Names whose lengths
    alone put them out of reach cost ``inf``: to find the distance takes a thousand times as long.
    """
    if abs(len(a) - len(b)) > reach:
        return math.inf
    distance = float(edit_distance(a.lower(), b.lower()))
    if a.lower() != a and b.lower() == b:
        distance += 0.5
    return distance + 2.0 * distance / max(len(a), len(b), 1)


def _memory(a: str, b: str) -> float:
    """Cost of having meant ``b`` by other words; ``inf`` if they share none."""
    words, others = a.split("_"), b.split("_")
    # A single letter is the initial of too many words to be one's short form.
    initials = "".join(word[:1] for word in words), "".join(word[:1] for word in others)
    if (len(a) > 1 and a == initials[1]) or (len(b) > 1 and b == initials[0]):
        return 0.5
    if others[: len(words)] == words:
        return 1.65
    if set(words) <= set(others) or set(others) <= set(words):
        return 1.75
    return math.inf


def _cost(name: str, candidate: str, reach: float) -> float:
    parts, others = name.split("."), candidate.split(".")
    depth = 0.1 * abs(len(parts) - len(others))
    same_parent = parts[:-1] == others[:-1]
    costs = [
        _slip(name, candidate, reach),
        _slip(parts[-1], others[-1], reach) + _MISPLACED + depth,
        _memory(parts[-1], others[-1]) + (0.0 if same_parent else 0.2 + depth),
    ]
    if len(others) > len(parts):
        tail = ".".join(others[-len(parts) :])
        costs.append(_slip(name, tail, reach) + _UNDER_PARENT + depth)
    return min(costs)


def nearest(name: str, candidates: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return at most ``limit`` candidates that may have been meant by ``name``, best first.

    Args:
        name: What was typed; dots separate the parts of a key.
        candidates: All names that exist.
        limit: How many to return; fewer if nothing is near.
    """
    reach = max(2.2, 1.3 + 0.25 * len(name.rsplit(".", 1)[-1]))
    costs = {candidate: _cost(name, candidate, reach) for candidate in candidates}
    near = [candidate for candidate, cost in costs.items() if cost <= reach]

    def rank(candidate: str) -> tuple[float, float, str]:
        return costs[candidate], -SequenceMatcher(None, name, candidate).ratio(), candidate

    return sorted(near, key=rank)[:limit]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest candidate, or nothing if none is near."""
    found = nearest(name, candidates, limit=1)
    return f"; did you mean '{found[0]}'?" if found else ""
