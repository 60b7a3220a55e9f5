//! Greedy generation and logits.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};
use ragft::kernel::WeightForm;
use ragft::lm::decoder::Positions;
use ragft::lm::{Generation, LanguageModel as _, LocalModel, Prompt};
use ragft_benches::model::forced;
use serde_json::json;

use crate::Settings;
use crate::protocol::{Channel, Command, GenerateWork, LogitsWork};
use crate::tokens::Tokens;

/// Loads the model folder with weights of the type that was asked for.
pub fn load(settings: &Settings) -> Result<LocalModel> {
    let form = match settings.dtype.as_str() {
        "f32" => WeightForm::F32,
        "bf16" => WeightForm::Bf16,
        "q8_0" => WeightForm::Q8,
        other => bail!("the engine has no {other} weights"),
    };
    let model = LocalModel::load_folder(&settings.model, 0).with_context(|| format!("cannot load `{}`", settings.model.display()))?;
    Ok(model.with_form(form))
}

/// Answers commands until the input ends.
pub fn serve(settings: &Settings, work: GenerateWork, channel: &mut Channel) -> Result<()> {
    let (model, tokens) = (load(settings)?, Tokens::load(&work.tokens)?);
    let mut next = Some(work);
    while let Some(work) = next {
        let prompts: Vec<Prompt> = tokens.rows(work.offset, work.batch, work.prompt).into_iter().map(prompt).collect();
        let answers = model.generate(&prompts, None, &forced(work.new))?;
        let ids = answers.iter().map(ids).collect::<Result<Vec<_>>>()?;
        ensure!(ids.iter().all(|ids| ids.len() == work.new), "an answer has another length than the {} that were asked for", work.new);
        let first = answers.first().context("a batch of no prompts")?;
        channel.answer(json!({
            "prefill_seconds": first.prefill.as_secs_f64(),
            "decode_seconds": first.decode.as_secs_f64(),
            "prefill_tokens": work.batch * work.prompt,
            "decode_tokens": work.batch * (work.new - 1),
            "ids": ids,
        }))?;
        next = channel.next_as(|command| if let Command::Generate(work) = command { Some(work) } else { None })?;
    }
    Ok(())
}

/// Answers one command: the logits after the prompt's last token.
pub fn serve_logits(settings: &Settings, work: &LogitsWork, channel: &mut Channel) -> Result<()> {
    let (model, tokens) = (load(settings)?, Tokens::load(&work.tokens)?);
    let decoder = model.decoder()?;
    let row = tokens.rows(work.offset, 1, work.prompt).concat();
    let tokens = Tensor::from_vec(row, (1, work.prompt), decoder.embedding.device())?;
    let hidden = decoder.forward(&tokens, Positions::FromZero, None, None)?;
    let last = hidden.narrow(1, work.prompt - 1, 1)?.squeeze(1)?.contiguous()?;
    let logits: Vec<f32> = decoder.logits(&last)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    channel.answer(json!({ "logits": logits }))
}

fn prompt(tokens: Vec<u32>) -> Prompt {
    Prompt { tokens, stream: String::new() }
}

/// The models of these runs have a tokenizer that spells token 7 as `t7`, and no token that ends an answer: so the text tells the ids.
fn ids(answer: &Generation) -> Result<Vec<u32>> {
    let id = |word: &str| word.strip_prefix('t').and_then(|digits| digits.parse().ok()).with_context(|| format!("`{word}` names no id"));
    answer.text.split_whitespace().map(id).collect()
}
