"""A batch in parts, where the whole does not fit through the model at once."""

from collections.abc import Iterator

from flowgen.core import Pair


def chunks(pair: Pair, size: int | None) -> Iterator[tuple[Pair, bool]]:
    """Yield ``(rows of pair, whether they are the last)``."""
    if size is None or size >= len(pair):
        yield pair, True
        return
    for start in range(0, len(pair), size):
        rows = slice(start, start + size)
        yield (
            Pair(
                pair.x_0[rows],
                pair.x_1[rows],
                None if pair.cond is None else {k: v[rows] for k, v in pair.cond.items()},
                None if pair.weight is None else pair.weight[rows],
            ),
            start + size >= len(pair),
        )
