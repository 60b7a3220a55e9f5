"""Writes a small Llama folder with transformers, its tokenizer trained on a text file: something real to run the specs on.

    python specs/make_llama.py OUT TEXT_FILE [TEXT_FILE ..]

The weights are random, so its answers are noise until it is fine-tuned; what such a run shows is retrieval, latency, cost and the pipeline.
Needs: pip install torch transformers tokenizers
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

out, *files = sys.argv[1:]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
tokenizer.train(files, trainers.BpeTrainer(vocab_size=4096, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet))
tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(out)

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=tokenizer.get_vocab_size(),
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
)
LlamaForCausalLM(config).save_pretrained(out)
print(f"{out}: {sum(p.numel() for p in LlamaForCausalLM(config).parameters())} weights")
