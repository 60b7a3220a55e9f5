"""The Python environment of the contenders, our own contender, and the files that all of them read."""

import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import contest
import works

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# llama.cpp is compiled for the machine it runs on, without the parts that are not used.
BUILD_FLAGS = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}


@dataclass
class Setup:
    """Where everything is, and how it is run."""

    python: Path
    ours: Path
    data: Path
    logs: Path
    threads: int
    rounds: int
    quick: bool
    contenders: list
    # What could not be made, and why.
    problems: dict = field(default_factory=dict)


def say(text):
    print(text, file=sys.stderr, flush=True)


def target_folder():
    """Cargo's own, wherever the user has put it."""
    output = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return Path(json.loads(output)["target_directory"])


def build_ours(target, profile):
    say(f"building our contender ({profile})")
    subprocess.run(
        ["cargo", "build", "--profile", profile, "--package", "ragft-benches", "--bin", "contender"], cwd=ROOT, check=True, stdout=sys.stderr
    )
    return target / ("debug" if profile == "dev" else profile) / "contender"


def make_venv(folder):
    """Installs what `requirements.txt` names. A package that cannot be had is said and left out: the contenders that need it say so again."""
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"making a Python environment in {folder}")
        venv.create(folder, with_pip=True)
    text = (HERE / "requirements.txt").read_text(encoding="utf-8")
    stamp, digest = folder / "peers-requirements.sha256", hashlib.sha256(text.encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return python
    failed = [requirement for requirement in text.split() if not install(python, requirement)]
    if not failed:
        stamp.write_text(digest, encoding="utf-8")
    return python


def install(python, requirement):
    say(f"installing {requirement}")
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", requirement]
    result = subprocess.run(command, env=os.environ | BUILD_FLAGS, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        say(f"{requirement} cannot be installed: contenders that need it are not measured")
    return result.returncode == 0


def data_folder(folder):
    """A folder of its own for every version of the script that fills it."""
    digest = hashlib.sha256((HERE / "make_models.py").read_bytes()).hexdigest()
    return folder.resolve() / digest[:12]


def make_inputs(chosen, setup):
    """Models, texts, graphs, vectors and adapters; what fails is noted in `setup.problems`."""
    setup.data.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(thing for work in chosen for thing in work.needs)
    documents = ROOT / "datasets" / "factworld" / "documents.jsonl"
    for thing in wanted:
        if thing.endswith(".adapter"):
            make_adapter(thing, setup)
            continue
        command = [setup.python, HERE / "make_models.py", setup.data, documents, thing]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines()
            setup.problems[thing] = lines[-1] if lines else f"exit code {result.returncode}"
            say(f"{thing} could not be made: {setup.problems[thing]}")


def make_adapter(thing, setup):
    """Our engine writes the adapter that everyone starts from."""
    model = thing.removesuffix(".adapter")
    work = next(work for work in works.WORKS if thing in work.needs)
    command = {"work": "adapter", "folder": str(setup.data / thing), **works.ADAPTER}
    try:
        contest.ask_once(work, works.OURS, setup, command)
    except contest.NotMeasured as problem:
        setup.problems[thing] = str(problem)
        say(f"the adapter of {model} could not be made: {problem}")


def machine(setup):
    """What the figures depend on besides the code."""
    script = (
        "import importlib.metadata as m, json, sys; "
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:] if any(d.name == n for d in m.distributions())}))"
    )
    packages = ["torch", "transformers", "peft", "sentence-transformers", "onnxruntime", "hnswlib", "llama_cpp_python"]
    versions = json.loads(subprocess.run([setup.python, "-c", script, *packages], check=True, capture_output=True, text=True).stdout)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()
    return {"cpu": cpu(), "cores": os.cpu_count(), "commit": commit, "versions": versions}


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    # Hypervisors hide the name; family and model still tell the generation.
    found = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    best = next((name for name in ("avx512_bf16", "avx512f", "avx2") if name in found.get("flags", "").split()), "")
    name = found.get("model name", "unknown processor")
    return f"{name} (family {found.get('cpu family', '?')}, model {found.get('model', '?')}{', ' + best if best else ''})"
