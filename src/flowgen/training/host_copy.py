"""A copy of a state in main memory, which stays as it is while the original goes on."""

from pathlib import Path
from typing import Any

from torch import Tensor

_MEMORY = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def host_copy(content: Any) -> Any:
    """Return ``content`` with all containers and tensors copied, tensors on the CPU.

    What is one tensor in the original, or several names of the same numbers, is one in the copy.

    Args:
        content: Dicts, lists and tuples of tensors and of plain values.
    """
    return _copied(content, {})


def tensor_bytes(content: Any) -> int:
    """Return the bytes that the tensors of ``content`` take, those of one storage counted once."""
    found: dict[Any, int] = {}
    _count(content, found)
    return sum(found.values())


def free_memory() -> int | None:
    """Return the bytes that may still be taken here, None where the system does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        most, used = (int(path.read_text()) for path in _LIMITS)
    except (OSError, ValueError):  # no limit, or a limit called "max"
        return free
    return min(free, most - used)


def _copied(value: Any, seen: dict[Any, Tensor]) -> Any:
    if isinstance(value, dict):
        return type(value)({key: _copied(item, seen) for key, item in value.items()})
    if isinstance(value, list | tuple | set):
        return type(value)(_copied(item, seen) for item in value)
    if not isinstance(value, Tensor):
        return value
    key = _place(value)
    if key not in seen:
        seen[key] = value.detach().to("cpu", copy=True)
    return seen[key]


def _count(value: Any, found: dict[Any, int]) -> None:
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, Tensor):
        found[_place(value)] = value.numel() * value.element_size()
        return
    elif not isinstance(value, list | tuple | set):
        return
    for item in value:
        _count(item, found)


def _place(value: Tensor) -> tuple[Any, ...]:
    where = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
    return where if value.numel() else (id(value),)
