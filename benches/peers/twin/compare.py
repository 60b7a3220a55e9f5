"""Whole runs of `ragft run` and of the twin, in turn, and what they took.

    python compare.py --ragft target/release/ragft --python .venv/bin/python --rounds 5

Every round is appended to the log, and the summary is over all rounds in it: rounds may be taken one at a time, on an idle machine.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def timed(command: list[str], environment: dict[str, str] | None = None) -> dict:
    """Runs a process to its end: wall and CPU seconds, its peak resident memory in MiB, and the CPU seconds of everything else meanwhile."""
    with tempfile.TemporaryFile() as output:
        start, busy = time.perf_counter(), machine_seconds()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall, busy = time.perf_counter() - start, machine_seconds() - busy
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.exit(f"`{' '.join(command)}` ended with {process.returncode}:\n{output.read().decode(errors='replace')[-4000:]}")
    # Linux gives kibibytes, macOS bytes.
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "cpu": cpu, "peak_mib": usage.ru_maxrss / unit, "others": max(busy - cpu, 0.0)}


def machine_seconds() -> float:
    """CPU seconds of all processes since the machine started; 0 where the system does not tell (only Linux does)."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def run_ours(ragft: Path, threads: int, folder: Path) -> dict:
    """`ragft run` into `folder`: the process, its phases, and exact match by variant in percent."""
    figures = timed([str(ragft), "--threads", str(threads), "--quiet", "run", "-o", str(folder)])
    manifest = json.loads((folder / "manifest.json").read_text())
    phases = {phase["name"]: phase["seconds"] for phase in manifest["phases"]}
    phases["outside"] = figures["wall"] - sum(phases.values())
    with (folder / "tables/quality.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["slice"] == "all" and row["metric"] == "exact_match"]
    training = {record["adapter"].rsplit("-seed")[0]: {key: record[key] for key in ("steps", "tokens", "seconds")} for record in manifest["training"]}
    exact_match = {row["variant"]: 100 * float(row["point"]) for row in rows}
    harness = harness_seconds(folder, figures["wall"], manifest)
    return figures | {"phases": phases, "training": training, "exact_match": exact_match, "harness": harness, "rates": rates(folder, manifest)}


def rates(folder: Path, manifest: dict) -> dict[str, float]:
    """Floating-point operations (thousand millions, as ragft counts them) per second of CPU, of training and of the accuracy pass."""
    with (folder / "journal.jsonl").open() as lines:
        answered = sum(row["flops"] for row in map(json.loads, lines) if row["phase"] == "accuracy" and not row.get("error"))
    cpu = {phase["name"]: phase["cpu_seconds"] for phase in manifest["phases"]}
    trained = [(record["flops"], record["cpu_seconds"]) for record in manifest["training"]]
    return {
        "train": sum(flops for flops, _ in trained) / sum(seconds for _, seconds in trained) / 1e9,
        "accuracy": answered / cpu["accuracy"] / 1e9,
    }


def harness_seconds(folder: Path, wall: float, manifest: dict) -> dict[str, float]:
    """What neither model nor embedder took, as far as the run folder tells.

    `outside` is everything outside of the phases: start, plan, tables, figures, report. `training` and `accuracy` are what those phases took
    beside optimizer steps and generation: search, prompts, adapter files, scores, rows. `latency` is what a timed query takes beside
    embedding, search, prefill and decoding (mostly its prompt), times the queries of that phase.
    """
    phases = {phase["name"]: phase for phase in manifest["phases"]}
    with (folder / "journal.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    timed_rows = [row for row in rows if row["phase"] == "latency" and not row.get("error")]
    overheads = [row["e2e_ns"] - sum(row["stage_ns"][stage] for stage in ("embed", "search", "prefill", "decode")) for row in timed_rows]
    return {
        "outside": wall - sum(phase["seconds"] for phase in phases.values()),
        "training": phases.get("train", {}).get("overhead_seconds", 0.0),
        "accuracy": phases["accuracy"]["overhead_seconds"],
        "latency": sum(overheads) / 1e9,
    }


def run_twin(python: Path, threads: int, folder: Path) -> dict:
    """The twin into `folder`, as above."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    figures = timed([str(python), str(HERE / "run.py"), "--threads", str(threads), "-o", str(folder)], environment)
    result = json.loads((folder / "result.json").read_text())
    phases = dict(result["phases"])
    phases["outside"] = figures["wall"] - sum(phases.values())
    exact_match = {variant: 100 * value for variant, value in result["exact_match"].items()}
    return figures | {"phases": phases, "training": result["training"], "exact_match": exact_match}


def one_round(number: int, options: argparse.Namespace, scratch: Path) -> dict:
    """Both contenders once; the one that begins changes from round to round."""
    runs = {"ours": lambda folder: run_ours(options.ragft, options.threads, folder)}
    runs["twin"] = lambda folder: run_twin(options.python, options.threads, folder)
    order = ["ours", "twin"] if number % 2 == 0 else ["twin", "ours"]
    return {"threads": options.threads, "order": order} | {name: runs[name](scratch / f"{number}-{name}") for name in order}


def median_and_range(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def summary(rounds: list[dict]) -> str:
    """The ratio table of all rounds, medians with the smallest and the largest."""
    column = lambda name, key: [entry[name][key] for entry in rounds]
    ratio = [twin / ours for twin, ours in zip(column("twin", "wall"), column("ours", "wall"))]
    memory = [twin / ours for twin, ours in zip(column("twin", "peak_mib"), column("ours", "peak_mib"))]
    lines = [f"{len(rounds)} rounds, {rounds[0]['threads']} threads each; median (smallest to largest); a ratio above 1 says that ragft needs less", ""]
    lines += ["| whole run | ragft | twin | twin / ragft |", "|---|---|---|---|"]
    for label, key, ratios, digits in [("wall, s", "wall", ratio, 1), ("peak memory, MiB", "peak_mib", memory, 0)]:
        cells = [median_and_range(column(name, key), digits) for name in ("ours", "twin")]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {median_and_range(ratios)} |")
    for label, key in [("CPU, s", "cpu"), ("CPU of other processes meanwhile, s", "others")]:
        cells = [median_and_range(column(name, key), 1) for name in ("ours", "twin")]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | |")
    lines.append("")

    lines += ["| phase, s (median) | ragft | twin |", "|---|---|---|"]
    phases = {name: list(dict.fromkeys(phase for entry in rounds for phase in entry[name]["phases"])) for name in ("ours", "twin")}
    for phase in dict.fromkeys(phases["twin"] + phases["ours"]):
        cells = []
        for name in ("ours", "twin"):
            values = [entry[name]["phases"][phase] for entry in rounds if phase in entry[name]["phases"]]
            cells.append(f"{statistics.median(values):.2f}" if values else "")
        lines.append(f"| {phase} | {cells[0]} | {cells[1]} |")

    lines += ["", "| exact match, % (median) | ragft | twin |", "|---|---|---|"]
    for variant in rounds[0]["ours"]["exact_match"]:
        cells = [f"{statistics.median(entry[name]['exact_match'][variant] for entry in rounds):.1f}" for name in ("ours", "twin")]
        lines.append(f"| {variant} | {cells[0]} | {cells[1]} |")

    lines += ["", "| training | ragft: steps, tokens, s | twin: steps, tokens, s |", "|---|---|---|"]
    for adapter in rounds[0]["ours"]["training"]:
        cells = []
        for name in ("ours", "twin"):
            records = [entry[name]["training"][adapter] for entry in rounds]
            seconds = statistics.median(record["seconds"] for record in records)
            cells.append(f"{records[0]['steps']}, {records[0]['tokens']}, {seconds:.1f}")
        lines.append(f"| {adapter} | {cells[0]} | {cells[1]} |")

    shares = [100 * sum(entry["ours"]["harness"].values()) / entry["ours"]["wall"] for entry in rounds]
    parts = {part: statistics.median(entry["ours"]["harness"][part] for entry in rounds) for part in rounds[0]["ours"]["harness"]}
    lines += ["", f"ragft's own work beside model and embedder: {median_and_range(shares)} % of its run"]
    lines.append("(" + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts.items()) + ")")
    told = (f"{part} {median_and_range([entry['ours']['rates'][part] for entry in rounds], 0)}" for part in rounds[0]["ours"]["rates"])
    lines += ["", "Gflop per second and core in ragft's run: " + ", ".join(told) + "; what a core can is in `cargo bench -p ragft-benches --bench kernels`"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ragft", type=Path, default=ROOT / "target/release/ragft", help="the program (built with --release)")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="a Python with requirements.txt installed")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to add; 0 only summarises")
    parser.add_argument("--log", type=Path, help="JSON lines of rounds, appended to (default: a new one that is thrown away)")
    parser.add_argument("--keep", type=Path, help="folder to leave the run folders in")
    options = parser.parse_args()
    if options.rounds and not options.ragft.is_file():
        sys.exit(f"`{options.ragft}` is not there: build it with `cargo build --release`, or name it with `--ragft`")

    rounds = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log and options.log.is_file() else []
    scratch = options.keep or Path(tempfile.mkdtemp(prefix="ragft-twin-"))
    try:
        for number in range(len(rounds), len(rounds) + options.rounds):
            rounds.append(one_round(number, options, scratch))
            told = "{name} {wall:.1f} s (others used {others:.1f} s of CPU)"
            walls = ", ".join(told.format(name=name, **rounds[-1][name]) for name in rounds[-1]["order"])
            print(f"round {number + 1}: {walls}", file=sys.stderr)
            if options.log:
                with options.log.open("a") as log:
                    log.write(json.dumps(rounds[-1]) + "\n")
    finally:
        if not options.keep:
            shutil.rmtree(scratch)
    print(summary(rounds) if rounds else "no rounds")


if __name__ == "__main__":
    main()
