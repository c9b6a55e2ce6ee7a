"""Which source sample belongs to which data sample."""

from flowgen.couplings.class_assignment import ClassAssignment
from flowgen.couplings.condition_assignment import ConditionAssignment, ratio_weight
from flowgen.couplings.condition_distance import ConditionDistance, CosineDistance
from flowgen.couplings.elbow import Strength, elbow, slopes, strengths
from flowgen.couplings.entropic import Entropic
from flowgen.couplings.epsilon import AbsoluteEpsilon, BridgeEpsilon, Epsilon, RelativeEpsilon
from flowgen.couplings.exact_assignment import ExactAssignment
from flowgen.couplings.expressway import Expressway, save_expressway
from flowgen.couplings.figures import cost_of, with_figures
from flowgen.couplings.ground_costs import Euclidean, GroundCost, MatrixCosts, SquaredEuclidean
from flowgen.couplings.independent import Independent
from flowgen.couplings.made_pairs import MadePairs
from flowgen.couplings.monge_gap import entropic_cost, monge_gap, sinkhorn_divergence
from flowgen.couplings.pair_costs import PairCosts
from flowgen.couplings.pair_folder import PairFolder, PairShards
from flowgen.couplings.pair_rounds import PairRounds, Round
from flowgen.couplings.partial_assignment import PartialAssignment, cheapest_pairs
from flowgen.couplings.plan import Drawn, Plan
from flowgen.couplings.potentials import Potentials, digest_of
from flowgen.couplings.semidiscrete import (
    SemidiscreteFit,
    SemidiscreteSolver,
    cell_of,
    chi2_of,
)
from flowgen.couplings.semidiscrete_coupling import Semidiscrete
from flowgen.couplings.sinkhorn import EntropicSolver, Sinkhorn
from flowgen.couplings.sinkhorn_newton import SinkhornNewtonSparse
from flowgen.couplings.solver import optimal_permutation
from flowgen.couplings.sparse_transport import SparseTransport
from flowgen.couplings.stable_matching import StableMatching, stable_permutation
from flowgen.couplings.stored import Stored
from flowgen.couplings.stored_pairs import StoredPairs
from flowgen.couplings.tilt import DataTilt, SinkhornTilt, TiltCorrection
from flowgen.couplings.unbalanced_transport import UnbalancedTransport
from flowgen.couplings.weighted import Weighted

__all__ = [
    "AbsoluteEpsilon",
    "BridgeEpsilon",
    "ClassAssignment",
    "ConditionAssignment",
    "ConditionDistance",
    "CosineDistance",
    "DataTilt",
    "Drawn",
    "Entropic",
    "EntropicSolver",
    "Epsilon",
    "Euclidean",
    "ExactAssignment",
    "Expressway",
    "GroundCost",
    "Independent",
    "MadePairs",
    "MatrixCosts",
    "PairCosts",
    "PairFolder",
    "PairRounds",
    "PairShards",
    "PartialAssignment",
    "Plan",
    "Potentials",
    "RelativeEpsilon",
    "Round",
    "Semidiscrete",
    "SemidiscreteFit",
    "SemidiscreteSolver",
    "Sinkhorn",
    "SinkhornNewtonSparse",
    "SinkhornTilt",
    "SparseTransport",
    "SquaredEuclidean",
    "StableMatching",
    "Stored",
    "StoredPairs",
    "SparseTransport",
    "StableMatching",
    "Strength",
    "TiltCorrection",
    "UnbalancedTransport",
    "Weighted",
    "cell_of",
    "cheapest_pairs",
    "chi2_of",
    "cost_of",
    "digest_of",
    "elbow",
    "entropic_cost",
    "monge_gap",
    "optimal_permutation",
    "ratio_weight",
    "save_expressway",
    "sinkhorn_divergence",
    "slopes",
    "stable_permutation",
    "strengths",
    "with_figures",
]
