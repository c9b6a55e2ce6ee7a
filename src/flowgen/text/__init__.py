"""Encoders of text with weights: those of transformers, and MiniLM from a package."""

from flowgen.text.minilm import MiniLM
from flowgen.text.pretrained import PretrainedText

__all__ = ["MiniLM", "PretrainedText"]
