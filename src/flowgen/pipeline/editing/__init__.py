"""Editing of given samples by a model's flow."""

from flowgen.pipeline.editing.edited import edited
from flowgen.pipeline.editing.interpolation import Interpolation
from flowgen.pipeline.editing.inversion import ControlledInversion, Inversion
from flowgen.pipeline.editing.measured import Colours, Inpainting
from flowgen.pipeline.editing.noise import from_noise, inverted
from flowgen.pipeline.editing.noising import Noising
from flowgen.pipeline.editing.scene import Edit, Scene, on_linear_path

__all__ = [
    "Colours",
    "ControlledInversion",
    "Edit",
    "Inpainting",
    "Interpolation",
    "Inversion",
    "Noising",
    "Scene",
    "edited",
    "from_noise",
    "inverted",
    "on_linear_path",
]
