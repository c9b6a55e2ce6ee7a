"""The small types everything composes from; imports nothing else of flowgen."""

from flowgen.core.bfloat16 import cpu_prefers_bfloat16
from flowgen.core.checks import check_values, debug_checks
from flowgen.core.errors import InputError, TrainingFailedError
from flowgen.core.memory import in_chunks, is_out_of_memory
from flowgen.core.places import cache_folder
from flowgen.core.pooled import vector_rows, with_vector
from flowgen.core.protocols import (
    Coupling,
    DataCoupling,
    FlowMap,
    Follows,
    NoiseField,
    NullCondition,
    Objective,
    Prepared,
    Scheduled,
    ScoreField,
    Source,
    Unconditional,
    VelocityField,
    domain_of,
)
from flowgen.core.randomness import generator_for, network_randomness, per_sample
from flowgen.core.tensors import expand, flatten, is_shared, mean_over_dims
from flowgen.core.types import Coefficients, Condition, Count, Loss, Pair, PathPoint

__all__ = [
    "vector_rows",
    "with_vector",
    "NoiseField",
    "NullCondition",
    "ScoreField",
    "Coefficients",
    "Condition",
    "Count",
    "Coupling",
    "Prepared",
    "DataCoupling",
    "FlowMap",
    "Follows",
    "Scheduled",
    "InputError",
    "Loss",
    "Objective",
    "Pair",
    "PathPoint",
    "Source",
    "TrainingFailedError",
    "Unconditional",
    "VelocityField",
    "cache_folder",
    "check_values",
    "cpu_prefers_bfloat16",
    "debug_checks",
    "domain_of",
    "expand",
    "flatten",
    "generator_for",
    "in_chunks",
    "is_out_of_memory",
    "is_shared",
    "mean_over_dims",
    "network_randomness",
    "per_sample",
]
