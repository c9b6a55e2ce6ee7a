"""Measure: log likelihood of held-out data, as bits per dimension for images."""

import math

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.data import Batch, Split
from flowgen.evaluation.measure import Figures, Once, Running
from flowgen.evaluation.setting import Setting
from flowgen.integrators import Divergence, ExactDivergence, Hutchinson, Sampler

EXACT_UP_TO = 128
"""Entries of a sample up to which the divergence is exact where none is given."""


class Likelihood:
    """Log likelihood of held-out samples, beside that of training samples.

    For images ``bits_per_dim``, with uniform dequantisation; for points ``nll``, nats for a point,
    beside the entropy of the data where their density is known.

    Args:
        num_samples: Samples of each split, >= 2.
        divergence: None is exact for samples of up to 128 entries, else Hutchinson's.
        chunk: Samples integrated at once, >= 1.
        sampler: Of an ODE; None takes dopri5 with tolerances of 1e-5.

    Raises:
        InputError: If a number is too small.
    """

    name = "likelihood"
    needs_samples = False

    def __init__(
        self,
        num_samples: int = 128,
        divergence: Divergence | None = None,
        chunk: int = 64,
        sampler: Sampler | None = None,
    ) -> None:
        for name, value, least in (("num_samples", num_samples, 2), ("chunk", chunk, 1)):
            if value < least:
                raise InputError(f"{name} must be >= {least}, got {value}")
        self.num_samples = num_samples
        self.divergence = divergence
        self.chunk = chunk
        self.sampler = sampler

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        pipeline = setting.pipeline
        for part, method in ((pipeline.source, "log_prob"), (pipeline.codec, "log_det")):
            if not hasattr(part, method):
                return f"{type(part).__name__} has no density"
        return ""

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(self, setting)


class _Running(Once):
    def __init__(self, measure: Likelihood, setting: Setting) -> None:
        self.measure = measure
        self.setting = setting
        size = math.prod(setting.data.shape)
        usual = ExactDivergence() if size <= EXACT_UP_TO else Hutchinson()
        self.divergence = measure.divergence or usual

    def figures(self) -> Figures:
        setting, data = self.setting, self.setting.data
        held_out, training = (self._nats(split) for split in (data.test, data.train))
        count = len(held_out)
        about = {"held-out samples": count, "divergence": repr(self.divergence)}
        if setting.images:
            unit = -1 / (math.log(2) * math.prod(data.shape))
            return {
                "bits_per_dim": unit * float(held_out.mean()),
                "bits_per_dim_standard_error": -unit * float(held_out.std()) / math.sqrt(count),
                "bits_per_dim_of_training_images": unit * float(training.mean()),
                **about,
                "dequantisation": "uniform noise of one of 256 grey levels; an upper bound of the "
                "bits of the level",
            }
        figures = {
            "nll": -float(held_out.mean()),
            "nll_standard_error": float(held_out.std()) / math.sqrt(count),
            "nll_of_training_points": -float(training.mean()),
        }
        log_prob = getattr(getattr(data, "distribution", None), "log_prob", None)
        if log_prob is not None:
            real = setting.real(data.test, self.measure.num_samples)["x_1"]
            figures["nll_floor"] = -float(log_prob(real).mean())
        return figures | about

    def _nats(self, split: Split) -> Tensor:
        """Return the log densities of the first samples of a split, those of all processes."""
        setting = self.setting
        batch: Batch = setting.real(split, self.measure.num_samples)
        share = setting.shards.share(len(batch["x_1"]))
        rows = slice(share.start, share.stop)
        own = torch.zeros(0)
        if share:
            cond = {name: value[rows] for name, value in setting.conditions_of(batch).items()}
            own = setting.pipeline.log_likelihood(
                batch["x_1"][rows],
                cond=cond or None,
                divergence=self.divergence,
                sampler=self.measure.sampler,
                seed=setting.seed,
                chunk=self.measure.chunk,
                first=share.start,
            )
        return torch.cat([part.double() for part in setting.shards.gather(own)])
