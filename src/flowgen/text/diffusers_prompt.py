"""Text encoded as a pipeline of diffusers does it, by its own encoders and tokenizers.

Each pipeline has its own way: several encoders, one vector beside the tokens, words put before the
prompt. So the pipeline itself is asked, and what it answers is brought into one form.
"""

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgen.core import InputError, with_vector
from flowgen.text.cached import CachedTexts

_AT_ONCE = 16


class Encoded(NamedTuple):
    """What a pipeline makes of texts."""

    states: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None


def _flux(pipeline: Any, texts: list[str], length: int) -> Encoded:
    states, pooled, _ = pipeline.encode_prompt(texts, texts, max_sequence_length=length)
    return Encoded(states, pooled=pooled)


def _lumina(pipeline: Any, texts: list[str], length: int) -> Encoded:
    if texts == [""]:
        return _guided_away_from(pipeline, length)
    states, mask, *_ = pipeline.encode_prompt(texts, False, max_sequence_length=length)
    return Encoded(states, mask)


def _pixart(pipeline: Any, texts: list[str], length: int) -> Encoded:
    states, mask, *_ = pipeline.encode_prompt(texts, False, max_sequence_length=length)
    return Encoded(states, mask)


def _sana(pipeline: Any, texts: list[str], length: int) -> Encoded:
    if texts == [""]:
        return _guided_away_from(pipeline, length)
    # The instruction that the pipeline gives its encoder where it is not told otherwise.
    asked = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
    states, mask, *_ = pipeline.encode_prompt(
        texts, False, max_sequence_length=length, complex_human_instruction=asked
    )
    return Encoded(states, mask)


def _guided_away_from(pipeline: Any, length: int) -> Encoded:
    """No text, without the words that the pipeline puts before prompts."""
    _, _, states, mask = pipeline.encode_prompt([""], True, max_sequence_length=length)
    return Encoded(states, mask)


def _sd(pipeline: Any, texts: list[str], length: int) -> Encoded:
    del length  # CLIP has its own
    states, _ = pipeline.encode_prompt(texts, torch.device("cpu"), 1, False)
    return Encoded(states)


def _sd3(pipeline: Any, texts: list[str], length: int) -> Encoded:
    states, _, pooled, _ = pipeline.encode_prompt(
        *(texts, texts, texts),
        do_classifier_free_guidance=False,
        max_sequence_length=length,
    )
    return Encoded(states, pooled=pooled)


PIPELINES: dict[str, Callable[[Any, list[str], int], Encoded]] = {
    "FluxPipeline": _flux,
    "Lumina2Pipeline": _lumina,
    "PixArtAlphaPipeline": _pixart,
    "PixArtSigmaPipeline": _pixart,
    "SanaPipeline": _sana,
    "StableDiffusion3Pipeline": _sd3,
    "StableDiffusionPipeline": _sd,
}
"""How each pipeline of diffusers is asked to encode prompts, by the name of its class."""

_NOT_FOR_TEXT = ("transformer", "unet", "vae", "scheduler", "safety_checker", "feature_extractor")


class DiffusersPrompt(CachedTexts):
    """Encodes text by the encoders of a pipeline of diffusers.

    The vector that some families read beside the tokens stands in the first rows, as
    :class:`flowgen.models.DiffusersNetwork` expects.

    Args:
        path: Folder of the pipeline, or its name on the hub.
        width: Features of a row: those its transformer or U-Net reads.
        cache: Folder for encoded captions; None takes ``$FLOWGEN_CACHE/text``, or
            ``~/.cache/flowgen/text``.

    Raises:
        InputError: If there is no such pipeline, or it is of an unknown kind.
    """

    def __init__(self, path: str, width: int, cache: str | None = None) -> None:
        super().__init__(cache)
        local = Path(path).expanduser()
        self.path = str(local) if local.exists() else str(path)
        self.width = width
        kind = kind_of(self.path)
        if kind not in PIPELINES:
            raise InputError(
                f"'{path}' is a {kind}; text is encoded by those of {', '.join(PIPELINES)}"
            )
        self._encode = PIPELINES[kind]
        self._loaded: Any = None

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states ``(n, l, width)`` float32 and which of them are tokens, on the CPU.

        Args:
            texts: To encode; an empty one is what the pipeline guides away from.
            length: ``max_sequence_length`` of the pipeline; the rows are as many as it makes.
        """
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            few = list(texts[start : start + _AT_ONCE])
            # No text is encoded alone, as some pipelines do it in another way.
            with_words = [text for text in few if text]
            found = {}
            for group in (with_words, [""] * (len(with_words) < len(few))):
                if group:
                    found |= dict(zip(group, self._rows(group, length), strict=True))
            parts += [found[text] for text in few]
        states, mask = (torch.stack(each) for each in zip(*parts, strict=True))
        return states, mask

    def _rows(self, texts: list[str], length: int) -> list[tuple[Tensor, Tensor]]:
        try:
            found = self._encode(self._pipeline(), texts, length)
        except (ValueError, TypeError, AttributeError) as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"text cannot be encoded by '{self.path}': {line}") from error
        states = found.states.float()
        if states.shape[-1] != self.width:
            raise InputError(
                f"the encoders of '{self.path}' give {states.shape[-1]} features, not {self.width}"
            )
        mask = torch.ones(states.shape[:2], dtype=torch.bool)
        mask = mask if found.mask is None else found.mask.bool()
        if found.pooled is not None:
            states, mask = with_vector(states, mask, found.pooled.float())
        return list(zip(states, mask, strict=True))

    def weights(self) -> list[tuple[str, Tensor]]:
        """Return the weights of the encoders by name, which tell them apart."""
        pipeline = self._pipeline()
        return [
            (f"{name}.{key}", value)
            for name, part in sorted(pipeline.components.items())
            if isinstance(part, torch.nn.Module)
            for key, value in sorted(part.state_dict().items())
        ]

    def _pipeline(self) -> Any:
        if self._loaded is None:
            import diffusers
            from diffusers.utils import logging as quiet
            from transformers.utils import logging as quiet_too

            kind = kind_of(self.path)
            maker = getattr(diffusers, kind)
            unused = dict.fromkeys(
                name for name in _NOT_FOR_TEXT if name in inspect.signature(maker).parameters
            )
            before = quiet.get_verbosity()
            quiet.set_verbosity_error()
            quiet.disable_progress_bar()
            quiet_too.disable_progress_bar()
            logging.getLogger("transformers").setLevel(logging.ERROR)
            try:
                loaded = maker.from_pretrained(self.path, torch_dtype=torch.float32, **unused)
            except (OSError, ValueError, KeyError, ImportError) as error:
                line = next(iter(str(error).splitlines()), "")
                raise InputError(f"'{self.path}' cannot be read: {line}") from error
            finally:
                quiet.set_verbosity(before)
                quiet.enable_progress_bar()
                quiet_too.enable_progress_bar()
            for part in loaded.components.values():
                if isinstance(part, torch.nn.Module):
                    part.eval().requires_grad_(False)
            self._loaded = loaded
        return self._loaded


def kind_of(path: str) -> str:
    """Return the name of the class of a pipeline of diffusers.

    Raises:
        InputError: If there is none.
    """
    local = Path(path) / "model_index.json"
    try:
        if local.is_file():
            return str(json.loads(local.read_text())["_class_name"])
        from diffusers import DiffusionPipeline

        config: Any = DiffusionPipeline.load_config(path)
        return str(config["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"no pipeline of diffusers at '{path}': {line}") from error
