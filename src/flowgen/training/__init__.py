"""Training: the LightningModule, averaged weights, schedules, callbacks and loggers."""

from flowgen.training.autoencoder import AutoencoderModule, small_autoencoder
from flowgen.training.beside_teacher import BesideTeacher, few_step
from flowgen.training.checkpoints import Checkpoints
from flowgen.training.ema import EMA
from flowgen.training.evaluate import Evaluate
from flowgen.training.fully_sharded import FullySharded, check_shardable
from flowgen.training.interruption import Interruption, StopRequested
from flowgen.training.module import FlowModule
from flowgen.training.pairing import Paired, PairLoader
from flowgen.training.progress import Progress
from flowgen.training.report import Report
from flowgen.training.resume import Resume
from flowgen.training.run_record import RunRecord
from flowgen.training.sample_grid import SampleGrid
from flowgen.training.schedules import warmup_constant, warmup_cosine
from flowgen.training.stretches import Due, Stretches
from flowgen.training.time_bins import TimeBins

__all__ = [
    "EMA",
    "AutoencoderModule",
    "BesideTeacher",
    "Checkpoints",
    "Due",
    "Evaluate",
    "FlowModule",
    "FullySharded",
    "Interruption",
    "PairLoader",
    "Paired",
    "Progress",
    "Report",
    "Resume",
    "RunRecord",
    "SampleGrid",
    "StopRequested",
    "Stretches",
    "TimeBins",
    "check_shardable",
    "few_step",
    "small_autoencoder",
    "warmup_constant",
    "warmup_cosine",
]
