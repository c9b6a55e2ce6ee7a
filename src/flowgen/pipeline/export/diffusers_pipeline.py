"""A pipeline of diffusers around a traced sampler of flowgen; needs torch and diffusers alone."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput


class FlowgenPipeline(DiffusionPipeline):
    """Draws samples by the traced sampler ``sampler.pt2`` that lies beside this file."""

    def __init__(self):
        super().__init__()
        self._program = None
        self.about = {}

    def _loaded(self):
        if self._program is None:
            place = Path(str(self.config["_name_or_path"]))
            if not place.is_dir():
                from huggingface_hub import snapshot_download

                place = Path(snapshot_download(str(place)))
            extra = {"flowgen.json": ""}
            self._program = torch.export.load(place / "sampler.pt2", extra_files=extra).module()
            self.about = json.loads(extra["flowgen.json"])
        return self._program

    @torch.no_grad()
    def __call__(
        self,
        batch_size=1,
        class_labels=None,
        conditions=None,
        generator=None,
        latents=None,
        output_type="pil",
        return_dict=True,
    ):
        """Draw ``batch_size`` samples.

        Args:
            batch_size: How many.
            class_labels: A label or a list of them, repeated in order; None takes all in turn.
            conditions: Other inputs by name, ``(batch_size, ...)`` each, see ``self.about``.
            generator: A ``torch.Generator`` for the noise.
            latents: Source samples ``(batch_size, *shape)`` in place of noise.
            output_type: ``pil`` for images, ``np`` or ``pt`` for arrays as the model decodes them.
            return_dict: Return an ``ImagePipelineOutput`` instead of a tuple.
        """
        sampler = self._loaded()
        first, *others = self.about["inputs"]
        if latents is None:
            if self.about["source"] != "Gaussian":
                raise ValueError("this model starts from a distribution of its own: give latents")
            shape = (batch_size, *first["shape"][1:])
            latents = torch.randn(shape, generator=generator)
        given = dict(conditions or {})
        if class_labels is None and self.about["num_classes"]:
            class_labels = list(range(self.about["num_classes"]))
        if class_labels is not None and "label" not in given:
            labels = torch.as_tensor(class_labels).reshape(-1)
            given["label"] = labels[torch.arange(len(latents)) % len(labels)]
        missing = [each["name"] for each in others if each["name"] not in given]
        if missing:
            raise ValueError(f"give conditions={{...}} with {', '.join(missing)}")
        rows = [latents * self.about["initial_scale"], *(given[each["name"]] for each in others)]
        parts = [each.split(self.about["max_batch"]) for each in rows]
        found = torch.cat([sampler(*part) for part in zip(*parts, strict=True)])
        images: Any = found if output_type == "pt" else _arrays(found)
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def _arrays(found):
    if found.dtype != torch.uint8:
        return found.numpy()
    return found.permute(0, 2, 3, 1).float().div(255).numpy()
