"""The lines between `run.py` and a contender: one JSON command in, one JSON answer out.

A contender process does one kind of work, so that its peak memory is that of this work. It stays alive between rounds: what is loaded once is
never timed.
"""

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor


def peak_rss_bytes():
    """Highest resident memory of this process so far, or None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def read_tokens(path, offset, count, length):
    """`count` rows of `length` token ids from `offset` on; after the last token of the file comes the first again."""
    import numpy as np

    tokens = np.fromfile(path, dtype="<u4")
    index = (offset + np.arange(count * length)) % len(tokens)
    return tokens[index].reshape(count, length).astype(np.int64)


def in_child(function, *arguments):
    """Calls a function in a process of its own, so that what it tries out leaves no trace in this one's memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def serve(works):
    """Answers commands until the input ends. `works` maps a kind of work to a class: made once from (settings, first command), called with
    every command."""
    # Libraries may print; only answers may go to the other end.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = arguments()

    def answer(value):
        output.write(json.dumps(value) + "\n")
        output.flush()

    contender = kind = None
    for line in sys.stdin:
        command = json.loads(line)
        work = command.pop("work")
        try:
            if contender is None:
                contender, kind = works[work](settings, command), work
            if work != kind:
                raise ValueError("a process does one kind of work, so that its peak memory is that of this work")
            answer(contender(command) | {"peak_rss_bytes": peak_rss_bytes()})
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must say so
            import traceback

            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})
            return


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", required=True, help="folder or file of the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="f32")
    return parser.parse_args()
