"""Weights into the network they were stored with: all of them, or none and a readable reason.

The config of a hostile file may ask for a network of any size. Its parameters are counted while it
is built, against those that the file really holds, so that a terabyte is refused when its first
layer is made and before it is filled.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from flowgen.core import InputError
from flowgen.pipeline.checkpoint.layout import PREFIXES, clean_name
from flowgen.pipeline.checkpoint.problems import DamageError, plain

_SHOWN = 3
_SPARE_NUMBERS = 10_000_000
_SPARE_PARAMETERS = 1_000


def choose(state: Mapping[str, object], weights: str) -> dict[str, Tensor]:
    """Return one set of weights of a training checkpoint, by their names in the field.

    Args:
        state: Its ``state_dict``.
        weights: ``ema`` or ``raw``.

    Raises:
        InputError: If the file does not hold that set.
        DamageError: If something else than a tensor stands among them, or a name is not clean.
    """
    prefix = PREFIXES[weights]
    found = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    if not found:
        others = [
            other
            for other, start in PREFIXES.items()
            if any(isinstance(name, str) and name.startswith(start) for name in state)
        ]
        hint = f"; try weights={others[0]}" if others else ""
        raise InputError(f"it holds no '{weights}' weights{hint}")
    return check_state(found)


def check_state(state: Mapping[str, object]) -> dict[str, Tensor]:
    """Return ``state`` as it is if all its names are clean and all its values tensors.

    Raises:
        DamageError: Naming the first that is not.
    """
    checked: dict[str, Tensor] = {}
    for name, value in state.items():
        if clean_name(name) != name:
            raise DamageError(f"weight '{plain(name, 60)}' carries the name of a wrapper")
        if not isinstance(value, Tensor):
            raise DamageError(f"weight '{plain(name, 60)}' is a {type(value).__name__}")
        checked[name] = value
    return checked


@contextmanager
def no_more_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse, inside the context, to build modules of far more parameters than ``state`` holds.

    Raises:
        InputError: At the first parameter beyond.
    """
    # Constructors may make a part and throw it away, and a codec may have parameters of its own.
    numbers = 2 * sum(value.numel() for value in state.values()) + _SPARE_NUMBERS
    parameters = 2 * len(state) + _SPARE_PARAMETERS
    thread, counted = get_ident(), {"numbers": 0, "parameters": 0}

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        del module, name
        if parameter is None or get_ident() != thread:
            return
        counted["numbers"] += parameter.numel()
        counted["parameters"] += 1
        if counted["numbers"] > numbers or counted["parameters"] > parameters:
            raise InputError("the config describes a larger network than the file has weights for")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def fill(field: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state`` into ``field``, all names, shapes and kinds of numbers agreeing.

    Raises:
        InputError: Telling a few of the differences.
    """
    own = field.state_dict()
    differences = [f"missing {name}" for name in own if name not in state] + [
        f"unexpected {plain(name, 60)}" for name in state if name not in own
    ]
    for name in own.keys() & state.keys():
        mine, stored = own[name], state[name]
        if mine.shape != stored.shape:
            differences.append(f"{name} is {tuple(stored.shape)}, not {tuple(mine.shape)}")
        elif mine.is_floating_point() != stored.is_floating_point() or (
            mine.is_complex() != stored.is_complex()
        ):
            differences.append(f"{name} holds {stored.dtype}, not {mine.dtype}")
    if differences:
        more = len(differences) - _SHOWN
        told = "; ".join(sorted(differences)[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"the weights do not fit their config: {told}")
    field.load_state_dict(state, strict=True)
