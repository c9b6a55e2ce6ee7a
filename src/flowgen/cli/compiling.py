"""``compile=true``: torch.compile on the network, refused at once where it cannot work."""

import logging
import os
import shutil

import torch
from torch import Tensor, nn

from flowgen.core import InputError, cache_folder

COMPILERS = ("g++", "c++", "clang++", "cl")
"""C++ compilers that torch can use, in the order they are looked for; ``$CXX`` comes first."""


def find_compiler() -> str | None:
    """Return the C++ compiler that torch.compile needs on a CPU, None if there is none."""
    named = os.environ.get("CXX")
    names = (named,) if named else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def can_compile() -> bool:
    """Return whether torch.compile works here, found by compiling one addition.

    A compiler alone does not say so: the headers of Python may be missing, for one.
    """
    if find_compiler() is None:
        return False
    keep_cache()

    def addition(x: Tensor) -> Tensor:
        return x + 1

    try:
        torch.compile(addition)(torch.zeros(2))
    except Exception as error:  # noqa: BLE001 - whatever it is, the network is not compiled
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logging.getLogger(__name__).warning("not compiled, as torch.compile fails: %s", reason[0])
        return False
    return True


def keep_cache() -> None:
    """Keep what is compiled for later runs, beyond the next start of the machine."""
    folder = cache_folder() / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compile_network(network: nn.Module) -> None:
    """Compile a network in place; the work is done at its first call for each shape.

    The blocks of a transformer are alike, so that they are compiled one by one, which takes the
    time of one: as fast as the whole compiled at once, and ready several times sooner.

    Raises:
        InputError: If no C++ compiler is found.
    """
    if find_compiler() is None:
        raise InputError(
            "compile=true needs a C++ compiler and none is found: install g++, set CXX, or leave "
            "compile=false"
        )
    keep_cache()
    blocks = getattr(network, "blocks", None)
    for part in blocks if isinstance(blocks, nn.ModuleList) else [network]:
        part.compile()
