"""Pipelines taken elsewhere: torch.export, ONNX, diffusers, and the Hugging Face hub."""

from flowgen.pipeline.export.card import Facts, model_card
from flowgen.pipeline.export.forms import FORMS, export
from flowgen.pipeline.export.hub import Hub

__all__ = ["FORMS", "Facts", "Hub", "export", "model_card"]
