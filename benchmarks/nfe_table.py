"""Quality against the number of evaluations, from the JSON of a sweep, as a markdown table.

    flowgen evaluate checkpoint=... samplers=[...] num_steps=[2,4,8,16] out=nfe.json
    python benchmarks/nfe_table.py nfe.json --figure rmse_to_fine

One row for each sampler, one column for each number of evaluations; the best of a column is bold. A
cell is empty where no number of steps of the sweep costs just so many evaluations.
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--figure", default="rmse_to_fine")
    parser.add_argument("--nfe", type=int, nargs="+", default=[4, 8, 16])
    arguments = parser.parse_args()
    rows = json.loads(arguments.file.read_text())["rows"]
    table: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.get(arguments.figure) is not None:
            table.setdefault(row["sampler"], {})[row["nfe"]] = row[arguments.figure]
    best = {
        nfe: min((found[nfe] for found in table.values() if nfe in found), default=None)
        for nfe in arguments.nfe
    }
    print(f"| sampler | {' | '.join(f'{nfe} evaluations' for nfe in arguments.nfe)} |")
    print(f"|---|{'---|' * len(arguments.nfe)}")
    for sampler, found in table.items():
        if not set(found) & set(arguments.nfe):
            continue
        cells = []
        for nfe in arguments.nfe:
            value = found.get(nfe)
            text = "" if value is None else f"{value:.4g}"
            cells.append(f"**{text}**" if value is not None and value == best[nfe] else text)
        print(f"| `{sampler}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
