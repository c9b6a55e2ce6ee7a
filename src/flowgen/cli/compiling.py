"""``compile=true``: torch.compile on the network, refused at once where it cannot work."""

import os
import shutil

from torch import nn

from flowgen.core import InputError

COMPILERS = ("g++", "c++", "clang++", "cl")
"""C++ compilers that torch can use, in the order they are looked for; ``$CXX`` comes first."""


def find_compiler() -> str | None:
    """Return the C++ compiler that torch.compile needs on a CPU, None if there is none."""
    named = os.environ.get("CXX")
    names = (named,) if named else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


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
    blocks = getattr(network, "blocks", None)
    for part in blocks if isinstance(blocks, nn.ModuleList) else [network]:
        part.compile()
