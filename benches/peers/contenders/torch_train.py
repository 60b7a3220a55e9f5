"""PyTorch, with PEFT for LoRA: optimizer steps in float32.

Fused AdamW, gradients set to None, and the attention implementation that is faster for this shape.
"""

from time import perf_counter

import protocol
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM


def load(settings, command, attention):
    torch.set_num_threads(settings.threads)
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32, attn_implementation=attention)
    model.config.use_cache = False
    if command["method"] == "lora":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, command["adapter"], is_trainable=True)
    return model.train()


def rows(command, step):
    """Inputs and targets: a row of L positions takes L + 1 tokens, the last being a target only."""
    batch, width = command["batch"], command["length"] + 1
    tokens = torch.from_numpy(protocol.read_tokens(command["tokens"], step * batch * width, batch, width))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)


def loss_of(model, inputs, targets):
    logits = model(input_ids=inputs, use_cache=False).logits
    return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets)


def fastest_attention(settings, command):
    """By the best of two passes after a first."""
    model, seconds = load(settings, command, "sdpa"), {}
    for attention in ("sdpa", "eager"):
        (model.base_model.model if command["method"] == "lora" else model).set_attn_implementation(attention)
        seconds[attention] = min([pass_seconds(model, *rows(command, step)) for step in range(3)][1:])
    return min(seconds, key=seconds.get)


def pass_seconds(model, inputs, targets):
    start = perf_counter()
    loss_of(model, inputs, targets).backward()
    seconds = perf_counter() - start
    model.zero_grad(set_to_none=True)
    return seconds


class Training:
    def __init__(self, settings, command):
        self.choice = protocol.in_child(fastest_attention, settings, command)
        self.model = load(settings, command, self.choice)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=command["learning_rate"], weight_decay=command["weight_decay"], fused=True
        )
        self.step = 0

    def __call__(self, command):
        seconds, losses = [], []
        for _ in range(command["steps"]):
            start = perf_counter()
            losses.append(self.train_step(command))
            seconds.append(perf_counter() - start)
        tokens = command["batch"] * command["length"] * command["steps"]
        return {"step_seconds": seconds, "losses": losses, "tokens": tokens, "choice": self.choice}

    def train_step(self, command):
        inputs, targets = rows(command, self.step)
        self.step += 1
        loss = loss_of(self.model, inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, command["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


if __name__ == "__main__":
    protocol.serve({"train": Training})
