"""transformers: greedy generation with a KV cache, by a loop without the overhead of `generate()`.

Attention and cache are the combination that decodes fastest here; logits are computed for the last position only.
"""

from itertools import product
from time import perf_counter

import protocol
import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def load(settings, attention):
    if settings.dtype not in DTYPES:
        raise ValueError(f"no {settings.dtype} weights in transformers on a CPU")
    torch.set_num_threads(settings.threads)
    return AutoModelForCausalLM.from_pretrained(settings.model, dtype=DTYPES[settings.dtype], attn_implementation=attention).eval()


def new_cache(model, kind, length):
    if kind == "static":
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


@torch.inference_mode()
def generate(model, kind, prompts, new):
    """Seconds of the prefill with the first token, seconds of the later tokens, and the tokens `[B, new]`."""
    length = prompts.shape[1]
    start = perf_counter()
    cache = new_cache(model, kind, length + new)
    token = next_token(model, prompts, cache)
    tokens, filled = [token], perf_counter()
    for _ in range(1, new):
        token = next_token(model, token, cache)
        tokens.append(token)
    return filled - start, perf_counter() - filled, torch.cat(tokens, dim=1)


def next_token(model, tokens, cache):
    logits = model(input_ids=tokens, cache=cache, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1].argmax(dim=-1, keepdim=True)


def prompts_of(command):
    return torch.from_numpy(protocol.read_tokens(command["tokens"], command["offset"], command["batch"], command["prompt"]))


def fastest_choice(settings, command):
    """Of attention and cache, by the better of two short runs."""
    model, seconds = load(settings, "sdpa"), {}
    new = min(command["new"], 8)
    for attention, kind in product(("sdpa", "eager"), ("dynamic", "static")):
        model.set_attn_implementation(attention)
        runs = [generate(model, kind, prompts_of(command), new) for _ in range(2)]
        # With one token a command, the prefill is all there is.
        seconds[attention, kind] = min(run[1] if new > 1 else run[0] for run in runs)
    return min(seconds, key=seconds.get)


class Generation:
    def __init__(self, settings, command):
        self.attention, self.cache = protocol.in_child(fastest_choice, settings, command)
        self.model = load(settings, self.attention)

    def __call__(self, command):
        prompts = prompts_of(command)
        prefill, decode, tokens = generate(self.model, self.cache, prompts, command["new"])
        return {
            "prefill_seconds": prefill,
            "decode_seconds": decode,
            "prefill_tokens": prompts.numel(),
            "decode_tokens": len(prompts) * (command["new"] - 1),
            "ids": tokens.tolist(),
            "choice": f"{self.attention}, {self.cache} cache",
        }


class Logits:
    def __init__(self, settings, _command):
        self.model = load(settings, "sdpa")

    @torch.inference_mode()
    def __call__(self, command):
        prompts = prompts_of(command | {"batch": 1})
        return {"logits": self.model(input_ids=prompts, logits_to_keep=1).logits[0, -1].float().tolist()}


if __name__ == "__main__":
    protocol.serve({"generate": Generation, "logits": Logits})
