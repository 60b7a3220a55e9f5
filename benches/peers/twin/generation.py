"""Greedy answers over left-padded batches, one loop over the model's forward pass.

`model.generate` gives the same tokens and takes about a tenth longer: the loop makes no mask where it needs none, and rows that have ended
leave the batch.
"""

from dataclasses import dataclass
from time import perf_counter

import torch
from tokenizers import Tokenizer
from transformers import DynamicCache


@dataclass(frozen=True)
class Generation:
    text: str
    tokens: int
    finish: str
    prefill: float
    decode: float


class Generator:
    """What ends an answer: an end-of-sequence token, or a token whose text holds a stop string."""

    def __init__(self, tokenizer: Tokenizer, eos: int, stop: list[str], max_new_tokens: int):
        self.tokenizer, self.stop, self.max_new_tokens = tokenizer, stop, max_new_tokens
        texts = tokenizer.decode_batch([[id] for id in range(tokenizer.get_vocab_size())], skip_special_tokens=False)
        self.eos = eos
        self.stop_ids = torch.tensor([id for id, text in enumerate(texts) if id == eos or any(mark in text for mark in stop)])

    @torch.inference_mode()
    def generate(self, model, prompts: list[list[int]], forced: int | None = None) -> list[Generation]:
        """One generation per prompt; with `forced`, exactly that many tokens are computed whatever they are."""
        start = perf_counter()
        limit = forced or self.max_new_tokens
        width, count = max(map(len, prompts)), len(prompts)
        padding = torch.tensor([width - len(prompt) for prompt in prompts])
        tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        columns = torch.arange(width + limit)
        positions = (columns - padding[:, None]).clamp(min=0)
        # [B, S]: which columns hold the row's own tokens. Without padding no mask is needed, and attention knows that it is causal.
        own = columns >= padding[:, None] if padding.any() else None
        cache = DynamicCache(config=model.config)

        mask = None
        if own is not None:
            mask = (columns[:width] <= columns[:width, None]) & own[:, None, None, :width]
            # A row of padding sees itself: attention to nothing would not be a number.
            mask |= torch.eye(width, dtype=torch.bool)
        last = _forward(model, tokens, positions[:, :width], mask, cache).argmax(-1)
        out = torch.zeros((count, limit), dtype=torch.long)
        out[:, 0] = last
        lengths, held = torch.full((count,), limit), torch.arange(count)
        done = torch.isin(last, self.stop_ids)
        prefill = perf_counter() - start

        start = perf_counter()
        for step in range(1, limit):
            if forced is None:
                lengths[held[done]] = lengths[held[done]].clamp(max=step)
                live = int((~done).sum())
                if live == 0:
                    break
                if live * 2 <= len(held):
                    keep = torch.nonzero(~done).squeeze(1)
                    cache.batch_select_indices(keep)
                    held, last, positions, done = held[keep], last[keep], positions[keep], done[keep]
                    own = own[keep] if own is not None else None
            column = width + step - 1
            mask = own[:, None, None, : column + 1] if own is not None else None
            last = _forward(model, last[:, None], positions[:, column : column + 1], mask, cache).argmax(-1)
            out[held, step] = last
            done |= torch.isin(last, self.stop_ids)
        decode = perf_counter() - start
        return [self._finish(row[:length], prefill, decode) for row, length in zip(out.tolist(), lengths.tolist())]

    def _finish(self, ids: list[int], prefill: float, decode: float) -> Generation:
        end = ids.index(self.eos) if self.eos in ids else None
        text = self.tokenizer.decode(ids[:end])
        stops = [at for at in (text.find(mark) for mark in self.stop) if at >= 0]
        finish = "stop" if end is not None or stops else "length"
        return Generation(text[: min(stops, default=None)].strip(), len(ids), finish, prefill, decode)


def _forward(model, tokens, positions, mask, cache) -> torch.Tensor:
    """Logits `[B, V]` of the last position."""
    return model(
        input_ids=tokens,
        position_ids=positions,
        attention_mask={"full_attention": mask},
        cache=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
