"""The conventions that every checkpoint states, so that no reader has to guess."""

from collections.abc import Mapping
from typing import Any

CONVENTIONS = {
    "time": "0 is the source, 1 is data",
    "velocity": "d x_t / d t along x_t = alpha x_1 + sigma x_0",
    "guidance": "v_null + scale (v_cond - v_null); scale 1 is off",
}


def describe(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says about itself beside its weights and config."""
    from flowgen import __version__

    return {"version": __version__, "conventions": dict(CONVENTIONS), **about}
