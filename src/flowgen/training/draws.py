"""All random numbers of a stretch of code, kept and given again, on whatever device.

A seed means other numbers on another kind of device, so a batch that broke on an accelerator cannot
be repeated from its seeds alone. What was drawn is therefore kept, in order, and put in place of
the draws when the batch is repeated elsewhere: source, times, dropped labels, dropout.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowgen.core import InputError

FRESH = frozenset(
    ("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like")
    + ("bernoulli", "multinomial", "normal")
)
"""Operations that return what they draw."""

FILLED = frozenset(("uniform_", "normal_", "bernoulli_", "exponential_", "random_", "log_normal_"))
"""Operations that write what they draw into a tensor."""

DROPOUT = "native_dropout"
"""What an accelerator calls to drop out; a CPU fills a mask by ``bernoulli_`` instead."""


class Draws(TorchDispatchMode, ABC):
    """Sees every operation inside that draws, and leaves the others alone."""

    @abstractmethod
    def drawing(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of an operation that draws."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation."""
        del types
        name = name_of(func)
        if name in FRESH or name in FILLED or name == DROPOUT:
            return self.drawing(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class Record(Draws):
    """Keeps what is drawn inside, in order, on the CPU.

    Attributes:
        drawn: The numbers so far; of dropout the mask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def drawing(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Draw, and keep the result."""
        result = func(*args, **kwargs)
        value = result[1] if name_of(func) == DROPOUT else result
        self.drawn.append(value.detach().to("cpu", copy=True))
        return result


class Repeat(Draws):
    """Gives what was drawn before in place of what would be drawn inside.

    Args:
        drawn: Of a :class:`Record`.
    """

    def __init__(self, drawn: Iterable[Tensor]) -> None:
        super().__init__()
        self._drawn = iter(drawn)

    def drawing(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Give the next numbers.

        Raises:
            InputError: If the numbers are not those of this code.
        """
        name = name_of(func)
        if name == DROPOUT:
            x, chance = args[0], args[1]
            mask = self._next(x).bool()
            return x * mask / (1 - chance), mask
        if name in FILLED:
            return args[0].copy_(self._next(args[0]))
        result = func(*args, **kwargs)
        return self._next(result).to(result)

    def _next(self, like: Tensor) -> Tensor:
        value = next(self._drawn, None)
        if value is None:
            raise InputError("fewer random numbers were kept than are drawn now")
        if value.shape != like.shape:
            raise InputError(
                f"other random numbers were kept than are drawn now: {tuple(value.shape)} instead "
                f"of {tuple(like.shape)}"
            )
        return value.to(like.device)


def name_of(func: Any) -> str:
    """Return the name of an operation, e.g. ``randn``."""
    return str(func.overloadpacket).rpartition(".")[2]
