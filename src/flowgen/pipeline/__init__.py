"""Everything needed to sample: pipeline, building from configs, saving and loading, pictures."""

from flowgen.pipeline.autoguidance import autoguidance
from flowgen.pipeline.build import build, check_targets
from flowgen.pipeline.checkpoint import (
    atomic,
    description,
    find,
    load,
    pick_device,
    read_training_checkpoint,
    save,
    verify,
)
from flowgen.pipeline.images import grid, is_image, save_comparison, save_image, save_picture
from flowgen.pipeline.pair_making import make_pairs
from flowgen.pipeline.path_file import kinetic_schedule, save_schedule, schedule_config
from flowgen.pipeline.pipeline import Pipeline
from flowgen.pipeline.pretrained import wrap
from flowgen.pipeline.teacher import teacher_field, teacher_pipeline

__all__ = [
    "Pipeline",
    "atomic",
    "autoguidance",
    "build",
    "check_targets",
    "description",
    "find",
    "grid",
    "is_image",
    "kinetic_schedule",
    "load",
    "make_pairs",
    "pick_device",
    "read_training_checkpoint",
    "save",
    "save_comparison",
    "save_image",
    "save_picture",
    "save_schedule",
    "schedule_config",
    "teacher_field",
    "teacher_pipeline",
    "verify",
    "wrap",
]
