"""Trains a LoRA adapter on the set in this folder with TRL's `SFTTrainer`, as `train.py` does with transformers' own trainer. Needs trl besides.

    python train_trl.py [--base MODEL] [--output adapter] [--max-steps N]    # on one process
    accelerate launch train_trl.py ...                                      # on many

The loss is on the answer alone: rows are tokens already, with the positions that count in `labels`, and for versions of TRL that do not take
those in `completion_mask`. So no template and no tokenizer stands between what is trained here and what `ragft` asks. To let TRL tokenize
instead, give it `*.messages.jsonl` or `*.prompt_completion.jsonl`.
"""

import json

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from train import HERE, Rows, base_model, command_line, training_arguments


def dataset(rows):
    columns = {
        "input_ids": [row["input_ids"] for row in rows.rows],
        "labels": [row["labels"] for row in rows.rows],
        "completion_mask": [[int(label != -100) for label in row["labels"]] for row in rows.rows],
    }
    return Dataset.from_dict(columns)


def main():
    settings = json.loads((HERE / "settings.json").read_text())
    args = command_line(settings, __doc__)
    model, place = base_model(settings, args)
    train, validation = Rows(HERE / "train.tokens.jsonl"), Rows(HERE / "validation.tokens.jsonl")
    # Rows fit the plan's longest sequence, so nothing is cut off here.
    arguments = SFTConfig(**training_arguments(settings, args, train, validation), completion_only_loss=True, packing=False, max_length=None)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset(train),
        eval_dataset=dataset(validation) if len(validation) else None,
        processing_class=AutoTokenizer.from_pretrained(**place),
        peft_config=LoraConfig(**settings["lora"]),
    )
    trainer.train()
    # The adapter alone: a tokenizer that is written again may be another one.
    trainer.model.save_pretrained(args.output)
    print(f"adapter in {args.output}")


if __name__ == "__main__":
    main()
