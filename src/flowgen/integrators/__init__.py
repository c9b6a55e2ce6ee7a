"""Integrators of ``dx/dt = v(x, t)``: steppers, time grids, samplers."""

from flowgen.integrators.adaptive import ADAPTIVE_METHODS, Adaptive
from flowgen.integrators.counted import Counted
from flowgen.integrators.diffusion import (
    BumpDiffusion,
    ConstantDiffusion,
    DecreasingDiffusion,
    Diffusion,
    LinearDiffusion,
    ReverseDiffusion,
    SigmaDiffusion,
)
from flowgen.integrators.edm_heun import EDMHeun
from flowgen.integrators.exponential import (
    DDIM,
    DPMSolver2M,
    DPMSolver3M,
    ExponentialMultistep,
    UniPC,
)
from flowgen.integrators.fitted import Fit, fit_grid, fit_solver, teacher_ends
from flowgen.integrators.grids import (
    EDMRho,
    Explicit,
    Grid,
    LogSNRUniform,
    LongLast,
    Quadratic,
    Shifted,
    Sway,
    Uniform,
)
from flowgen.integrators.integrate import integrate, trajectory
from flowgen.integrators.interpolant_sde import InterpolantSDE
from flowgen.integrators.jumps import Jump, Renoise, jump
from flowgen.integrators.last_step import LastEuler, LastMean, LastStep, LastTweedie
from flowgen.integrators.likelihood import (
    Divergence,
    ExactDivergence,
    Hutchinson,
    log_density_change,
)
from flowgen.integrators.multistep import AdamsBashforth
from flowgen.integrators.noise import Noise
from flowgen.integrators.non_stationary import NonStationary
from flowgen.integrators.renewing import EDMChurn, Overshoot, StochasticDDIM
from flowgen.integrators.runge_kutta import (
    RK4,
    Euler,
    Heun,
    Kutta3,
    Midpoint,
    Ralston,
    RK4ThreeEighths,
    RungeKutta,
    Tableau,
)
from flowgen.integrators.sampler import Sampler
from flowgen.integrators.sde import EulerMaruyama, StochasticHeun
from flowgen.integrators.start import Start
from flowgen.integrators.stepper import Begins, Leg, Stepper, Time
from flowgen.integrators.stochastic import StochasticStepper

__all__ = [
    "InterpolantSDE",
    "ADAPTIVE_METHODS",
    "AdamsBashforth",
    "Adaptive",
    "Begins",
    "BumpDiffusion",
    "ConstantDiffusion",
    "Counted",
    "DDIM",
    "DPMSolver2M",
    "DPMSolver3M",
    "DecreasingDiffusion",
    "Diffusion",
    "Divergence",
    "EDMChurn",
    "EDMHeun",
    "EDMRho",
    "Euler",
    "EulerMaruyama",
    "ExactDivergence",
    "Explicit",
    "ExponentialMultistep",
    "Fit",
    "Grid",
    "Heun",
    "Hutchinson",
    "Jump",
    "Kutta3",
    "LastEuler",
    "LastMean",
    "LastStep",
    "LastTweedie",
    "Leg",
    "LinearDiffusion",
    "LogSNRUniform",
    "LongLast",
    "Midpoint",
    "Noise",
    "NonStationary",
    "Overshoot",
    "Quadratic",
    "RK4",
    "RK4ThreeEighths",
    "Ralston",
    "Renoise",
    "ReverseDiffusion",
    "RungeKutta",
    "Sampler",
    "Shifted",
    "SigmaDiffusion",
    "Start",
    "Stepper",
    "StochasticDDIM",
    "StochasticHeun",
    "StochasticStepper",
    "Sway",
    "Tableau",
    "Time",
    "UniPC",
    "Uniform",
    "fit_grid",
    "fit_solver",
    "integrate",
    "jump",
    "log_density_change",
    "teacher_ends",
    "trajectory",
]
