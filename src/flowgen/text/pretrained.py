"""Token states of any encoder of the transformers library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.text.cached import CachedTexts

_AT_ONCE = 64


class PretrainedText(CachedTexts):
    """Encodes text by a pretrained transformer; of an encoder-decoder, by its encoder.

    Args:
        path: Folder, or name on the hub, of a model of transformers with its tokenizer.
        cache: Folder for encoded captions; None takes ``$FLOWGEN_CACHE/text``, or
            ``~/.cache/flowgen/text``.

    Attributes:
        width: Features of a token.

    Raises:
        InputError: If the package or the model is missing.
    """

    def __init__(self, path: str, cache: str | None = None) -> None:
        super().__init__(cache)
        try:
            from transformers import AutoConfig
        except ImportError as error:
            raise InputError(
                "text encoders with weights need transformers: pip install 'flowgen[text]'"
            ) from error
        self.path = str(Path(path).expanduser()) if Path(path).expanduser().exists() else str(path)
        try:
            config: Any = AutoConfig.from_pretrained(self.path)
        except (OSError, ValueError, KeyError) as error:
            line = next(iter(str(error).splitlines()), "")
            raise InputError(f"no model of transformers at '{path}': {line}") from error
        self.width = int(config.hidden_size)
        self._decodes = bool(getattr(config, "is_encoder_decoder", False))
        self._loaded: tuple[Any, Any] | None = None

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states ``(n, length, width)`` float32 and which of them are tokens, on the CPU.

        Args:
            texts: To encode; an empty one is the model's own marks of beginning and end.
            length: Tokens of each; longer texts are cut, the rest of shorter ones is zero.
        """
        tokenizer, model = self._model()
        states, masks = [], []
        for start in range(0, len(texts), _AT_ONCE):
            tokens = tokenizer(
                list(texts[start : start + _AT_ONCE]),
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            mask = tokens["attention_mask"].bool()
            found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            states.append(found.last_hidden_state.float() * mask[..., None])
            masks.append(mask)
        return torch.cat(states), torch.cat(masks)

    def weights(self) -> list[tuple[str, Tensor]]:
        """Return the weights of the encoder by name."""
        return sorted(self._model()[1].state_dict().items())

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging as quiet

            before = quiet.get_verbosity()
            quiet.set_verbosity_error()
            quiet.disable_progress_bar()
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.path)
                model: Any = AutoModel.from_pretrained(self.path, use_safetensors=True)
            except (OSError, ValueError, KeyError) as error:
                line = next(iter(str(error).splitlines()), "")
                raise InputError(f"no model of transformers at '{self.path}': {line}") from error
            finally:
                quiet.set_verbosity(before)
                quiet.enable_progress_bar()
            model = model.get_encoder() if self._decodes else model
            self._loaded = tokenizer, model.float().eval().requires_grad_(False)
        return self._loaded
