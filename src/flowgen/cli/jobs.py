"""What a verb may ask about the job it runs in."""


def job_number() -> int | None:
    """Return the number of this job inside a ``--multirun``, from 0, or None in a single run.

    Jobs of one sweep share the start time, so folders named by time need this number as well.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN or OmegaConf.is_missing(hydra.job, "num"):
        return None
    return int(hydra.job.num)
