"""Networks, conditioning, and what makes a network a velocity field."""

from flowgen.models.attention import Attention, attend, math_attention
from flowgen.models.conditioner import Conditioner, Conditioners, asked_for
from flowgen.models.conditioning import (
    GUIDANCE,
    Classes,
    ConditionEmbedding,
    LabelEmbedding,
    ScaleEmbedding,
    TextEmbedding,
    silence,
)
from flowgen.models.consistency_field import ConsistencyField
from flowgen.models.diffusers_network import DiffusersNetwork
from flowgen.models.dit import DiT
from flowgen.models.feed_forward import GELUFeedForward, SwiGLU
from flowgen.models.field import PredictionField
from flowgen.models.flow_map import (
    FlowMapField,
    SegmentField,
    check_edges,
    last_edge,
    next_edge,
)
from flowgen.models.guidance import (
    Autoguidance,
    AutoGuided,
    CFGZero,
    ClassifierFree,
    Extrapolate,
    Guidance,
    Guided,
    Projected,
    Rescaled,
    ToldScale,
    ZeroInit,
)
from flowgen.models.hashed_words import HashedWords
from flowgen.models.interpolant_field import InterpolantField
from flowgen.models.label_conditioner import LabelConditioner
from flowgen.models.mlp import MLP
from flowgen.models.mmdit import MMDiT
from flowgen.models.norms import NonScalingNorm, Norm, ScalingNorm
from flowgen.models.positions import LearnedPositions, Positions, RotaryPositions
from flowgen.models.scale_conditioner import ScaleConditioner, check_range
from flowgen.models.text_conditioner import CAPTION, PROMPT, TextConditioner, TextEncoder
from flowgen.models.text_readers import CrossAttended, InContext, TextReader
from flowgen.models.time_embedding import TimeEmbedding
from flowgen.models.unet import UNet
from flowgen.models.unet2d import UNet2D
from flowgen.models.uvit import UViT

__all__ = [
    "DiffusersNetwork",
    "CAPTION",
    "PROMPT",
    "InterpolantField",
    "MLP",
    "MMDiT",
    "Attention",
    "AutoGuided",
    "Autoguidance",
    "CFGZero",
    "Classes",
    "ClassifierFree",
    "ConditionEmbedding",
    "Conditioner",
    "Conditioners",
    "ConsistencyField",
    "CrossAttended",
    "DiT",
    "Extrapolate",
    "FlowMapField",
    "GELUFeedForward",
    "GUIDANCE",
    "Guidance",
    "Guided",
    "HashedWords",
    "InContext",
    "LabelConditioner",
    "LabelEmbedding",
    "LearnedPositions",
    "NonScalingNorm",
    "Norm",
    "Positions",
    "PredictionField",
    "Projected",
    "Rescaled",
    "RotaryPositions",
    "ScaleConditioner",
    "ScaleEmbedding",
    "ScalingNorm",
    "SegmentField",
    "SwiGLU",
    "TextConditioner",
    "TextEmbedding",
    "TextEncoder",
    "TextReader",
    "TimeEmbedding",
    "ToldScale",
    "UNet",
    "UNet2D",
    "UViT",
    "ZeroInit",
    "asked_for",
    "attend",
    "check_edges",
    "check_range",
    "last_edge",
    "math_attention",
    "next_edge",
    "silence",
]
