#!/usr/bin/env python3
"""Writes the table between the quickstart's marks in README.md from a recorded run: python3 reports/readme.py reports/quickstart"""

import csv
import json
import re
import sys
from pathlib import Path

ROWS = [
    ("all", "all"),
    ("cell=fresh lookup", "a fact that the model was never told"),
    ("cell=updated lookup", "a fact that has changed since the model learnt it"),
    ("cell=known lookup", "a fact that the model was told, and that a document states"),
    ("exposures=1", "… told once"),
    ("exposures=10", "… ten times"),
    ("exposures=100", "… a hundred times"),
    ("exposures=1000", "… a thousand times"),
    ("cell=known lookup undocumented", "a fact that the model was told, and that no document states"),
    ("cell=unstated lookup", "what nobody knows: right is to say so"),
    ("cell=fresh alias", "a fact, asked for by another name"),
    ("cell=fresh multi_hop", "a fact over two documents"),
    ("cell=fresh house_code", "the house's way of writing, taught by labels alone"),
    ("cell=fresh house_record", "a fact in the house's way of writing"),
]
VARIANTS = ["baseline", "rag", "finetuned", "hybrid", "hybrid_raft", "oracle", "random"]


def main() -> None:
    run = Path(sys.argv[1])
    rows = csv.DictReader((run / "tables/quality.csv").open())
    cells = {(row["variant"], row["slice"]): row for row in rows if row["metric"] == "exact_match"}
    percent = lambda row, key: f"{100 * float(row[key]):.0f}"
    lines = ["| questions (n) | " + " | ".join(f"`{name}`" for name in VARIANTS) + " |", "|---|" + "---|" * len(VARIANTS)]
    for key, text in ROWS:
        found = [cells[name, key] for name in VARIANTS]
        shown = [f"{percent(row, 'point')} ({percent(row, 'ci_low')} to {percent(row, 'ci_high')})" for row in found]
        lines.append(f"| {text} ({found[0]['n']}) | " + " | ".join(shown) + " |")
    questions = cells["baseline", "all"]["n"]
    readme = Path("README.md")
    text = readme.read_text()
    begin, end = text.index("| questions (n) |"), text.index("<!-- /quickstart -->")
    after = text[begin:end].split("\n\n", 1)[1]
    text = text[:begin] + "\n".join(lines) + "\n\n" + after + text[end:]
    text = re.sub(r"[\d,]+ questions about an invented world", f"{int(questions):,} questions about an invented world", text)
    readme.write_text(text)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
