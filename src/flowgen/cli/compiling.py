"""``compile=true`` and ``compile=step``: torch.compile, refused at once where it cannot work."""

import logging
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from flowgen.cli.placement import alone, on_cpu
from flowgen.core import InputError, cache_folder

if TYPE_CHECKING:
    from flowgen.training import FlowModule

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
    _check_compiler("true")
    blocks = getattr(network, "blocks", None)
    for part in blocks if isinstance(blocks, nn.ModuleList) else [network]:
        part.compile()


def compile_step(cfg: DictConfig, flow: "FlowModule", rows: Mapping[str, Tensor]) -> None:
    """Have the loss and its gradient computed by one compiled graph (``compile=step``).

    Args:
        cfg: Of the training, with every choice made.
        flow: What trains.
        rows: As many rows of data as are paired together.

    Raises:
        InputError: If the run is not one process on a CPU in float32, checks values at every step,
            has micro-batches or an objective that does not compute the same at every step; or no
            C++ compiler is found.
    """
    if not (on_cpu(cfg.trainer.accelerator) and alone(cfg.trainer)):
        raise InputError(
            "compile=step is for small networks in one process on a CPU: add trainer=cpu, or use "
            "compile=true"
        )
    if cfg.debug:
        raise InputError(
            "debug=true looks at values inside the step, where compile=step lets nobody look: give "
            "one of them"
        )
    if cfg.micro_batch is not None:
        raise InputError(
            "micro_batch is for batches that do not fit, compile=step for tiny networks: give one "
            "of them"
        )
    if cfg.trainer.precision != "32-true":
        raise InputError(
            f"compile=step computes in float32: add trainer.precision=32-true instead of "
            f"{cfg.trainer.precision}, or use compile=true"
        )
    _check_compiler("step")
    flow.use_one_graph(rows, cfg.data.batch_size)


def _check_compiler(choice: str) -> None:
    if find_compiler() is None:
        raise InputError(
            f"compile={choice} needs a C++ compiler and none is found: install g++, set CXX, or "
            "leave compile=false"
        )
    keep_cache()
