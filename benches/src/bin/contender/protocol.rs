//! The lines that go in and out.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One line on standard input.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Command {
    /// Write the adapter that all contenders start from.
    Adapter(AdapterWork),
    /// Optimizer steps.
    Train(TrainWork),
    /// Greedy answers: prefill and decode.
    Generate(GenerateWork),
    /// Logits after the last token of a prompt.
    Logits(LogitsWork),
    /// Texts into vectors.
    Embed(EmbedWork),
    /// Build an HNSW index and search it.
    Index(IndexWork),
}

/// A fresh LoRA adapter on all seven linear layers, to be written in PEFT's form.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AdapterWork {
    pub folder: PathBuf,
    pub rank: usize,
    pub alpha: f64,
    pub seed: u64,
}

/// What is trained.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Lora,
    Full,
}

/// Optimizer steps on rows of the token file; a process goes on where its last command ended.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TrainWork {
    pub method: Method,
    /// The initial adapter in PEFT's form, for LoRA.
    pub adapter: Option<PathBuf>,
    /// Seed that the adapter was written with.
    pub seed: u64,
    pub tokens: PathBuf,
    pub batch: usize,
    /// Positions of a row that are computed.
    pub length: usize,
    pub steps: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
}

/// A batch of prompts of one length and a fixed number of new tokens each.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct GenerateWork {
    pub tokens: PathBuf,
    /// The first token of the first prompt in the token file.
    pub offset: usize,
    pub batch: usize,
    pub prompt: usize,
    pub new: usize,
}

/// One prompt.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LogitsWork {
    pub tokens: PathBuf,
    pub offset: usize,
    pub prompt: usize,
}

/// All lines of a text file.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EmbedWork {
    pub texts: PathBuf,
    /// Put the vectors into the answer.
    pub vectors: bool,
}

/// Unit vectors from a file of f32, the last `queries` of which are searched for in an index over the others.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct IndexWork {
    pub vectors: PathBuf,
    pub dimension: usize,
    pub queries: usize,
    pub m: usize,
    pub ef_construction: usize,
    pub ef_search: usize,
    pub top_k: usize,
}

/// Standard input and output, line by line.
pub struct Channel<'a> {
    input: Box<dyn BufRead + 'a>,
    output: Box<dyn Write + 'a>,
}

impl<'a> Channel<'a> {
    /// A channel over two ends.
    pub fn new(input: impl BufRead + 'a, output: impl Write + 'a) -> Self {
        Self { input: Box::new(input), output: Box::new(output) }
    }

    /// The next command, or nothing at the end of the input.
    pub fn next(&mut self) -> Result<Option<Command>> {
        let mut line = String::new();
        if self.input.read_line(&mut line).context("cannot read a command")? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).with_context(|| format!("not a command: {}", line.trim_end()))
    }

    /// The next command, which must be of the kind that `pick` takes.
    pub fn next_as<T>(&mut self, pick: impl Fn(Command) -> Option<T>) -> Result<Option<T>> {
        match self.next()? {
            None => Ok(None),
            Some(command) => match pick(command) {
                Some(work) => Ok(Some(work)),
                None => bail!("a process does one kind of work, so that its peak memory is that of this work"),
            },
        }
    }

    /// Answers a command; the process's peak memory is put beside what was asked for.
    pub fn answer(&mut self, answer: impl Serialize) -> Result<()> {
        let mut value = serde_json::to_value(answer)?;
        value["peak_rss_bytes"] = peak_rss_bytes().into();
        self.line(&value)
    }

    /// Says why there is no answer.
    pub fn fail(&mut self, error: &anyhow::Error) {
        // The other end may be gone; then nobody is left to be told.
        let _ = self.line(&json!({ "error": format!("{error:#}") }));
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        writeln!(self.output, "{value}").and_then(|()| self.output.flush()).context("cannot answer")
    }
}

/// Highest resident memory so far (`VmHWM`); nothing where the system does not tell.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(input: &str) -> (Vec<Result<Option<Command>>>, String) {
        let mut output = Vec::new();
        let mut channel = Channel::new(input.as_bytes(), &mut output);
        let commands = (0..=input.lines().count()).map(|_| channel.next()).collect();
        channel.answer(json!({ "seconds": 0.5 })).unwrap();
        drop(channel);
        (commands, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_line_is_a_command_and_an_answer_tells_peak_memory() {
        let line = r#"{"work": "generate", "tokens": "t", "offset": 3, "batch": 8, "prompt": 64, "new": 4}"#;
        let (commands, answer) = talk(line);
        let expected = GenerateWork { tokens: "t".into(), offset: 3, batch: 8, prompt: 64, new: 4 };
        assert_eq!(commands[0].as_ref().unwrap(), &Some(Command::Generate(expected)));
        assert_eq!(commands[1].as_ref().unwrap(), &None);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["seconds"], 0.5);
        assert!(answer["peak_rss_bytes"].as_u64().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_shows_the_line() {
        let (commands, _) = talk(r#"{"work": "logits", "tokens": "t", "offset": 3, "promt": 64}"#);
        let error = format!("{:#}", commands[0].as_ref().unwrap_err());
        assert!(error.contains("promt") && error.contains("not a command"), "{error}");
    }
}
