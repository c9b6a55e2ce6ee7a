"""Few-step generation: flow maps learnt from a teacher or from data.

All methods stand on four identities of the flow map ``X(x, s, t) = x + (t - s) u(x, s, t)``: the
Eulerian, the Lagrangian, the semigroup and the matching of distributions. A method is a setting of
one of them; each is one file in ``configs/distill``.
"""

from flowgen.distill.adversarial import Adversarial
from flowgen.distill.adversary import Adversary, Contest, Logistic, Relativistic
from flowgen.distill.critic import Critic
from flowgen.distill.critic_objective import CriticObjective
from flowgen.distill.denoising import Denoising
from flowgen.distill.density_ratio import DensityRatio, Divergence, ForwardKL, JensenShannon
from flowgen.distill.derivative import Derivative, Difference, Exact
from flowgen.distill.distance_schedules import DistanceSchedule, ShrinkingCauchy
from flowgen.distill.distribution_matching import DistributionMatching
from flowgen.distill.eulerian import Eulerian, residual
from flowgen.distill.first_steps import AlongPath, AlongVelocity, FirstStep, OwnJump, TeacherHeun
from flowgen.distill.frozen import Frozen
from flowgen.distill.generator import Generator
from flowgen.distill.intervals import Intervals, IntervalSampler, ToEdge, TwoTimes
from flowgen.distill.lagrangian import Lagrangian
from flowgen.distill.moment_matching import MomentMatching, discrepancy
from flowgen.distill.monge_map import MongeMap, contexts, end_of
from flowgen.distill.noise_grid import Doubling, NoiseGap, NoiseGrid, SameNoise
from flowgen.distill.perceptual import PerceptualMatching
from flowgen.distill.piecewise_reflow import PiecewiseReflow, Windowed
from flowgen.distill.reflow import Reflow
from flowgen.distill.regression import Regression
from flowgen.distill.semigroup import Semigroup
from flowgen.distill.step_weights import Even, PerNoiseStep, PerStep, StepWeight
from flowgen.distill.students import draw_intervals, flow_map
from flowgen.distill.tangents import Normalised, NormalisedDerivative, Plain, Ramp, Tangent
from flowgen.distill.together import Part, Together
from flowgen.distill.trig_consistency import TrigConsistency
from flowgen.distill.triples import (
    Approach,
    Dyadic,
    Middle,
    NextStep,
    Ratio,
    Triples,
    TripleSampler,
)
from flowgen.distill.truncated import Resting, Truncated
from flowgen.distill.uncertainty import Uncertainty
from flowgen.distill.velocities import (
    OfData,
    OfDataGuided,
    OfStudent,
    OfTeacher,
    VelocitySource,
)
from flowgen.distill.velocity_distillation import KullbackLeibler, VelocityDistillation

__all__ = [
    "AlongPath",
    "TrigConsistency",
    "AlongVelocity",
    "FirstStep",
    "OwnJump",
    "TeacherHeun",
    "Semigroup",
    "Even",
    "PerNoiseStep",
    "PerStep",
    "StepWeight",
    "Approach",
    "Dyadic",
    "Middle",
    "NextStep",
    "Ratio",
    "Triples",
    "TripleSampler",
    "Adversarial",
    "Adversary",
    "Contest",
    "Critic",
    "CriticObjective",
    "Denoising",
    "DensityRatio",
    "Derivative",
    "Difference",
    "DistanceSchedule",
    "DistributionMatching",
    "Divergence",
    "Doubling",
    "Eulerian",
    "Exact",
    "ForwardKL",
    "Frozen",
    "Generator",
    "IntervalSampler",
    "Intervals",
    "JensenShannon",
    "KullbackLeibler",
    "Lagrangian",
    "Logistic",
    "MomentMatching",
    "MongeMap",
    "contexts",
    "end_of",
    "NoiseGap",
    "NoiseGrid",
    "Normalised",
    "NormalisedDerivative",
    "OfData",
    "OfDataGuided",
    "OfStudent",
    "OfTeacher",
    "Part",
    "PerceptualMatching",
    "PiecewiseReflow",
    "Plain",
    "Ramp",
    "Reflow",
    "Regression",
    "Relativistic",
    "Resting",
    "SameNoise",
    "ShrinkingCauchy",
    "Tangent",
    "ToEdge",
    "Together",
    "Truncated",
    "TwoTimes",
    "Uncertainty",
    "VelocityDistillation",
    "VelocitySource",
    "Windowed",
    "discrepancy",
    "draw_intervals",
    "flow_map",
    "residual",
]
