"""``flowgen wrap``: a pretrained pipeline of diffusers as a checkpoint of ours."""

from pathlib import Path

from omegaconf import DictConfig

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Wrap as ``cfg`` says and return the file.

    Args:
        cfg: The composed config of ``configs/wrap.yaml``.

    Raises:
        InputError: If the pipeline cannot be read or used, or the file exists.
    """
    from flowgen.core import InputError
    from flowgen.pipeline import save, wrap

    local = Path(str(cfg.pretrained)).expanduser()
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"{local.name}.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: the checkpoint is a file .safetensors")
    if out.exists():
        raise InputError(f"out={out} exists: give another name, or delete it")
    pipeline = wrap(
        str(local.resolve() if local.exists() else cfg.pretrained),
        size=cfg.size,
        text_length=cfg.text_length,
        guidance=cfg.told_guidance,
    )
    save(pipeline, out)
    field = pipeline.config["field"]
    kind = field["network"]["settings"]["_class_name"]
    parts = (field["path"]["schedule"], field["prediction"])
    path, prediction = (part["_target_"].rpartition(".")[2] for part in parts)
    count = sum(parameter.numel() for parameter in pipeline.field.parameters())
    say(
        f"{kind}, {count:,} parameters, path {path}, predicts {prediction}\n"
        f"images {tuple(pipeline.config['codec']['image_shape'])} of latents {pipeline.shape}\n"
        f"written: {out}\n"
        f"next: flowgen sample checkpoint={out} prompt='a red heart' trust_code=true"
    )
    return out
