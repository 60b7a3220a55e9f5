"""LoRA fine-tuning with PEFT: the loop of `ragft run`, step for step."""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

# Rows are sorted by length within windows of this many optimizer steps.
SORTED_STEPS = 8


@dataclass(frozen=True)
class Row:
    tokens: list[int]
    prompt: int


class Batch:
    """Right-padded rows; with a causal mask nothing real sees the padding, so no mask is passed. Only answers count in the loss."""

    def __init__(self, rows: list[Row]):
        width = max(len(row.tokens) for row in rows) - 1
        self.tokens = torch.zeros((len(rows), width), dtype=torch.long)
        positions, targets = [], []
        for index, row in enumerate(rows):
            self.tokens[index, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
            positions += range(index * width + row.prompt - 1, index * width + len(row.tokens) - 1)
            targets += row.tokens[row.prompt :]
        self.positions, self.targets = torch.tensor(positions), torch.tensor(targets)
        self.real_tokens = sum(len(row.tokens) for row in rows)


def rows(prompts: list[list[int]], answers: list[list[int]], max_length: int) -> list[Row]:
    """Prompt and answer cut to `max_length`; prompts without room for an answer are left out."""
    fitting = [(prompt, answer) for prompt, answer in zip(prompts, answers) if len(prompt) < max_length]
    return [Row((prompt + answer)[:max_length], len(prompt)) for prompt, answer in fitting]


def epoch_batches(data: list[Row], size: int, accumulate: int, rng: np.random.Generator) -> list[list[Row]]:
    """One pass: shuffled, sorted by length within windows, cut into micro-batches, the micro-batches shuffled."""
    order = rng.permutation(len(data))
    window = size * accumulate * SORTED_STEPS
    batches = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda index: len(data[index].tokens))
        batches += [[data[index] for index in by_length[at : at + size]] for at in range(0, len(by_length), size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def train(base, data: list[Row], validation: list[Row], settings: dict, seed: int, folder: Path):
    """The base with the trained adapter merged in, one log row per optimizer step, and the seconds of the steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(copy.deepcopy(base), config)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=settings["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=settings["weight_decay"], fused=True
    )
    size, accumulate = settings["micro_batch"], settings["grad_accum_steps"]
    per_epoch = math.ceil(math.ceil(len(data) / size) / accumulate)
    steps = math.ceil(settings["epochs"] * per_epoch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate_factor(steps, settings))
    by_length = sorted(validation, key=lambda row: len(row.tokens))
    held_out = [Batch(by_length[at : at + size]) for at in range(0, len(by_length), size)]

    log, batches, start = [], [], perf_counter()
    model.train()
    for step in range(steps):
        step_start = perf_counter()
        if not batches:
            batches = epoch_batches(data, size, accumulate, rng)
        group = [Batch(batch) for batch in batches[:accumulate]]
        batches = batches[accumulate:]
        counted = sum(len(batch.targets) for batch in group)
        loss_sum = 0.0
        for batch in group:
            loss = _loss(model, batch) / counted
            loss.backward()
            loss_sum += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(trainable, settings["max_grad_norm"]) if settings["max_grad_norm"] else None
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = perf_counter() - step_start
        row = {"adapter": folder.name, "step": step + 1, "train_loss": loss_sum, "learning_rate": rate, "grad_norm": float(norm or 0)}
        row |= {"tokens": sum(batch.real_tokens for batch in group), "seconds": seconds, "eval_loss": None}
        if held_out and ((step + 1) % per_epoch == 0 or step + 1 == steps):
            row["eval_loss"] = _evaluate(model, held_out)
        log.append(row)
        every = settings["checkpoint_steps"]
        if every and (step + 1) % every == 0 and step + 1 < steps:
            _checkpoint(model, optimizer, schedule, folder)
    seconds = perf_counter() - start
    model.save_pretrained(folder)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    (folder / "training.json").write_text(json.dumps(log))
    return model.merge_and_unload().eval(), log, seconds


def _rate_factor(steps: int, settings: dict):
    """Factor on the peak rate by optimizer step, from 0; the first step of the warm-up is not at rate zero."""
    warmup = math.ceil(settings["warmup_ratio"] * steps)
    rest = max(steps - warmup, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / rest, 1.0)
        match settings["schedule"]:
            case "linear":
                return 1 - progress
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * progress))
            case _:
                return 1.0

    return factor


def _loss(model, batch: Batch) -> torch.Tensor:
    """Summed cross-entropy of the answers. Only their positions are put through the vocabulary head."""
    decoder = model.get_base_model()
    hidden = decoder.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
    logits = decoder.lm_head(hidden.flatten(0, 1)[batch.positions])
    return functional.cross_entropy(logits, batch.targets, reduction="sum")


def _evaluate(model, batches: list[Batch]) -> float:
    model.eval()
    with torch.inference_mode():
        loss = sum(_loss(model, batch).item() for batch in batches)
    model.train()
    return loss / sum(len(batch.targets) for batch in batches)


def _checkpoint(model, optimizer, schedule, folder: Path) -> None:
    """What a resumed training would need."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    torch.save({"weights": weights, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, folder / "checkpoint.pt")
