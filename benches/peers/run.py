#!/usr/bin/env python3
"""Runs ragft's engine beside Python peers on the same weights, token ids and threads, and prints one table of ratios.

The first run makes a Python environment and compiles llama.cpp, which takes minutes; later runs reuse it.
"""

import argparse
import csv
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import contest
import environment
import table
import works


def arguments():
    names = [work.name for work in works.WORKS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0], epilog="works: " + ", ".join(names))
    parser.add_argument("--only", metavar="WORK,..", type=lambda text: text.split(","), help="these works, not all")
    parser.add_argument("--contenders", metavar="NAME,..", type=lambda text: text.split(","), help="these contenders, not all")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender (default 2)")
    parser.add_argument("--quick", action="store_true", help="fewer tokens and steps: to see that it runs, not to quote")
    parser.add_argument("--venv", type=Path, help="Python environment (default: in cargo's target folder)")
    parser.add_argument("--no-install", action="store_true", help="take the environment as it is")
    parser.add_argument("--data", type=Path, help="folder of models and texts (default: in cargo's target folder)")
    parser.add_argument("--profile", default="release", help="cargo profile of our contender (default release)")
    parser.add_argument("--ours", type=Path, help="a contender that was built before")
    parser.add_argument("--out", type=Path, help="the records go to OUT.json and OUT.csv, the table to OUT.md (default: in cargo's target folder)")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing; print the table of records written before")
    options = parser.parse_args()
    if unknown := [name for name in options.only or [] if name not in names]:
        parser.error(f"no work is named `{unknown[0]}`, expected of: {', '.join(names)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("`--rounds` and `--threads` are 1 or more")
    return options


def prepare(options, chosen):
    target = environment.target_folder()
    home = target / "peers"
    folder = options.venv or home / "venv"
    setup = environment.Setup(
        python=folder / "bin" / "python" if options.no_install else environment.make_venv(folder),
        ours=options.ours or environment.build_ours(target, options.profile),
        data=environment.data_folder(options.data or home / "data"),
        logs=home / "logs",
        threads=options.threads,
        rounds=options.rounds,
        quick=options.quick,
        contenders=options.contenders,
    )
    setup.logs.mkdir(parents=True, exist_ok=True)
    environment.make_inputs(chosen, setup)
    return setup, options.out or home / "peers"


def progress(work):
    def report(number, name, answer):
        speeds = (f"{measure.name} {table.rate(measure, answer):.4g} {measure.unit}" for measure in work.measures)
        environment.say(f"{work.name} {f'round {number}' if number else 'warm-up'}: {name} {', '.join(speeds)}")

    return report


def write(record, out):
    """After every work, so that a run that is cut short leaves what it has."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with out.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table.csv_rows(record["records"]))
    out.with_suffix(".md").write_text(render(record), encoding="utf-8")


def render(record):
    by_name = {work.name: work for work in works.WORKS}
    lines = [line for one in record["records"] for line in table.lines_of(by_name[one["work"]], one)]
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    quick = " Quick: too short to quote." if record["quick"] else ""
    head = (
        f"{record['started'][:10]}, commit {machine['commit']}, {machine['cpu']}, {machine['cores']} cores; {record['threads']} threads each, "
        f"median (lowest to highest) of {record['rounds']} interleaved rounds after a warm-up (three times as many of the prefill alone); {versions}.{quick}"
    )
    return table.markdown(lines, head)


def main():
    options = arguments()
    if options.render:
        print(render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return
    chosen = [work for work in works.WORKS if not options.only or work.name in options.only]
    setup, out = prepare(options, chosen)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record = {"started": started, "machine": environment.machine(setup), "threads": setup.threads, "rounds": setup.rounds}
    record |= {"quick": setup.quick, "records": []}
    for work in chosen:
        record["records"].append(contest.run(work, setup, progress(work)))
        write(record, out)
    print(render(record), end="")
    environment.say(f"records: {out.with_suffix('.json')}, {out.with_suffix('.csv')}")


if __name__ == "__main__":
    sys.exit(main())
