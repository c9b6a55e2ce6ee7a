"""Evaluation: what is measured of a pipeline, with the protocol that made each number."""

from flowgen.evaluation.chunks import Chunks
from flowgen.evaluation.discrepancy import Discrepancy
from flowgen.evaluation.extractors import extractor_for
from flowgen.evaluation.features import Features, FeatureSettings
from flowgen.evaluation.image_distances import ImageDistance
from flowgen.evaluation.labels import LabelAgreement
from flowgen.evaluation.likelihood import Likelihood
from flowgen.evaluation.map_gap import MongeGap
from flowgen.evaluation.measure import Figures, Measure, Once, Running, fitting, measured, numbers
from flowgen.evaluation.neighbours import Neighbours
from flowgen.evaluation.paths import Paths
from flowgen.evaluation.plot import save_plot
from flowgen.evaluation.protocol import protocol
from flowgen.evaluation.round_trip import RoundTrip
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.evaluation.shards import Shards
from flowgen.evaluation.straightness import Straightness
from flowgen.evaluation.sweep import Fine, sweep, variants
from flowgen.evaluation.tables import figures_text, rows_text
from flowgen.evaluation.transport import Transport

__all__ = [
    "Chunks",
    "Discrepancy",
    "Drawn",
    "FeatureSettings",
    "Features",
    "Figures",
    "Fine",
    "ImageDistance",
    "LabelAgreement",
    "Likelihood",
    "Measure",
    "MongeGap",
    "Neighbours",
    "Once",
    "Paths",
    "RoundTrip",
    "Running",
    "Setting",
    "Shards",
    "Straightness",
    "Transport",
    "extractor_for",
    "figures_text",
    "fitting",
    "measured",
    "numbers",
    "protocol",
    "rows_text",
    "save_plot",
    "sweep",
    "variants",
]
