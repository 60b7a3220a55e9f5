"""Contenders as processes, and rounds in which each gets the same command, in an order that changes."""

import json
import os
import random
import subprocess

import works

SEED = 20
# Prompts of a round begin this far after those of the round before.
ROUND_TOKENS = 4_001
# One prompt, elsewhere in the token file than those of the rounds.
LOGITS = {"work": "logits", "offset": 250_000, "prompt": 128}


class NotMeasured(Exception):
    """Why a contender gave no figures."""


class Contender:
    """A process that answers commands."""

    def __init__(self, work, name, setup, suffix=""):
        self.log = setup.logs / f"{work.name}-{name}{suffix}.log"
        threads = str(setup.threads)
        # One setting rules all pools that these libraries may start; a build with an idle pool of another size would be measured otherwise.
        pools = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_NUM_THREADS")
        quiet = {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        environment = os.environ | {name: threads for name in pools} | quiet
        try:
            self.process = subprocess.Popen(
                [str(part) for part in works.command_line(work, name, setup)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log.open("w", encoding="utf-8"),
                env=environment,
                text=True,
            )
        except OSError as error:
            raise NotMeasured(f"cannot be started: {error}") from error

    def ask(self, command):
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise NotMeasured(f"ended without an answer: {self.last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NotMeasured(answer["error"])
        return answer

    def last_words(self):
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.process.wait()}"

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ask_once(work, name, setup, command):
    """One answer from a process of its own."""
    contender = Contender(work, name, setup, f"-{command['work']}")
    try:
        return contender.ask(command)
    finally:
        contender.end()


def run(work, setup, report):
    """All rounds of a work. Gives the record that `table.py` reads: answers by contender and round (round 0 is the warm-up), and why a
    contender has none."""
    files = {key: str(path) for key, path in works.inputs(work, setup.data).items()}
    command = work.command | files | (work.quick if setup.quick else {})
    record = {"work": work.name, "answers": {}, "missing": {}, "orders": []}
    contenders = start(work, setup, record)
    shuffle = random.Random(f"{SEED} {work.name}")
    try:
        for number in range(setup.rounds * work.repeats + 1):
            # The same for all in a round, other ones in the next, so that nothing can be remembered.
            places = {"offset": ROUND_TOKENS * number} if command["work"] == "generate" else {}
            order = list(contenders)
            shuffle.shuffle(order)
            record["orders"].append(order)
            for name in order:
                extra = work.warm_up if number == 0 else {}
                if answer := asked(contenders, name, command | places | extra, record):
                    record["answers"].setdefault(name, []).append(answer)
                    report(number, name, answer)
    finally:
        for contender in contenders.values():
            contender.end()
    if work.logits:
        record["logits"] = logits(work, setup, list(contenders), {**files, **LOGITS})
    return record


def logits(work, setup, names, command):
    """After one prompt, from those who give them (from new processes, since it is another work), or why there are none."""
    found = {}
    for name in (name for name in names if name in work.logits):
        try:
            found[name] = ask_once(work, name, setup, command)["logits"]
        except NotMeasured as problem:
            found[name] = str(problem)
    return found


def start(work, setup, record):
    contenders = {}
    for name in work.contenders:
        if setup.contenders and name not in setup.contenders:
            record["missing"][name] = "left out by `--contenders`"
            continue
        if lacking := [thing for thing in works.needed(work, name) if thing in setup.problems]:
            record["missing"][name] = f"`{lacking[0]}` could not be made: {setup.problems[lacking[0]]}"
            continue
        try:
            contenders[name] = Contender(work, name, setup)
        except NotMeasured as problem:
            record["missing"][name] = str(problem)
    return contenders


def asked(contenders, name, command, record):
    """The answer, or nothing from a contender that fails: it is out of this work, and the table says why."""
    try:
        return contenders[name].ask(command)
    except NotMeasured as problem:
        record["missing"][name] = str(problem)
        record["answers"].pop(name, None)
        contenders.pop(name).end()
        return None
