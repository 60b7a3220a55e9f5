"""llama.cpp, by the C interface that llama-cpp-python binds: greedy generation of several sequences in one batch.

Flash attention, the type of the KV cache and whether sequences share one buffer are the combination that is fastest here.
"""

import ctypes
from itertools import product
from time import perf_counter

import llama_cpp
import numpy as np
import protocol

# Tokens of one call; llama.cpp itself cuts a call into pieces of UBATCH.
BATCH, UBATCH = 2048, 512
KV_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "f32": llama_cpp.GGML_TYPE_F32}


def load(settings):
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(settings.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {settings.model}")
    return model


class Engine:
    """A context for `sequences` sequences of up to `length` positions each."""

    def __init__(self, model, settings, sequences, length, flash, kv_type, unified):
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        params = llama_cpp.llama_context_default_params()
        # Room for every sequence, rounded up as llama.cpp pads it.
        params.n_ctx = sequences * (-(-length // 256) * 256)
        params.n_batch, params.n_ubatch, params.n_seq_max = BATCH, UBATCH, sequences
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = int(flash)
        params.type_k = params.type_v = KV_TYPES[kv_type]
        params.kv_unified = unified
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context with these settings")
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def generate(self, prompts, new):
        """Seconds of the prefill with the first token, seconds of the later tokens, and the tokens, a list per sequence."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        answers = [[] for _ in prompts]
        start = perf_counter()
        self.prefill(prompts, answers)
        filled, length = perf_counter(), prompts.shape[1]
        for step in range(new - 1):
            for row, answer in enumerate(answers):
                self.put(row, answer[-1], length + step, row, True)
            self.decode(len(answers))
            for row, answer in enumerate(answers):
                answer.append(self.best(row))
        return filled - start, perf_counter() - filled, answers

    def prefill(self, prompts, answers):
        """Whole prompts, as many as fit into a call; logits of their last tokens only."""
        length = prompts.shape[1]
        per_call = max(1, BATCH // length)
        for first in range(0, len(prompts), per_call):
            rows = range(first, min(first + per_call, len(prompts)))
            for slot, (row, column) in enumerate(product(rows, range(length))):
                self.put(slot, int(prompts[row, column]), column, row, column == length - 1)
            self.decode(len(rows) * length)
            for place, row in enumerate(rows):
                answers[row].append(self.best((place + 1) * length - 1))

    def put(self, slot, token, position, sequence, logits):
        batch = self.batch
        batch.token[slot] = token
        batch.pos[slot] = position
        batch.n_seq_id[slot] = 1
        batch.seq_id[slot][0] = sequence
        batch.logits[slot] = logits

    def decode(self, count):
        self.batch.n_tokens = count
        status = llama_cpp.llama_decode(self.context, self.batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gave {status}")

    def best(self, slot):
        logits = llama_cpp.llama_get_logits_ith(self.context, slot)
        return int(np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.vocab,)).argmax())


def prompts_of(command):
    return protocol.read_tokens(command["tokens"], command["offset"], command["batch"], command["prompt"])


def engine(model, settings, command, choice):
    return Engine(model, settings, command["batch"], command["prompt"] + command["new"], *choice)


def fastest_choice(settings, command):
    """Of flash attention, cache type and buffers, by the better of two short runs."""
    model, seconds = load(settings), {}
    new = min(command["new"], 8)
    unified = (True, False) if command["batch"] > 1 else (True,)
    for choice in product((True, False), KV_TYPES, unified):
        contender = engine(model, settings, command, choice)
        runs = [contender.generate(prompts_of(command), new) for _ in range(2)]
        # With one token a command, the prefill is all there is.
        seconds[choice] = min(run[1] if new > 1 else run[0] for run in runs)
        contender.close()
    return min(seconds, key=seconds.get)


class Generation:
    def __init__(self, settings, command):
        self.choice = protocol.in_child(fastest_choice, settings, command)
        self.engine = engine(load(settings), settings, command, self.choice)

    def __call__(self, command):
        prompts = prompts_of(command)
        prefill, decode, answers = self.engine.generate(prompts, command["new"])
        flash, kv_type, unified = self.choice
        return {
            "prefill_seconds": prefill,
            "decode_seconds": decode,
            "prefill_tokens": prompts.size,
            "decode_tokens": len(prompts) * (command["new"] - 1),
            "ids": answers,
            "choice": f"flash attention {'on' if flash else 'off'}, {kv_type} cache, {'one buffer' if unified else 'a buffer per sequence'}",
        }


if __name__ == "__main__":
    protocol.serve({"generate": Generation})
