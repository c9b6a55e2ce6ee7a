"""Seconds to sample a student at one evaluation, and its teacher at fifty, in turns in one run.

    OMP_NUM_THREADS=2 python benchmarks/few_step_speed.py TEACHER STUDENT > FILE

TEACHER and STUDENT are run folders, e.g. those that benchmarks/distillation.py keeps. Both draw the
same numbers of images, decoded, noise and conditions included; medians of several rounds. The ratio
of the times over the ratio of the evaluations says what is lost beside the network.
"""

import argparse
import json
import os
import statistics
import time

import torch

from flowgen import __version__
from flowgen.integrators import Euler, Sampler, Uniform
from flowgen.pipeline import Pipeline, load
from flowgen.training import few_step


def seconds(pipeline: Pipeline, num_samples: int, chunk: int) -> float:
    """Return the wall time of drawing samples."""
    start = time.perf_counter()
    pipeline.sample(num_samples, chunk=chunk)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("teacher")
    parser.add_argument("student")
    parser.add_argument("--num-samples", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    steps = 50
    teacher = load(arguments.teacher, device="cpu")
    teacher = teacher.with_sampler(Sampler(Euler(), Uniform(), steps))
    [student] = few_step(load(arguments.student, device="cpu"), [1])
    found = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "evaluations": [student.nfe(), teacher.nfe()],
    }
    for count in arguments.num_samples:
        times = {"teacher": [], "student": []}
        for _ in range(arguments.rounds + 1):
            times["student"].append(seconds(student, count, 256))
            times["teacher"].append(seconds(teacher, count, 256))
        median = {name: statistics.median(each[1:]) for name, each in times.items()}
        ratio = median["teacher"] / median["student"]
        found[f"{count} samples"] = {
            **{f"{name}, s": round(value, 4) for name, value in median.items()},
            "times faster": round(ratio, 1),
            "over the ratio of evaluations": round(ratio * student.nfe() / teacher.nfe(), 3),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
