"""The card of an exported model: what it is, how to load it, how it was made."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowgen.pipeline.conventions import CONVENTIONS
from flowgen.pipeline.export.hub import PICTURE
from flowgen.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Facts:
    """What the pipeline itself does not know.

    Args:
        form: Of the export, see :data:`~flowgen.pipeline.export.forms.FORMS`.
        repo_id: Where it goes.
        file: Name of the file there; empty of a folder.
        licence: Of the weights, as the hub names it; None where nobody said.
        difference: Largest difference from flowgen's own samples.
        tolerance: The largest that was allowed.
        picture: Whether samples lie beside the card.
        training: Figures of the training by name.
        figures: Figures of an evaluation by name.
        protocol: How they were measured.
    """

    form: str
    repo_id: str
    file: str
    licence: str | None
    difference: float
    tolerance: float
    picture: bool
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)


_LIBRARIES = {
    "safetensors": "flowgen",
    "torch_export": "pytorch",
    "onnx": "onnx",
    "diffusers": "diffusers",
    "pretrained": "diffusers",
    "lora": "diffusers",
}


def model_card(pipeline: Pipeline, facts: Facts) -> str:
    """Return the text of a card: metadata in YAML between two lines ``---``, then Markdown.

    Args:
        pipeline: The model, with the sampler and the guidance it was exported with.
        facts: What it does not know.
    """
    name = str(pipeline.about.get("name") or facts.repo_id.rpartition("/")[2])
    parts = [_metadata(pipeline, facts), f"# {name}", _opening(pipeline)]
    if facts.picture:
        parts.append(f"![Samples of the model]({PICTURE})")
    parts += ["## Load and sample", _usage(pipeline, facts)]
    parts += ["## The model", _table(_model(pipeline))]
    if facts.training:
        parts += ["## Training", _table(facts.training)]
    if facts.figures:
        parts += ["## Evaluation", _table(facts.figures), "Measured so:", _table(facts.protocol)]
    parts += ["## Conventions", _table(CONVENTIONS)]
    parts += [
        "## Export",
        f"`to={facts.form}`. Read back, its samples differ from flowgen's own by at most "
        f"{facts.difference:.3g} in units of the data ({facts.tolerance:g} was allowed).",
    ]
    return "\n\n".join(parts) + "\n"


def data_named(about: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what the training data are called, and their name on the hub if they have one.

    Folders and files of the user are not told.
    """
    data = about.get("data") or {}
    kind = str(data.get("_target_", "")).rpartition(".")[2]
    own = str(data.get("path", "")) if kind == "HuggingFace" else ""
    return kind or "data that it does not name", own if _on_hub(own) else None


def _on_hub(name: str) -> bool:
    """Whether a name is one of the hub and no folder of the user's."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def _metadata(pipeline: Pipeline, facts: Facts) -> str:
    images = len(getattr(pipeline.codec, "image_shape", pipeline.shape)) == 3
    kinds = pipeline.conditioner.kinds if pipeline.conditioner else ()
    tags = ["flowgen", "flow-matching", *(f"{kind}-conditional" for kind in kinds)]
    tags += ["lora"] if facts.form == "lora" else []
    about: dict[str, Any] = {
        "library_name": _LIBRARIES.get(facts.form, "flowgen"),
        "license": facts.licence or "unknown",
        "tags": tags,
    }
    if images:
        text = "prompt" in kinds
        about["pipeline_tag"] = "text-to-image" if text else "unconditional-image-generation"
    if name := data_named(pipeline.about)[1]:
        about["datasets"] = [name]
    # JSON in YAML: every text is quoted, whatever stands in it.
    return "\n".join(["---", *(f"{key}: {json.dumps(about[key])}" for key in about), "---"])


def _opening(pipeline: Pipeline) -> str:
    from flowgen import __version__

    shape = getattr(pipeline.codec, "image_shape", pipeline.shape)
    size = "x".join(str(n) for n in shape)
    kinds = pipeline.conditioner.kinds if pipeline.conditioner else ()
    condition = f", asked for by {', '.join(kinds)}" if kinds else ", unconditional"
    return (
        f"A flow that carries noise to samples of shape {size}{condition}. Trained on "
        f"{data_named(pipeline.about)[0]} with flowgen {__version__}."
    )


def _model(pipeline: Pipeline) -> dict[str, Any]:
    field_, sampler = pipeline.field, pipeline.sampler
    count = sum(parameter.numel() for parameter in field_.parameters())
    path = pipeline.config.get("field", {}).get("path", {})
    schedule = path.get("schedule", path) if isinstance(path, Mapping) else {}
    return {
        "network": type(field_.network).__name__,
        "parameters": f"{count:,}",
        "path": str(schedule.get("_target_", "")).rpartition(".")[2] or type(field_.path).__name__,
        "predicts": type(field_.prediction).__name__,
        "source": type(pipeline.source).__name__,
        "sampler": f"{sampler.stepper!r}, {sampler.num_steps} steps",
        "guidance": "off" if pipeline.guidance is None else repr(pipeline.guidance),
        "training steps": pipeline.about.get("step", "unknown"),
    }


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _usage(pipeline: Pipeline, facts: Facts) -> str:
    lines = {
        "safetensors": _own,
        "torch_export": _graph,
        "onnx": _onnx,
        "diffusers": _diffusers,
        "pretrained": _whole,
        "lora": _adapter,
    }[facts.form](pipeline, facts)
    return "\n".join(["```python", *lines, "```"])


def _own(pipeline: Pipeline, facts: Facts) -> list[str]:
    kinds = pipeline.conditioner.kinds if pipeline.conditioner else ()
    more = ', cond={"prompt": "..."}' if "prompt" in kinds else ""
    return [
        "import flowgen",
        "",
        f'pipeline = flowgen.load("hf://{facts.repo_id}")',
        f"samples = pipeline.sample(16{more})",
    ]


def _inputs(pipeline: Pipeline) -> list[str]:
    shape = ", ".join(str(n) for n in pipeline.shape)
    scale = "" if pipeline.initial_scale == 1 else f"{pipeline.initial_scale:.8g} * "
    lines = [f"x_0 = {scale}torch.randn(4, {shape})"]
    for name, value in sorted((pipeline.conditions(range(1)) or {}).items()):
        sizes = ", ".join(str(n) for n in (4, *value.shape[1:]))
        dtype = str(value.dtype)
        lines.append(f"{name} = torch.zeros({sizes}, dtype={dtype})  # what is asked for")
    return lines


def _graph(pipeline: Pipeline, facts: Facts) -> list[str]:
    names = ", ".join(["x_0", *sorted(pipeline.conditions(range(1)) or {})])
    return [
        "import torch",
        "from huggingface_hub import hf_hub_download",
        "",
        f'file = hf_hub_download("{facts.repo_id}", "{facts.file}")',
        "sampler = torch.export.load(file).module()",
        *_inputs(pipeline),
        f"samples = sampler({names})",
    ]


def _onnx(pipeline: Pipeline, facts: Facts) -> list[str]:
    names = ["x_0", *sorted(pipeline.conditions(range(1)) or {})]
    given = ", ".join(f'"{name}": {name}.numpy()' for name in names)
    return [
        "import onnxruntime",
        "import torch",
        "from huggingface_hub import hf_hub_download",
        "",
        f'file = hf_hub_download("{facts.repo_id}", "{facts.file}")',
        "session = onnxruntime.InferenceSession(file)",
        *_inputs(pipeline),
        f"[samples] = session.run(None, {{{given}}})",
    ]


def _diffusers(pipeline: Pipeline, facts: Facts) -> list[str]:
    del pipeline
    return [
        "from diffusers import DiffusionPipeline",
        "",
        "# pipeline.py of this repository is run: read it first, it is short",
        f'pipe = DiffusionPipeline.from_pretrained("{facts.repo_id}", trust_remote_code=True)',
        "images = pipe(batch_size=4).images",
    ]


def _whole(pipeline: Pipeline, facts: Facts) -> list[str]:
    del pipeline
    return [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipe = DiffusionPipeline.from_pretrained("{facts.repo_id}")',
        'images = pipe("a red heart").images',
    ]


def _adapter(pipeline: Pipeline, facts: Facts) -> list[str]:
    place = pipeline.config["conditioner"]["parts"]["prompt"]["encoder"]["path"]
    base = place if _on_hub(str(place)) else "<the pipeline that it was trained on>"
    return [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipe = DiffusionPipeline.from_pretrained("{base}")',
        f'pipe.load_lora_weights("{facts.repo_id}")',
        'images = pipe("a red heart").images',
    ]
