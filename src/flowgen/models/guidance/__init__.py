"""Guidance: fields made of two evaluations, and the rules that make them."""

from flowgen.models.guidance.auto import AutoGuided
from flowgen.models.guidance.combine import Combine, Extrapolate, Projected, Rescaled
from flowgen.models.guidance.guided import Guided, Null
from flowgen.models.guidance.rules import Autoguidance, CFGZero, ClassifierFree, Guidance
from flowgen.models.guidance.told import ToldScale
from flowgen.models.guidance.zero_init import ZeroInit

__all__ = [
    "AutoGuided",
    "Autoguidance",
    "CFGZero",
    "ClassifierFree",
    "Combine",
    "Extrapolate",
    "Guidance",
    "Guided",
    "Null",
    "Projected",
    "Rescaled",
    "ToldScale",
    "ZeroInit",
]
