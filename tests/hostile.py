"""A corpus of hostile and broken files: what each tries, and how it is written.

Every one must be refused with one line, without running code, waiting or taking memory.
``benchmarks/hostile_files.py`` prints the table of the answers.
"""

from hostile_archives import ARCHIVES
from hostile_configs import CONFIGS
from hostile_headers import HEADERS
from hostile_pickles import PICKLES

CORPUS = (*PICKLES, *ARCHIVES, *CONFIGS, *HEADERS)
