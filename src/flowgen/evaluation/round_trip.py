"""Measure: how well the sampler finds its way back from data to source and to data again."""

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.evaluation.measure import Figures, Once, Running
from flowgen.evaluation.setting import Setting
from flowgen.metrics import psnr, rmse


class RoundTrip:
    """Error of encoding held-out samples and decoding them again, with the pipeline's sampler.

    An exact solver makes none, whatever the model has learnt.

    Args:
        num_samples: Held-out samples, >= 1.

    Raises:
        InputError: If ``num_samples < 1``.
    """

    name = "round trip"
    needs_samples = False

    def __init__(self, num_samples: int = 128) -> None:
        if num_samples < 1:
            raise InputError(f"num_samples must be >= 1, got {num_samples}")
        self.num_samples = num_samples

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        return "the sampler is stochastic" if setting.pipeline.sampler.stochastic else ""

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(self, setting)


class _Running(Once):
    def __init__(self, measure: RoundTrip, setting: Setting) -> None:
        self.measure = measure
        self.setting = setting

    @torch.no_grad()
    def figures(self) -> Figures:
        setting, pipeline = self.setting, self.setting.pipeline
        batch = setting.real(setting.data.test, self.measure.num_samples)
        field, sampler = pipeline.velocity(), pipeline.sampler
        x = pipeline.codec.encode(batch["x_1"].to(pipeline.device))
        known = setting.conditions_of(batch)

        def work(part: range) -> Tensor:
            rows = slice(part.start, part.stop)
            cond = {name: value[rows].to(x.device) for name, value in known.items()} or None
            return sampler.sample(field, sampler.encode(field, x[rows], cond), cond).cpu()

        training = pipeline.field.training
        pipeline.field.eval()
        try:
            own = list(setting.chunks.over(setting.shards.share(len(x)), work))
        finally:
            pipeline.field.train(training)
        parts = [part for each in setting.shards.gather(own) for part in each]
        back = torch.cat(parts)
        figures: Figures = {"round_trip_rmse": rmse(back, x.cpu())}
        if setting.images:
            decoded = pipeline.codec.decode(back.to(pipeline.device)).cpu()
            figures["round_trip_psnr"] = psnr(decoded, batch["x_1"])
        return figures | {"held-out samples": len(x)}
