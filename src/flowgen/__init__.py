"""flowgen: flow-matching generative modelling, from training to few-step sampling.

``flowgen.load(path)`` returns a pipeline that samples; everything else lives in the packages
``paths``, ``couplings``, ``objectives``, ``models``, ``integrators``, ``metrics`` and ``pipeline``.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("flowgen")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+checkout"

if TYPE_CHECKING:
    from flowgen.pipeline import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` when first asked for, so that the command line starts without torch."""
    if name == "load":
        from flowgen.pipeline import load

        return load
    raise AttributeError(f"module 'flowgen' has no attribute '{name}'")
