"""What a stretch of code draws, in order, so that it can be drawn outside and given to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.training.draws import DROPOUT, FILLED, Draws, name_of


class _Draw(NamedTuple):
    """An operation that draws: what it is called with, but for generator and target."""

    call: Callable[..., Tensor]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    own: bool
    target: tuple[torch.Size, torch.dtype] | None


class Plan(Draws):
    """Writes down what is drawn inside on a CPU, so that other numbers can be drawn for it."""

    def __init__(self) -> None:
        super().__init__()
        self._draws: list[_Draw] = []

    def draw(self, generator: torch.Generator) -> list[Tensor]:
        """Return fresh numbers, in order.

        Args:
            generator: In place of the one that was used inside; the global one stays itself.
        """
        found = []
        for call, args, kwargs, own, target in self._draws:
            place = () if target is None else (torch.empty(target[0], dtype=target[1]),)
            given = {**kwargs, "generator": generator} if own else kwargs
            found.append(call(*place, *args, **given))
        return found

    def drawing(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Draw, and write it down.

        Raises:
            InputError: If what is drawn depends on numbers that are not there before.
        """
        name, given = name_of(func), dict(kwargs)
        filled = name in FILLED
        rest = args[1:] if filled else args
        if name == DROPOUT or any(isinstance(v, Tensor) for v in (*rest, *given.values())):
            raise InputError(f"compile=step cannot draw {name} before the batch is looked at")
        result = func(*args, **given)
        own = given.pop("generator", None) is not None
        target = (result.shape, result.dtype) if filled else None
        self._draws.append(_Draw(func, rest, given, own, target))
        return result


class Given(Draws):
    """Gives numbers in place of draws, none of which is made, so that none stands in a graph.

    Args:
        drawn: Of :meth:`Plan.draw`.
    """

    def __init__(self, drawn: Iterable[Tensor]) -> None:
        super().__init__()
        self._drawn = iter(drawn)

    def drawing(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Give the next numbers."""
        del kwargs
        value = next(self._drawn)
        return args[0].copy_(value) if name_of(func) in FILLED else value
