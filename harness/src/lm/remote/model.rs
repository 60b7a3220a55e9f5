//! A model behind a server: questions in, answers out.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::Body;
use ureq::http::Response;

use super::budget::{Budget, Usage};
use super::client::{Client, Connection, Fault};
use super::events::Events;
use super::{RemoteError, all, each};
use crate::clock::Stopwatch;
use crate::lm::{FinishReason, Generation, GenerationConfig, Tokenizer};
use crate::rng::Rng;
use crate::spec::{EndpointKind, EndpointSpec};

/// Stop strings that OpenAI's interface takes; all are applied here again.
const STOPS: usize = 4;
/// Distinct fingerprints that are kept.
const FINGERPRINTS: usize = 16;

/// A prompt for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The user's turn, or the text that is continued.
    pub text: &'a str,
    /// Tokens, counted or estimated.
    pub length: usize,
    /// Names the sampling stream.
    pub stream: &'a str,
}

/// What was seen of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// `system_fingerprint` of its answers.
    pub fingerprints: Vec<String>,
    /// Answers that came without token counts.
    pub uncounted: u64,
}

/// How likely a text is after a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Continuation {
    /// Sum over its tokens.
    pub log_likelihood: f64,
    /// Of the text.
    pub tokens: usize,
    /// Of the prompt before it.
    pub prompt_tokens: usize,
}

/// A served model, and the tuned ones that the server has beside it.
#[derive(Debug)]
pub struct ServedModel {
    client: Client,
    spec: EndpointSpec,
    extra: Map<String, Value>,
    system: String,
    tokenizer: Option<Tokenizer>,
    context_length: usize,
    budget: Budget,
    fingerprints: Mutex<BTreeSet<String>>,
    uncounted: AtomicU64,
}

/// What one request gave, before stop rules.
struct Reply {
    text: String,
    is_cut: bool,
    usage: Option<Usage>,
    fingerprint: Option<String>,
    prefill: Duration,
    decode: Duration,
}

impl ServedModel {
    /// Reads the key; asks nothing yet. `system` is the system's turn, `tokenizer` the server's own where it is at hand.
    ///
    /// # Errors
    /// [`RemoteError::NoKey`]
    pub fn open(spec: &EndpointSpec, system: &str, tokenizer: Option<Tokenizer>, context_length: usize) -> Result<Self, RemoteError> {
        let connection =
            Connection { url: &spec.url, key_env: &spec.key_env, timeout: Duration::from_secs_f64(spec.timeout_s), retries: spec.retries };
        Ok(Self {
            client: Client::open(&connection)?,
            spec: spec.clone(),
            extra: serde_json::from_str(&spec.extra).unwrap_or_default(),
            system: system.to_owned(),
            tokenizer,
            context_length,
            budget: Budget::new(spec.into()),
            fingerprints: Mutex::default(),
            uncounted: AtomicU64::new(0),
        })
    }

    /// The name under which the base model is served.
    pub fn name(&self) -> &str {
        &self.spec.model
    }

    /// The server's own tokenizer, where it is at hand.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// How it is reached, and what may be spent.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What may be spent, and was.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Longest sequence (prompt and answer) in tokens.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Tokens of a text: counted where the tokenizer is at hand, else estimated from its characters.
    pub fn count(&self, text: &str) -> usize {
        let counted = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.count(text).ok());
        counted.unwrap_or_else(|| (text.chars().count() as f64 / self.spec.chars_per_token).ceil() as usize)
    }

    /// Tokens of a prompt: its text, and the system's turn where there is one. What else a chat template adds is not known here.
    pub fn count_prompt(&self, text: &str) -> usize {
        let counted = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.encode_prompt(text).ok());
        let system = if self.system.is_empty() { 0 } else { self.count(&self.system) };
        system + counted.map_or_else(|| self.count(text), |tokens| tokens.len())
    }

    /// What was seen of the server so far.
    pub fn seen(&self) -> Seen {
        let fingerprints = self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        Seen { fingerprints, uncounted: self.uncounted.load(Ordering::Relaxed) }
    }

    /// One answer or error per question, in order; as many at a time as the spec allows. `name` is the model that is asked: the base or a
    /// tuned one.
    pub fn answer(&self, name: &str, questions: &[Question], config: &GenerationConfig) -> Vec<Result<Generation, RemoteError>> {
        each(self.spec.concurrency, questions, |question, stop| self.ask(name, *question, config, stop, false))
    }

    /// One answer, streamed, so that its first token can be timed. Attempts that failed and the waits between them count as its own time: the
    /// user waits as long.
    ///
    /// # Errors
    /// [`RemoteError`]
    pub fn timed(&self, name: &str, question: Question, config: &GenerationConfig) -> Result<Generation, RemoteError> {
        self.ask(name, question, config, &AtomicBool::new(false), true)
    }

    fn ask(
        &self,
        name: &str,
        question: Question,
        config: &GenerationConfig,
        stop: &AtomicBool,
        streamed: bool,
    ) -> Result<Generation, RemoteError> {
        let most = Usage { prompt_tokens: question.length as u64, completion_tokens: config.max_new_tokens as u64 };
        let aside = self.budget.set_aside(most)?;
        let body = self.body(name, question, config, streamed);
        let (kind, watch) = (self.spec.kind, Stopwatch::start());
        let reply = if streamed {
            self.client.post_read(self.path(), &body, question.stream, stop, move |response| read_stream(kind, response, watch))?
        } else {
            let answer = self.client.post(self.path(), &body, question.stream, stop)?;
            let reply = self.reply(&answer)?;
            Reply { decode: watch.elapsed(), ..reply }
        };
        let generation = self.generation(question, &config.stop, &reply);
        aside.settle(
            reply
                .usage
                .unwrap_or(Usage { prompt_tokens: generation.prompt_tokens as u64, completion_tokens: generation.output_tokens as u64 }),
        );
        Ok(generation)
    }

    fn path(&self) -> &'static str {
        match self.spec.kind {
            EndpointKind::Chat => "chat/completions",
            EndpointKind::Completions => "completions",
        }
    }

    fn body(&self, name: &str, question: Question, config: &GenerationConfig, streamed: bool) -> Value {
        let mut body = Map::from_iter([
            ("model".to_owned(), json!(name)),
            (self.spec.limit_field.name().to_owned(), json!(config.max_new_tokens)),
            ("temperature".to_owned(), json!(config.temperature)),
            ("seed".to_owned(), json!(seed_of(config, question.stream))),
        ]);
        if config.top_p < 1.0 {
            body.insert("top_p".to_owned(), json!(config.top_p));
        }
        if !config.stop.is_empty() {
            body.insert("stop".to_owned(), json!(config.stop[..config.stop.len().min(STOPS)]));
        }
        match self.spec.kind {
            EndpointKind::Completions => body.insert("prompt".to_owned(), json!(question.text)),
            EndpointKind::Chat => {
                let system = (!self.system.is_empty()).then(|| json!({"role": "system", "content": self.system}));
                let user = json!({"role": "user", "content": question.text});
                body.insert("messages".to_owned(), system.into_iter().chain([user]).collect())
            }
        };
        if streamed {
            body.insert("stream".to_owned(), json!(true));
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        body.extend(self.extra.clone());
        Value::Object(body)
    }

    fn malformed(&self, problem: impl Into<String>) -> RemoteError {
        RemoteError::Malformed { host: self.client.host().to_owned(), problem: problem.into() }
    }

    fn reply(&self, answer: &Value) -> Result<Reply, RemoteError> {
        let choice = &answer["choices"][0];
        let text = match self.spec.kind {
            EndpointKind::Chat => &choice["message"]["content"],
            EndpointKind::Completions => &choice["text"],
        };
        let text = match text {
            Value::String(text) => text.clone(),
            // A model that says nothing.
            Value::Null if choice.is_object() => String::new(),
            _ => return Err(self.malformed("has no text in `choices`")),
        };
        Ok(Reply {
            text,
            is_cut: choice["finish_reason"] == "length",
            usage: usage_of(answer),
            fingerprint: answer["system_fingerprint"].as_str().map(str::to_owned),
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        })
    }

    fn generation(&self, question: Question, stop: &[String], reply: &Reply) -> Generation {
        if let Some(fingerprint) = &reply.fingerprint {
            let mut known = self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < FINGERPRINTS {
                known.insert(self.client.told(fingerprint));
            }
        }
        if reply.usage.is_none() {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
        }
        let end = stop.iter().filter_map(|stop| reply.text.find(stop.as_str())).min();
        let counted = reply.usage.map(|usage| (usage.prompt_tokens as usize, usage.completion_tokens as usize));
        let (prompt_tokens, output_tokens) = counted.unwrap_or_else(|| (question.length, self.count(&reply.text)));
        Generation {
            text: reply.text[..end.unwrap_or(reply.text.len())].to_owned(),
            prompt_tokens,
            output_tokens,
            finish_reason: if reply.is_cut && end.is_none() { FinishReason::Length } else { FinishReason::Stop },
            prefill: reply.prefill,
            decode: reply.decode,
        }
    }

    /// How likely each text is after the prompt, from the log-probabilities that `/completions` gives of what it reads.
    ///
    /// # Errors
    /// The first [`RemoteError`]; [`RemoteError::Malformed`] where the server gives no log-probabilities.
    pub fn log_likelihoods(&self, name: &str, prompt: Question, texts: &[String]) -> Result<Vec<Continuation>, RemoteError> {
        let read = |text: &String, stop: &AtomicBool| -> Result<Continuation, RemoteError> {
            let most = Usage { prompt_tokens: (prompt.length + self.count(text)) as u64, completion_tokens: 1 };
            let aside = self.budget.set_aside(most)?;
            let mut body = Map::from_iter([
                ("model".to_owned(), json!(name)),
                ("prompt".to_owned(), json!(format!("{}{text}", prompt.text))),
                // Some servers take zero for no limit; the one token is left out again.
                ("max_tokens".to_owned(), json!(1)),
                ("temperature".to_owned(), json!(0.0)),
                ("echo".to_owned(), json!(true)),
                ("logprobs".to_owned(), json!(1)),
            ]);
            body.extend(self.extra.clone());
            let answer = self.client.post("completions", &Value::Object(body), prompt.stream, stop)?;
            let tokens: Option<Vec<&str>> =
                answer["choices"][0]["logprobs"]["tokens"].as_array().and_then(|tokens| tokens.iter().map(Value::as_str).collect());
            let values: Option<Vec<Option<f64>>> =
                answer["choices"][0]["logprobs"]["token_logprobs"].as_array().map(|values| values.iter().map(Value::as_f64).collect());
            let (Some(tokens), Some(values)) = (tokens, values) else {
                return Err(
                    self.malformed("has no log-probabilities of the prompt (`echo` with `logprobs`): it cannot score multiple choice")
                );
            };
            let usage = usage_of(&answer);
            let generated = usage.and_then(|usage| tokens.len().checked_sub(usage.prompt_tokens as usize));
            let found = of_last(&tokens, &values, prompt.text, text, generated)
                .ok_or_else(|| self.malformed("has log-probabilities of tokens that do not make up the text it was given"))?;
            let used = usage.unwrap_or(most);
            aside.settle(used);
            if let Some(fingerprint) = answer["system_fingerprint"].as_str() {
                self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner).insert(self.client.told(fingerprint));
            }
            Ok(Continuation { prompt_tokens: (used.prompt_tokens as usize).saturating_sub(found.tokens), ..found })
        };
        all(each(self.spec.concurrency, texts, read))
    }
}

/// The log-likelihood of `text` after `prompt`, from the tokens that both were read as and those `generated` after them (tried, where it is not
/// known). A token over the seam of prompt and text counts as the text's.
fn of_last(tokens: &[&str], values: &[Option<f64>], prompt: &str, text: &str, generated: Option<usize>) -> Option<Continuation> {
    if tokens.len() != values.len() {
        return None;
    }
    // Tokens of the prompt may be spelt otherwise (a beginning token, a blank at the front), so the text is looked for from behind.
    for generated in generated.map_or(vec![1, 0], |known| vec![known]) {
        let read = &tokens[..tokens.len().checked_sub(generated)?];
        let mut rest = text;
        let mut first = read.len();
        while let Some(before) = first.checked_sub(1) {
            let Some(shorter) = rest.strip_suffix(read[before]).filter(|_| !read[before].is_empty()) else { break };
            (rest, first) = (shorter, before);
            if rest.is_empty() {
                break;
            }
        }
        // A token that holds the end of the prompt and the beginning of the text.
        let straddles = !rest.is_empty() && first > 0 && {
            let token = read[first - 1];
            token.strip_suffix(rest).is_some_and(|before| prompt.ends_with(before))
        };
        if straddles {
            (rest, first) = ("", first - 1);
        }
        if rest.is_empty() && first < read.len() {
            let values: Option<Vec<f64>> = values[first..read.len()].iter().copied().collect();
            let values = values?;
            return Some(Continuation { log_likelihood: values.iter().sum(), tokens: values.len(), prompt_tokens: first });
        }
    }
    None
}

/// A stream is whole when it says why it ended or that it is done; one that breaks off is asked for again.
fn read_stream(kind: EndpointKind, response: &mut Response<Body>, watch: Stopwatch) -> Result<Reply, Fault> {
    let mut events = Events::new(response.body_mut().as_reader());
    let mut reply =
        Reply { text: String::new(), is_cut: false, usage: None, fingerprint: None, prefill: Duration::ZERO, decode: Duration::ZERO };
    let (mut first, mut is_whole) = (None, false);
    while let Some(data) = events.data().map_err(|error| Fault::Again(format!("the stream is cut off: {error}"), None))? {
        if data.trim() == "[DONE]" {
            is_whole = true;
            break;
        }
        let event: Value = serde_json::from_str(&data).map_err(|error| Fault::Again(format!("an event is not whole: {error}"), None))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let words = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(Fault::Again(format!("the stream ends with an error: {words}"), None));
        }
        let choice = &event["choices"][0];
        let piece = match kind {
            EndpointKind::Chat => &choice["delta"]["content"],
            EndpointKind::Completions => &choice["text"],
        };
        if let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) {
            first.get_or_insert_with(|| watch.elapsed());
            reply.text.push_str(piece);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            reply.is_cut = reason == "length";
            is_whole = true;
        }
        reply.usage = usage_of(&event).or(reply.usage);
        reply.fingerprint = event["system_fingerprint"].as_str().map(str::to_owned).or(reply.fingerprint);
    }
    if !is_whole {
        return Err(Fault::Again("the stream ends before the answer".to_owned(), None));
    }
    let whole = watch.elapsed();
    // An answer without a word has its first token at its end.
    reply.prefill = first.unwrap_or(whole);
    reply.decode = whole.saturating_sub(reply.prefill);
    Ok(reply)
}

/// The token counts of an answer, where it has them.
fn usage_of(answer: &Value) -> Option<Usage> {
    let count = |name: &str| answer["usage"][name].as_u64();
    Some(Usage { prompt_tokens: count("prompt_tokens")?, completion_tokens: count("completion_tokens").unwrap_or(0) })
}

/// Greedy answers need no randomness of their own; drawn ones do not depend on their company.
fn seed_of(config: &GenerationConfig, stream: &str) -> u64 {
    if config.temperature <= 0.0 {
        return config.seed;
    }
    // Servers take signed numbers of 32 bits.
    Rng::new(config.seed, &format!("served/{stream}")).bits() >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn served(settings: &str) -> ServedModel {
        let text = format!("[model]\nmax_context = 100\n[model.endpoint]\nurl = \"http://localhost:1/v1\"\nmodel = \"m\"\n{settings}");
        let spec = spec::read(&text, &[]).unwrap();
        ServedModel::open(&spec.model.endpoint, "", None, spec.model.max_context).unwrap()
    }

    fn config() -> GenerationConfig {
        GenerationConfig {
            max_new_tokens: 8,
            temperature: 0.0,
            top_p: 1.0,
            stop: ["a", "b", "c", "d", "\n"].map(str::to_owned).to_vec(),
            seed: 7,
            batch_size: 1,
            forced_tokens: None,
        }
    }

    const QUESTION: Question = Question { text: "Where?", length: 3, stream: "q1" };

    #[test]
    fn a_request_has_the_fields_of_its_interface() {
        let chat = served("extra = '{\"chat_template_kwargs\": {\"enable_thinking\": false}}'\n");
        let body = chat.body("m", QUESTION, &config(), true);
        let expected = json!({
            "model": "m", "max_tokens": 8, "temperature": 0.0, "seed": 7, "stop": ["a", "b", "c", "d"],
            "messages": [{"role": "user", "content": "Where?"}], "stream": true, "stream_options": {"include_usage": true},
            "chat_template_kwargs": {"enable_thinking": false},
        });
        assert_eq!(body, expected);
        let plain = served("kind = \"completions\"\nlimit_field = \"max_completion_tokens\"\n");
        let body = plain.body("tuned", QUESTION, &GenerationConfig { temperature: 0.5, top_p: 0.9, stop: vec![], ..config() }, false);
        assert_eq!((&body["prompt"], &body["model"], &body["top_p"]), (&json!("Where?"), &json!("tuned"), &json!(0.9)));
        assert!(body["max_completion_tokens"] == 8 && body.get("stop").is_none() && body.get("messages").is_none());
        assert_ne!(
            body["seed"],
            plain.body("m", Question { stream: "q2", ..QUESTION }, &GenerationConfig { temperature: 0.5, ..config() }, false)["seed"]
        );
    }

    #[test]
    fn an_answer_ends_before_the_first_stop_and_its_tokens_are_the_servers() {
        let model = served("chars_per_token = 2.0\n");
        let answer = json!({
            "system_fingerprint": "fp", "usage": {"prompt_tokens": 5, "completion_tokens": 4},
            "choices": [{"finish_reason": "length", "message": {"content": "honey\nand more"}}],
        });
        let generation = model.generation(QUESTION, &["\n".to_owned()], &model.reply(&answer).unwrap());
        assert_eq!((generation.text.as_str(), generation.prompt_tokens, generation.output_tokens), ("honey", 5, 4));
        assert_eq!(generation.finish_reason, FinishReason::Stop);
        let bare = json!({"choices": [{"finish_reason": "length", "message": {"content": "honey"}}]});
        let generation = model.generation(QUESTION, &[], &model.reply(&bare).unwrap());
        assert_eq!((generation.prompt_tokens, generation.output_tokens, generation.finish_reason), (3, 3, FinishReason::Length));
        assert_eq!(model.seen(), Seen { fingerprints: vec!["fp".into()], uncounted: 1 });
        assert!(model.reply(&json!({"choices": []})).is_err() && model.reply(&json!({"object": "error"})).is_err());
    }

    #[test]
    fn the_tokens_of_a_choice_are_found_from_behind() {
        let of = |tokens: &[&str], text: &str| {
            let values: Vec<Option<f64>> = (0..tokens.len()).map(|index| (index > 0).then_some(-(index as f64))).collect();
            of_last(tokens, &values, "Answer :", text, None).map(|found| (found.log_likelihood, found.tokens))
        };
        assert_eq!(of(&["<s>", "Answer", " :", " ho", "ney", "\n"], " honey"), Some((-7.0, 2)));
        assert_eq!(of(&["Answer", " :", " ho", "ney"], " honey"), Some((-5.0, 2)), "without the generated token");
        assert_eq!(of(&["Answer", " : h", "oney", "x"], " honey"), Some((-3.0, 2)), "a token over the seam belongs to the text");
        assert_eq!(of(&["Answer", " :", " no", "x"], " honey"), None);
        let values = [None, Some(-1.0), Some(-2.0)];
        let known = |generated| of_last(&["so", " a", " a"], &values, "so a", " a", Some(generated)).map(|found| found.log_likelihood);
        assert_eq!(known(0), Some(-2.0));
    }

    #[test]
    fn tokens_are_estimated_from_characters_where_no_tokenizer_is_at_hand() {
        let model = served("chars_per_token = 4.0\n");
        assert_eq!((model.count(""), model.count("abcd"), model.count("äöüße")), (0, 1, 2));
    }
}
