//! A server of OpenAI's interface on this host: the built-in model in process behind it, and faults when they are asked for.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ragft::lm::builtin::load_builtin;
use ragft::lm::lora::LoraWeights;
use ragft::lm::{ComputeDevice, FinishReason, GenerationConfig, LanguageModel as _, LocalModel, Prompt};
use ragft::retrieval::{Embedder as _, builtin};
use serde_json::{Value, json};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A status, with `Retry-After` where it is given.
    Status(u16, Option<&'static str>),
    /// The answer is cut off in the middle.
    Cut,
    /// Nothing is said for so long.
    Silence(Duration),
    /// The answer is whole, and comes so much later.
    Late(Duration),
    /// The server is gone from here on.
    Gone,
}

type Faults = dyn Fn(usize) -> Option<Fault> + Send + Sync;

struct State {
    model: LocalModel,
    tuned: BTreeMap<String, LoraWeights>,
    key: Option<&'static str>,
    faults: Box<Faults>,
    requests: AtomicUsize,
    faulted: AtomicUsize,
    bodies: Mutex<Vec<Value>>,
    gone: AtomicBool,
}

/// A running server; it ends with the value.
pub struct Server {
    pub url: String,
    state: Arc<State>,
    port: u16,
}

impl Server {
    /// Faults by the number of the request, from 0; questions for the list of models do not count.
    pub fn start(faults: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::with(None, BTreeMap::new(), faults)
    }

    pub fn with(
        key: Option<&'static str>,
        tuned: BTreeMap<String, LoraWeights>,
        faults: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            model: load_builtin(0, &ComputeDevice::cpu()).unwrap(),
            tuned,
            key,
            faults: Box::new(faults),
            requests: AtomicUsize::new(0),
            faulted: AtomicUsize::new(0),
            bodies: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.gone.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                // A client that hangs up is no failure of the test.
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/v1"), state, port }
    }

    /// Requests for answers and vectors so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Those that were spoilt.
    pub fn faulted(&self) -> usize {
        self.state.faulted.load(Ordering::SeqCst)
    }

    /// What was asked, in the order it came.
    pub fn bodies(&self) -> Vec<Value> {
        self.state.bodies.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::SeqCst);
        // Wakes the listener, which then ends.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Answers with texts.
struct Text {
    text: String,
    finish: &'static str,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut authorization) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.trim().split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => value.trim().clone_into(&mut authorization),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if let Some(key) = self.key.filter(|key| authorization != format!("Bearer {key}")) {
            // As vendors do: the key that was sent is named.
            let sent = authorization.trim_start_matches("Bearer ");
            let error = json!({"error": {"message": format!("Incorrect API key provided: {sent}. ({} expected)", key.len())}});
            return respond(&mut stream, 401, "", &error.to_string());
        }
        if path == "/v1/models" {
            let list = json!({"object": "list", "data": [{"id": "reference"}, {"id": "tuned"}]});
            return respond(&mut stream, 200, "", &list.to_string());
        }
        let fault = (self.faults)(self.requests.fetch_add(1, Ordering::SeqCst));
        self.faulted.fetch_add(usize::from(fault.is_some()), Ordering::SeqCst);
        match fault {
            Some(Fault::Status(status, after)) => {
                let header = after.map_or_else(String::new, |after| format!("Retry-After: {after}\r\n"));
                return respond(&mut stream, status, &header, "{\"error\": {\"message\": \"a fault\"}}");
            }
            Some(Fault::Silence(long)) => {
                std::thread::sleep(long);
                return Ok(());
            }
            Some(Fault::Gone) => {
                self.gone.store(true, Ordering::SeqCst);
                drop(TcpStream::connect(stream.local_addr()?));
                return Ok(());
            }
            Some(Fault::Late(long)) => std::thread::sleep(long),
            Some(Fault::Cut) | None => {}
        }
        if self.gone.load(Ordering::SeqCst) {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&body)?;
        self.bodies.lock().unwrap().push(body.clone());
        let answer = match path.as_str() {
            "/v1/embeddings" => embeddings(&body),
            "/v1/completions" if body["echo"] == true => self.echo(&body),
            "/v1/completions" | "/v1/chat/completions" => {
                let is_chat = path.contains("chat");
                if !["reference", "tuned", "raft"].contains(&body["model"].as_str().unwrap()) {
                    return respond(&mut stream, 404, "", "{\"error\": {\"message\": \"no such model\"}}");
                }
                let text = self.answer(&body, is_chat);
                if body["stream"] == true {
                    return send_stream(&mut stream, &text, is_chat, fault == Some(Fault::Cut));
                }
                let choice = if is_chat {
                    json!({"index": 0, "message": {"role": "assistant", "content": text.text}, "finish_reason": text.finish})
                } else {
                    json!({"index": 0, "text": text.text, "finish_reason": text.finish})
                };
                json!({"choices": [choice], "usage": usage(&text), "system_fingerprint": "built-in"})
            }
            _ => return respond(&mut stream, 404, "", "{\"detail\": \"Not Found\"}"),
        };
        let answer = answer.to_string();
        if fault == Some(Fault::Cut) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            stream.write_all(head.as_bytes())?;
            return stream.write_all(&answer.as_bytes()[..answer.len() / 2]);
        }
        respond(&mut stream, 200, "", &answer)
    }

    /// What the built-in model says.
    fn answer(&self, body: &Value, is_chat: bool) -> Text {
        let text = if is_chat { &body["messages"].as_array().unwrap().last().unwrap()["content"] } else { &body["prompt"] };
        let tokens = self.model.encode_prompt(text.as_str().unwrap()).unwrap();
        let stop = body["stop"].as_array().into_iter().flatten().map(|stop| stop.as_str().unwrap().to_owned()).collect();
        let config = GenerationConfig {
            max_new_tokens: body["max_tokens"].as_u64().unwrap() as usize,
            temperature: body["temperature"].as_f64().unwrap(),
            top_p: 1.0,
            stop,
            seed: body["seed"].as_u64().unwrap(),
            batch_size: 1,
            forced_tokens: None,
        };
        let adapter = self.tuned.get(body["model"].as_str().unwrap());
        let prompt = Prompt { tokens, stream: String::new() };
        let generation = self.model.generate(&[prompt], adapter, &config).unwrap().remove(0);
        Text {
            text: generation.text,
            finish: if generation.finish_reason == FinishReason::Length { "length" } else { "stop" },
            prompt_tokens: generation.prompt_tokens,
            completion_tokens: generation.output_tokens,
        }
    }

    /// Log-probabilities of a text's tokens, and a token after them.
    fn echo(&self, body: &Value) -> Value {
        let tokens = self.model.encode_prompt(body["prompt"].as_str().unwrap()).unwrap();
        let spelt = |count: usize| self.model.tokenizer.decode(&tokens[..count]).unwrap();
        let mut names: Vec<String> = (1..=tokens.len()).map(|count| spelt(count)[spelt(count - 1).len()..].to_owned()).collect();
        let mut values: Vec<Option<f64>> = vec![None];
        for place in 1..tokens.len() {
            let found = self.model.log_likelihoods(&tokens[..place], &[vec![tokens[place]]], None).unwrap();
            values.push(Some(found[0]));
        }
        names.push("\n".into());
        values.push(Some(-1.0));
        json!({
            "choices": [{"text": "", "logprobs": {"tokens": names, "token_logprobs": values}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": tokens.len(), "completion_tokens": 1},
        })
    }
}

fn usage(text: &Text) -> Value {
    json!({"prompt_tokens": text.prompt_tokens, "completion_tokens": text.completion_tokens, "total_tokens": 0})
}

fn embeddings(body: &Value) -> Value {
    let texts: Vec<&str> = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let embedded = builtin().embed_counted(&texts).unwrap();
    let tokens: usize = embedded.iter().map(|embedding| embedding.tokens).sum();
    let entry = |(index, embedding): (usize, &ragft::retrieval::Embedding)| {
        // Of another length than one: the client scales it.
        let vector: Vec<f32> = embedding.vector.iter().map(|value| 2.0 * value).collect();
        json!({"index": index, "embedding": vector})
    };
    // In another order than asked.
    let data: Vec<Value> = embedded.iter().enumerate().rev().map(entry).collect();
    json!({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Events in chunks; a cut one ends without the last.
fn send_stream(stream: &mut TcpStream, text: &Text, is_chat: bool, is_cut: bool) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
    let mut send = |data: &str| {
        let event = format!("data: {data}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
    };
    let pieces: Vec<&str> = text.text.split_inclusive(' ').collect();
    for piece in &pieces {
        let choice = if is_chat { json!({"delta": {"content": piece}}) } else { json!({"text": piece}) };
        send(&json!({"choices": [choice], "system_fingerprint": "built-in"}).to_string())?;
    }
    if is_cut {
        return Ok(());
    }
    send(&json!({"choices": [{"delta": {}, "text": "", "finish_reason": text.finish}]}).to_string())?;
    send(&json!({"choices": [], "usage": usage(text)}).to_string())?;
    send("[DONE]")?;
    stream.write_all(b"0\r\n\r\n")
}
