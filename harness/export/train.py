"""Trains a LoRA adapter on the set in this folder, with the settings of the plan that wrote it. Needs torch, transformers, peft, accelerate.

    python train.py [--base MODEL] [--output adapter] [--max-steps N]        # on one process
    accelerate launch train.py ...                                          # on many

The rows are the very tokens that `ragft` trains on, with the loss on the answer alone (`*.tokens.jsonl`), so the adapter answers the prompts
that `ragft` puts. `train_trl.py` does the same with TRL's `SFTTrainer`.
"""

import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

HERE = Path(__file__).resolve().parent


class Rows(torch.utils.data.Dataset):
    def __init__(self, path):
        lines = path.read_text().splitlines() if path.is_file() else []
        self.rows = [json.loads(line) for line in lines]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows):
    """Right-padded; padding is neither seen nor counted in the loss."""
    width = max(len(row["input_ids"]) for row in rows)
    padded = lambda values, filler: values + [filler] * (width - len(values))
    return {
        "input_ids": torch.tensor([padded(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
        "labels": torch.tensor([padded(row["labels"], -100) for row in rows]),
    }


def command_line(settings, description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=settings["base_model"], help="Hugging Face folder or name of the base model")
    parser.add_argument("--output", default=str(HERE / "adapter"))
    parser.add_argument("--max-steps", type=int, default=settings["max_steps"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    return parser.parse_args()


def base_model(settings, args):
    """The base and where it comes from: a folder beside this script, any other one, or a name on the hub with its revision."""
    base = HERE / args.base if (HERE / args.base).is_dir() else args.base
    place = dict(pretrained_model_name_or_path=base, revision=settings["revision"] or "main")
    return AutoModelForCausalLM.from_pretrained(**place, dtype=getattr(torch, args.dtype)), place


def training_arguments(settings, args, train, validation):
    """The settings of the plan as keywords of `TrainingArguments`."""
    steps = -(-len(train) // (settings["micro_batch"] * settings["grad_accum_steps"])) * settings["epochs"]
    steps = min(steps, args.max_steps) if args.max_steps else steps
    return dict(
        output_dir=str(HERE / "checkpoints"),
        seed=settings["seed"],
        num_train_epochs=settings["epochs"],
        max_steps=args.max_steps or -1,
        learning_rate=settings["learning_rate"],
        lr_scheduler_type=settings["schedule"],
        warmup_steps=int(settings["warmup_ratio"] * steps),
        weight_decay=settings["weight_decay"],
        max_grad_norm=settings["max_grad_norm"],
        per_device_train_batch_size=settings["micro_batch"],
        per_device_eval_batch_size=settings["micro_batch"],
        gradient_accumulation_steps=settings["grad_accum_steps"],
        gradient_checkpointing=settings["gradient_checkpointing"],
        bf16=args.dtype == "bfloat16",
        eval_strategy="epoch" if len(validation) else "no",
        save_strategy="no",
        logging_steps=10,
        report_to=[],
    )


def main():
    settings = json.loads((HERE / "settings.json").read_text())
    args = command_line(settings, __doc__)
    model = get_peft_model(base_model(settings, args)[0], LoraConfig(**settings["lora"]))
    model.print_trainable_parameters()
    train, validation = Rows(HERE / "train.tokens.jsonl"), Rows(HERE / "validation.tokens.jsonl")
    arguments = TrainingArguments(
        **training_arguments(settings, args, train, validation), remove_unused_columns=False, label_names=["labels"]
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=validation if len(validation) else None, data_collator=collate)
    trainer.train()
    model.save_pretrained(args.output)
    print(f"adapter in {args.output}")


if __name__ == "__main__":
    main()
