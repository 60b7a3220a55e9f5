//! The tokenizer that a GGUF file carries, as the `tokenizer.json` that it was made from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::ModelError;
use super::super::chat::ChatSource;
use super::super::tokenizer::Tokenizer;
use super::header::Header;

/// How a vocabulary cuts text before merging, by the name that llama.cpp gives it.
const SPLIT_THREE_DIGITS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SPLIT_ONE_DIGIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: usize = 2;
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// The pieces of a vocabulary.
struct Pieces<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<usize>,
}

/// Builds the tokenizer of a header.
pub(super) fn build(header: &Header) -> Result<Tokenizer, ModelError> {
    let kind = header.text("tokenizer.ggml.model").ok_or_else(|| header.problem("has no tokenizer (`tokenizer.ggml.model`)".into()))?;
    let pieces = pieces(header)?;
    let mut json = match kind {
        "gpt2" => byte_level(header, &pieces)?,
        "llama" => sentencepiece(header, &pieces)?,
        other => return Err(unknown(header, &format!("tokenizer.ggml.model = {other}"))),
    };
    let special = header.special();
    // llama.cpp's defaults for files that do not say.
    let adds_bos = header.flag("tokenizer.ggml.add_bos_token").unwrap_or(kind == "llama");
    if let Some(bos) = special.bos.filter(|_| adds_bos)
        && let Some(token) = pieces.tokens.get(bos as usize)
    {
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {*token: {"id": token, "ids": [bos], "tokens": [token]}},
        });
    }
    let text = |id: Option<u32>| id.and_then(|id| pieces.tokens.get(id as usize)).map(|token| (*token).to_owned());
    let named = [("bos_token", special.bos), ("eos_token", special.eos.first().copied()), ("pad_token", special.pad)];
    let chat = header.text("tokenizer.chat_template").map(|template| ChatSource {
        template: template.to_owned(),
        tokens: named.into_iter().filter_map(|(name, id)| Some((name.to_owned(), text(id)?))).collect(),
    });
    Ok(Tokenizer::from_bytes(json.to_string().as_bytes(), special)?.with_chat(chat))
}

fn unknown(header: &Header, what: &str) -> ModelError {
    header.problem(format!("has a tokenizer that is not known here ({what}): name a folder with `tokenizer.json` as `model.tokenizer`"))
}

fn pieces<'a>(header: &'a Header) -> Result<Pieces<'a>, ModelError> {
    let tokens = header.list("tokenizer.ggml.tokens").ok_or_else(|| header.problem("has no `tokenizer.ggml.tokens`".into()))?;
    let tokens: Option<Vec<&str>> = tokens.iter().map(|token| token.to_string().ok().map(String::as_str)).collect();
    let tokens = tokens.ok_or_else(|| header.problem("`tokenizer.ggml.tokens` are not all texts".into()))?;
    let kind = |value: &candle_core::quantized::gguf_file::Value| value.to_i32().map_or(1, |kind| kind.max(0) as usize);
    let mut kinds: Vec<usize> = header.list("tokenizer.ggml.token_type").unwrap_or_default().iter().map(kind).collect();
    kinds.resize(tokens.len(), 1);
    Ok(Pieces { tokens, kinds })
}

impl Pieces<'_> {
    fn vocabulary(&self) -> BTreeMap<&str, usize> {
        self.tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect()
    }

    /// Tokens that are found whole, before anything is cut.
    fn added(&self) -> Vec<Value> {
        let whole = |id: &usize| matches!(self.kinds[*id], UNKNOWN | CONTROL | USER_DEFINED);
        let entry = |id: usize| {
            json!({"id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": self.kinds[id] != USER_DEFINED})
        };
        (0..self.tokens.len()).filter(whole).map(entry).collect()
    }
}

fn byte_level(header: &Header, pieces: &Pieces) -> Result<Value, ModelError> {
    let merges = header.list("tokenizer.ggml.merges").ok_or_else(|| header.problem("has no `tokenizer.ggml.merges`".into()))?;
    let merges: Vec<&str> = merges.iter().filter_map(|merge| merge.to_string().ok().map(String::as_str)).collect();
    let bytes = |cuts: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts});
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let sequence = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
    let mut normalizer = Value::Null;
    let mut ignore_merges = false;
    let pre_tokenizer = match header.text("tokenizer.ggml.pre").unwrap_or("gpt-2") {
        "gpt-2" => bytes(true),
        "smollm" => sequence(json!({"type": "Digits", "individual_digits": true}), bytes(true)),
        "llama-bpe" | "llama3" | "llama-v3" => {
            ignore_merges = true;
            sequence(split(SPLIT_THREE_DIGITS), bytes(false))
        }
        "qwen2" => {
            normalizer = json!({"type": "NFC"});
            sequence(split(SPLIT_ONE_DIGIT), bytes(false))
        }
        other => return Err(unknown(header, &format!("tokenizer.ggml.pre = {other}"))),
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": pieces.added(), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": bytes(true),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges, "vocab": pieces.vocabulary(), "merges": merges},
    }))
}

/// Words begin with a mark, unknown characters fall back to bytes, and pieces merge in the order of their scores.
fn sentencepiece(header: &Header, pieces: &Pieces) -> Result<Value, ModelError> {
    let scores = header.list("tokenizer.ggml.scores").ok_or_else(|| header.problem("has no `tokenizer.ggml.scores`".into()))?;
    let scores: Vec<f32> = scores.iter().map(|score| score.to_f32().unwrap_or(f32::MIN)).collect();
    let vocabulary = pieces.vocabulary();
    let unknown = pieces.kinds.iter().position(|&kind| kind == UNKNOWN).map(|id| pieces.tokens[id]);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prefixed = header.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let normalizer =
        if prefixed { json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}) } else { replace };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefixed {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": pieces.added(), "normalizer": normalizer,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary, "merges": merges(pieces, &scores, &vocabulary)},
    }))
}

/// Every way in which a piece is two others, best score first: the merges that the scores stand for, as transformers derives them.
fn merges(pieces: &Pieces, scores: &[f32], vocabulary: &BTreeMap<&str, usize>) -> Vec<[String; 2]> {
    let mut found: Vec<(f32, &str, &str)> = Vec::new();
    for (id, piece) in pieces.tokens.iter().enumerate() {
        let score = scores.get(id).copied().unwrap_or(f32::MIN);
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let mut own: Vec<(&str, &str)> =
            cuts.filter(|(left, right)| vocabulary.contains_key(left) && vocabulary.contains_key(right)).collect();
        own.sort_by_key(|(left, right)| (vocabulary[left], vocabulary[right]));
        found.extend(own.into_iter().map(|(left, right)| (score, left, right)));
    }
    let length = |text: &str| text.chars().count();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(length(b.1).cmp(&length(a.1))).then(length(b.2).cmp(&length(a.2))));
    found.into_iter().map(|(_, left, right)| [left.to_owned(), right.to_owned()]).collect()
}
