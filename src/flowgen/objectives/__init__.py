"""What a model is trained to do, and the small parts that objectives share."""

from flowgen.objectives.distances import Adaptive, Cauchy, Distance, PseudoHuber, Squared
from flowgen.objectives.flow_and_score import FlowAndScore
from flowgen.objectives.flow_matching import FlowMatching
from flowgen.objectives.time_samplers import (
    CosMap,
    Discrete,
    EDMLogNormal,
    LogitNormal,
    Mode,
    Shifted,
    Stratified,
    TimeSampler,
    Uniform,
    UShaped,
)
from flowgen.objectives.weightings import (
    Constant,
    CosMapWeight,
    Equivalent,
    Likelihood,
    SigmaSqrt,
    Weighting,
)

__all__ = [
    "FlowAndScore",
    "Adaptive",
    "Cauchy",
    "Constant",
    "CosMap",
    "CosMapWeight",
    "Discrete",
    "Distance",
    "EDMLogNormal",
    "Equivalent",
    "FlowMatching",
    "Likelihood",
    "LogitNormal",
    "Mode",
    "PseudoHuber",
    "Shifted",
    "SigmaSqrt",
    "Squared",
    "Stratified",
    "TimeSampler",
    "UShaped",
    "Uniform",
    "Weighting",
]
