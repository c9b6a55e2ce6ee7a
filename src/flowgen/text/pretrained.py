"""Token states of any encoder of the transformers library.

Captions of a data set are encoded once and kept on disk: the file is named by a digest of encoder,
captions and length, so that nothing stale is read.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgen.core import InputError, cache_folder

_AT_ONCE = 64
_SHOW_PROGRESS = 2000  # texts from which a progress bar is worth it


class PretrainedText:
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
        try:
            from transformers import AutoConfig
        except ImportError as error:
            raise InputError(
                "text encoders with weights need transformers: pip install 'flowgen[text]'"
            ) from error
        self.path = str(Path(path).expanduser()) if Path(path).expanduser().exists() else str(path)
        self.cache = None if cache is None else Path(cache).expanduser()
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

    def table(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return what calling it does, in half precision, encoded once and kept on disk."""
        file = self._folder() / f"{self._digest(texts, length)}.safetensors"
        with suppress(OSError, SafetensorError, KeyError):
            found = load_file(file)
            return found["states"], found["mask"]
        from tqdm import tqdm

        parts = []
        hide = len(texts) <= _SHOW_PROGRESS
        for start in tqdm(
            range(0, len(texts), _AT_ONCE), desc="encoding captions", disable=hide, leave=False
        ):
            states, mask = self(texts[start : start + _AT_ONCE], length)
            parts.append((states.half(), mask))
        states, mask = (torch.cat(each) for each in zip(*parts, strict=True))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            save_file({"states": states, "mask": mask}, temporary)
            temporary.replace(file)
        except OSError as error:
            logging.getLogger(__name__).warning(
                "encoded captions cannot be kept in %s: %s", file.parent, error.strerror or error
            )
        return states, mask

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

    def _folder(self) -> Path:
        if self.cache is not None:
            return self.cache
        return cache_folder() / "text"

    def _digest(self, texts: Sequence[str], length: int) -> str:
        _, model = self._model()
        found = hashlib.sha256(f"{length} {len(texts)}".encode())
        for text in texts:
            found.update(b"\0" + text.encode())
        for name, value in sorted(model.state_dict().items()):
            # A few numbers of each weight tell models apart.
            few = value.flatten()[:: max(1, value.numel() // 16)].float()
            found.update(name.encode() + few.contiguous().numpy().tobytes())
        return found.hexdigest()[:32]
