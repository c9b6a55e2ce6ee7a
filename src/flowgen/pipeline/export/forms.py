"""The forms a pipeline can be exported to; each is written, read back and compared."""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.pipeline.checkpoint import load, save
from flowgen.pipeline.export.pretrained_forms import to_lora, to_pretrained
from flowgen.pipeline.export.sampling import Sampling, sampling_of
from flowgen.pipeline.export.tracing import as_text, described, inputs, traced
from flowgen.pipeline.pipeline import Pipeline

_DESCRIPTION = "flowgen.json"


def to_safetensors(pipeline: Pipeline, path: Path) -> Sampling:
    """Write weights and description; only ``flowgen.load`` reads them."""
    save(pipeline, path)
    again = load(path, device=pipeline.device)
    # Sampler and guidance are choices of each sampling, which this form leaves open.
    again = again.with_sampler(pipeline.sampler)
    if pipeline.guidance is not None:
        again = again.guided(pipeline.guidance)

    return sampling_of(again)


def to_torch_export(pipeline: Pipeline, path: Path) -> Sampling:
    """Write the sampler as a graph that ``torch.export.load`` reads, without flowgen."""
    program, generator = traced(pipeline)
    extra = {_DESCRIPTION: as_text(described(pipeline, generator))}
    torch.export.save(program, path, extra_files=extra)
    again = torch.export.load(path).module()
    return lambda given: again(*given)


def to_onnx(pipeline: Pipeline, path: Path) -> Sampling:
    """Write the sampler as an ONNX model, its description among the metadata.

    Raises:
        InputError: If the packages of the extra ``onnx`` are missing.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        raise InputError(f"to=onnx needs {error.name}: pip install 'flowgen[onnx]'") from error
    program, generator = traced(pipeline)
    names = ["x_0", *generator.names]
    with _silent():
        written = torch.onnx.export(
            program, dynamo=True, input_names=names, output_names=["samples"], verbose=False
        )
    assert written is not None
    model = written.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "flowgen", as_text(described(pipeline, generator))
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def sample(given: tuple[Tensor, ...]) -> Tensor:
        own = {name: value.cpu().numpy() for name, value in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, own)[0])

    return sample


def to_diffusers(pipeline: Pipeline, path: Path) -> Sampling:
    """Write a folder that ``DiffusionPipeline.from_pretrained`` loads, with its own pipeline."""
    import diffusers

    path.mkdir(parents=True)
    to_torch_export(pipeline, path / "sampler.pt2")
    shutil.copyfile(Path(__file__).with_name("diffusers_pipeline.py"), path / "pipeline.py")
    index = {
        "_class_name": ["pipeline", "FlowgenPipeline"],
        "_diffusers_version": diffusers.__version__,
    }
    (path / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    diffusers.utils.logging.disable_progress_bar()
    try:
        again: Any = diffusers.DiffusionPipeline.from_pretrained(str(path), trust_remote_code=True)
    finally:
        diffusers.utils.logging.enable_progress_bar()
    names = sorted(pipeline.conditions(range(1)) or {})

    def sample(given: tuple[Tensor, ...]) -> Tensor:
        cond = dict(zip(names, given[1:], strict=True))
        start = given[0] / pipeline.initial_scale
        return again(latents=start, conditions=cond, output_type="pt").images

    return sample


FORMS: dict[str, tuple[str, Callable[[Pipeline, Path], Sampling]]] = {
    "safetensors": (".safetensors", to_safetensors),
    "torch_export": (".pt2", to_torch_export),
    "onnx": (".onnx", to_onnx),
    "diffusers": ("", to_diffusers),
    "pretrained": ("", to_pretrained),
    "lora": ("", to_lora),
}
"""Forms by name: how their names end (a folder ends in nothing), and what writes and reads them."""


@torch.no_grad()
def export(
    pipeline: Pipeline, form: str, path: Path, *, tolerance: float, num_samples: int = 8
) -> float:
    """Write a pipeline in another form and return how far its samples are from the pipeline's own.

    Args:
        pipeline: On the CPU.
        form: One of :data:`FORMS`.
        path: A new file or folder; written whole or not at all.
        tolerance: Largest difference of a number of a sample, in the units of the data.
        num_samples: How many samples are compared.

    Raises:
        InputError: If the form is unknown, the path is taken or ends otherwise, the model cannot be
            exported, or its samples differ by more than ``tolerance``.
    """
    if form not in FORMS:
        raise InputError(f"to must be one of {', '.join(FORMS)}, got {form}")
    ending, write = FORMS[form]
    if path.suffix != ending:
        kind = f"a file {ending}" if ending else "a folder"
        raise InputError(f"out={path}: to={form} writes {kind}")
    if path.exists():
        raise InputError(f"out={path} exists: give another name, or delete it")
    if num_samples < 1 or not tolerance >= 0:
        raise InputError(
            f"num_samples must be >= 1 and tolerance >= 0, got {num_samples} and {tolerance}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.writing{ending}")
    _remove(temporary)
    try:
        again, own = write(pipeline, temporary), sampling_of(pipeline)
        # More than one number of rows: a graph may have taken its example's for a constant.
        difference = 0.0
        for numbers in (range(num_samples), range(num_samples, num_samples + 1)):
            given = inputs(pipeline, numbers)
            want = own(given)
            found = again(given)
            if found.shape != want.shape:
                raise InputError(f"samples have shape {tuple(found.shape)}, not {want.shape}")
            apart = (found.double() - want.double()).abs().max()
            difference = max(difference, float(apart))
        if not difference <= tolerance:
            raise InputError(
                f"samples of the exported model are {difference:.3g} from flowgen's own, more than "
                f"tolerance={tolerance:g}: nothing is written"
            )
        temporary.replace(path)
    finally:
        _remove(temporary)
    return difference


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's own progress and warnings from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
