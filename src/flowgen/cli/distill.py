"""``flowgen distill``: a training whose student takes everything but the method from a teacher."""

from pathlib import Path

from omegaconf import DictConfig


def run(cfg: DictConfig) -> Path:
    """Distil as ``cfg`` says and return the run folder.

    Args:
        cfg: The composed config of ``configs/distill.yaml``.

    Raises:
        InputError: If the teacher or a setting cannot be used, or teacher and data do not agree.
        SystemExit: With 128 + the number of the signal that ended the training.
    """
    from flowgen.cli import train
    from flowgen.cli.student import fill_student

    if cfg.resume in (None, train.AUTO):
        fill_student(cfg, [o.key_or_group for o in train.overrides()])
    return train.run(cfg)
