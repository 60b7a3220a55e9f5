//! Texts into vectors.

use anyhow::{Context as _, Result, ensure};
use ragft::clock::Stopwatch;
use ragft::retrieval::load_embedder;
use serde_json::json;

use crate::Settings;
use crate::protocol::{Channel, Command, EmbedWork};

/// Answers commands until the input ends. Tokenizing is part of the work.
pub fn serve(settings: &Settings, work: EmbedWork, channel: &mut Channel) -> Result<()> {
    ensure!(settings.dtype == "f32", "the engine has no {} weights for embedders yet", settings.dtype);
    let embedder = load_embedder(&settings.model).with_context(|| format!("cannot load `{}`", settings.model.display()))?;
    let texts = std::fs::read_to_string(&work.texts).with_context(|| format!("cannot read `{}`", work.texts.display()))?;
    let texts: Vec<&str> = texts.lines().collect();
    let mut next = Some(work);
    while let Some(work) = next {
        let watch = Stopwatch::start();
        let embeddings = embedder.embed_counted(&texts)?;
        let seconds = watch.elapsed().as_secs_f64();
        let tokens: usize = embeddings.iter().map(|embedding| embedding.tokens).sum();
        let vectors = work.vectors.then(|| embeddings.into_iter().map(|embedding| embedding.vector).collect::<Vec<_>>());
        channel.answer(json!({ "seconds": seconds, "texts": texts.len(), "tokens": tokens, "vectors": vectors }))?;
        next = channel.next_as(|command| if let Command::Embed(work) = command { Some(work) } else { None })?;
    }
    Ok(())
}
