"""Pipelines taken elsewhere: torch.export, ONNX, diffusers."""

from flowgen.pipeline.export.forms import FORMS, export

__all__ = ["FORMS", "export"]
