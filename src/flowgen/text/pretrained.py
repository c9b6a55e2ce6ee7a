"""Token states of any encoder of the transformers library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor

from flowgen.core import InputError, is_out_of_memory
from flowgen.text.cached import CachedTexts

_AT_ONCE = 64

# What transformers raises for a model or a tokenizer that is broken, or of another kind.
_FOREIGN = (
    *(OSError, ValueError, KeyError, ImportError, RuntimeError),
    *(TypeError, AttributeError, IndexError, SafetensorError),
)


class PretrainedText(CachedTexts):
    """Encodes text by the part of a pretrained transformer that reads it.

    That is the encoder of an encoder-decoder, the text model of one of text and images, and any
    other as a whole.

    Args:
        path: Folder, or name on the hub, of a model of transformers with its tokenizer.
        cache: Folder for encoded captions; None takes ``$FLOWGEN_CACHE/text``, or
            ``~/.cache/flowgen/text``.

    Attributes:
        width: Features of a token.
        longest: Most tokens of a text, None if its positions have no end.

    Raises:
        InputError: If the package or the model is missing, or the model reads no text.
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
            own = config.get_text_config()
        except _FOREIGN as error:
            raise InputError(f"no model of transformers at '{path}': {_line(error)}") from error
        width = getattr(own, "hidden_size", None)
        if width is None:
            raise InputError(f"'{path}' is a {type(own).__name__}, which tells no hidden_size")
        self.width = int(width)
        self.longest: int | None = getattr(own, "max_position_embeddings", None)
        self._class = next(iter(config.architectures or ()), "")
        self._loaded: tuple[Any, Any] | None = None

    @torch.no_grad()
    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states ``(n, length, width)`` float32 and which of them are tokens, on the CPU.

        Args:
            texts: To encode; an empty one is the model's own marks of beginning and end.
            length: Tokens of each; longer texts are cut, the rest of shorter ones is zero.

        Raises:
            InputError: If the model has fewer positions than ``length``, or cannot read text.
        """
        if self.longest is not None and length > self.longest:
            raise InputError(
                f"text_length={length}: '{self.path}' reads {self.longest} tokens at most"
            )
        tokenizer, model = self._model()
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            few = list(texts[start : start + _AT_ONCE])
            try:
                parts.append(_encoded(tokenizer, model, few, length))
            except _FOREIGN as error:
                if is_out_of_memory(error):
                    raise
                reason = f"text cannot be encoded by '{self.path}': {_line(error)}"
                raise InputError(reason) from error
            if (found := parts[-1][0].shape[-1]) != self.width:
                raise InputError(f"'{self.path}' gives {found} features, not {self.width}")
        states, masks = zip(*parts, strict=True)
        return torch.cat(states), torch.cat(masks)

    def weights(self) -> list[tuple[str, Tensor]]:
        """Return the weights of the encoder by name."""
        return sorted(self._model()[1].state_dict().items())

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import transformers
            from transformers.utils import logging as quiet

            before = quiet.get_verbosity()
            quiet.set_verbosity_error()
            quiet.disable_progress_bar()
            try:
                tokenizer: Any = transformers.AutoTokenizer.from_pretrained(self.path)
                maker: Any = transformers.AutoModel
                if self._class.endswith("EncoderModel"):
                    # AutoModel would put a decoder of random weights beside an encoder alone.
                    maker = getattr(transformers, self._class, maker)
                model: Any = maker.from_pretrained(self.path, use_safetensors=True)
            except _FOREIGN as error:
                if is_out_of_memory(error):
                    raise
                reason = f"no model of transformers at '{self.path}': {_line(error)}"
                raise InputError(reason) from error
            finally:
                quiet.set_verbosity(before)
                quiet.enable_progress_bar()
            model = _reader(model)
            reads = getattr(model, "main_input_name", "input_ids")
            if reads != "input_ids":
                raise InputError(f"'{self.path}' is a {type(model).__name__}: it reads {reads}")
            if tokenizer.pad_token is None:
                # What fills up is masked, so that any token will do.
                tokenizer.pad_token = tokenizer.eos_token
            self._loaded = tokenizer, model.float().eval().requires_grad_(False)
        return self._loaded


def _reader(model: Any) -> Any:
    """Return the part of a model that reads text."""
    if hasattr(model, "text_model"):
        return model.text_model
    # Others have an encoder too, which is behind their embeddings and reads no text by itself.
    decodes = getattr(model.config, "is_encoder_decoder", False)
    return model.get_encoder() if decodes or hasattr(model, "decoder") else model


def _encoded(tokenizer: Any, model: Any, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    tokens = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    seen = tokens["attention_mask"]
    # Some tokenizers mark neither beginning nor end: no text is then their token that fills up.
    seen[seen.sum(dim=1) == 0, 0] = 1
    states = model(input_ids=tokens["input_ids"], attention_mask=seen).last_hidden_state.float()
    return states * seen[..., None].bool(), seen.bool()


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
