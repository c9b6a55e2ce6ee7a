"""At which times a model is trained: one family of densities per file."""

from flowgen.objectives.time_samplers.discrete import Discrete
from flowgen.objectives.time_samplers.logit_normal import EDMLogNormal, LogitNormal
from flowgen.objectives.time_samplers.mode import CosMap, Mode
from flowgen.objectives.time_samplers.protocol import TimeSampler
from flowgen.objectives.time_samplers.shifted import Shifted
from flowgen.objectives.time_samplers.u_shaped import UShaped
from flowgen.objectives.time_samplers.uniform import Stratified, Uniform

__all__ = [
    "CosMap",
    "Discrete",
    "EDMLogNormal",
    "LogitNormal",
    "Mode",
    "Shifted",
    "Stratified",
    "TimeSampler",
    "UShaped",
    "Uniform",
]
