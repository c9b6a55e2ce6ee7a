"""Encoders of text with weights: of transformers, of pipelines of diffusers, and MiniLM."""

from flowgen.text.diffusers_prompt import DiffusersPrompt
from flowgen.text.minilm import MiniLM
from flowgen.text.pretrained import PretrainedText

__all__ = ["DiffusersPrompt", "MiniLM", "PretrainedText"]
