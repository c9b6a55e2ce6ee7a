"""Paths from noise to data: schedules, predictions and their conversion."""

from flowgen.paths.affine import AffinePath
from flowgen.paths.conventions import (
    ForeignModel,
    FromDiffusersFlow,
    FromEDM,
    FromTrigFlow,
    ToDiffusersFlow,
    ToEDM,
    ToTrigFlow,
    guidance_scale_from_w,
    w_from_guidance_scale,
)
from flowgen.paths.convert import convert, score_from_velocity, velocity_domain
from flowgen.paths.discrete_diffusion import BETAS, DiscreteDiffusion
from flowgen.paths.edm import EDM
from flowgen.paths.error_curve import ErrorCurve
from flowgen.paths.error_of_data import DataError, error_of_data
from flowgen.paths.error_of_model import error_of_model
from flowgen.paths.interpolant import StochasticInterpolant
from flowgen.paths.kinetic import conditional_energy, kinetic_energy, kinetic_optimal
from flowgen.paths.latent_noise import BrownianBridge, LatentNoise, Parabola, SquaredSine
from flowgen.paths.linear import Linear
from flowgen.paths.path import Path
from flowgen.paths.polynomial import Polynomial
from flowgen.paths.predictions import (
    Data,
    DiffusersFlow,
    EDMPrediction,
    Noise,
    Prediction,
    SalimansV,
    Velocity,
)
from flowgen.paths.reschedule import Rescheduled
from flowgen.paths.schedule import Schedule
from flowgen.paths.self_check import ConventionCheck, check_agreement, check_conventions
from flowgen.paths.tabulated import Tabulated
from flowgen.paths.trig import Trig
from flowgen.paths.trig_flow import TrigFlowPoint, TrigFlowPrediction, to_trig_flow
from flowgen.paths.variance_preserving import VP, Cosine, LinearVP

__all__ = [
    "BETAS",
    "StochasticInterpolant",
    "BrownianBridge",
    "LatentNoise",
    "Parabola",
    "SquaredSine",
    "Path",
    "EDM",
    "VP",
    "AffinePath",
    "ConventionCheck",
    "Cosine",
    "Data",
    "DataError",
    "DiffusersFlow",
    "DiscreteDiffusion",
    "EDMPrediction",
    "ForeignModel",
    "ErrorCurve",
    "FromDiffusersFlow",
    "FromEDM",
    "FromTrigFlow",
    "Linear",
    "LinearVP",
    "Noise",
    "Polynomial",
    "Prediction",
    "Rescheduled",
    "SalimansV",
    "Schedule",
    "Tabulated",
    "ToDiffusersFlow",
    "ToEDM",
    "ToTrigFlow",
    "Trig",
    "TrigFlowPoint",
    "TrigFlowPrediction",
    "Velocity",
    "check_agreement",
    "check_conventions",
    "conditional_energy",
    "convert",
    "to_trig_flow",
    "error_of_data",
    "error_of_model",
    "guidance_scale_from_w",
    "kinetic_energy",
    "kinetic_optimal",
    "score_from_velocity",
    "velocity_domain",
    "w_from_guidance_scale",
]
