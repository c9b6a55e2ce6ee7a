"""Run folders as the parts of flowgen write them, and a strict reader of pages."""

import json
import math
import struct
import zlib
from datetime import datetime, timezone
from html.parser import HTMLParser

from flowgen.report import read_run, render

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
VOID = {"img", "input", "meta", "br", "hr"}


def png(shade, width=8, height=6):
    """A whole grey PNG, made by hand."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + bytes([shade]) * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def csv_text(steps, extra=()):
    """Metrics of every kind that a run logs."""
    phases = ("data", "coupling", "forward", "backward", "optimizer")
    names = ["step", "loss", "grad_norm", "lr", "samples_per_second", "skipped", "coupling/cost"]
    names += [f"ms/{name}" for name in phases] + [f"loss/t{i / 10:.1f}" for i in range(10)]
    names += ["eval/fd_pixels", "eval/fd_pixels_floor", *extra]
    lines = [",".join(names)]
    for step in steps:
        loss = 0.4 + math.exp(-step / 100)
        row = [step, f"{loss:.6g}", 1.5, 1e-3, 2000, int(step > 300), 1.25, 1, 2, 10, 20, 4]
        row += [f"{loss * (0.5 + i / 10):.6g}" for i in range(10)]
        row += [f"{loss * 3:.6g}", 0.7] if step % 100 == 0 else ["", ""]
        lines.append(",".join(map(str, row + [""] * len(extra))))
    return "\n".join(lines) + "\n"


CONFIG = """\
name: digits
run_dir: runs/digits
seed: 3
trainer:
  _target_: lightning.Trainer
  max_steps: 800
facts:
  label_names: ['0', '1']
  shape:
  - 1
  - 8
optimizer:
  lr: 0.002
"""

ABOUT = {
    "status": "finished",
    "command": ["flowgen", "train", "experiment=digits", "name=two words"],
    "overrides": ["experiment=digits", "optimizer.lr=0.002"],
    "experiment": "digits",
    "flowgen": "9.8.7",
    "python": "3.11.2",
    "torch": "2.13.0",
    "lightning": "2.5.5",
    "platform": "Linux",
    "device": "cpu",
    "commit": "0123abc-dirty",
    "seed": 3,
    "max_steps": 400,
    "sessions": [
        {
            "started": "2026-03-01T12:00:00+00:00",
            "from_step": 0,
            "ended": "2026-03-01T12:10:00+00:00",
            "to_step": 200,
            "reason": "SIGTERM",
        },
        {
            "started": "2026-03-01T12:15:00+00:00",
            "from_step": 200,
            "ended": "2026-03-01T12:20:05+00:00",
            "to_step": 400,
            "reason": None,
        },
    ],
}

FIGURES = {
    "figures": {
        "distance to held-out images": {
            "fd_pixels": 1.311,
            "fd_pixels_floor": 0.708,
            "samples": 500,
            "features": "pixels",
        },
        "labels": {"accuracy": 0.942},
    },
    "protocol": {"checkpoint": "runs/digits", "step": 400, "weights": "ema", "evaluations": 40},
}

SWEEP = {
    "rows": [
        {"sampler": sampler, "num_steps": n, "nfe": n * cost, "fd": 1 + 8 / n, "fd_floor": 0.7}
        for sampler, cost in (("euler", 1), ("heun", 2))
        for n in (1, 2, 4, 8)
    ]
}


def whole_run(folder):
    """Write a finished run with everything in it."""
    write(folder / "config.yaml", CONFIG)
    write(folder / "run.json", ABOUT)
    write(folder / "metrics.csv", csv_text(range(10, 401, 10)))
    for i, step in enumerate((100, 200, 300, 400)):
        write(folder / "samples" / f"step_{step:07d}.png", png(40 * i))
    for step in (200, 400):
        content = {"step": step, "figures": {"paths": {"energy": 70.0 + step}}, "protocol": {}}
        write(folder / "evaluations" / f"step_{step:07d}.json", content)
    write(folder / "evaluation.json", FIGURES)
    write(folder / "evaluation_sweep.json", SWEEP)
    return folder


class Page(HTMLParser):
    """A page read strictly: every element closed in order, every id once."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.ids, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.elements.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag, name=None):
        return [
            a
            for t, a in self.elements
            if t == tag and (name is None or name in (a.get("class") or "").split())
        ]


def text_of(folder, now=NOW):
    """The page of a run folder, as text."""
    return render(read_run(folder), now=now)


def page_of(folder, now=NOW):
    """The page of a run folder, read strictly."""
    return Page(text_of(folder, now))
