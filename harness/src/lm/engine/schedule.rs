//! Many prompts through the engine: sequences join as room comes free, and leave when they end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rayon::prelude::*;

use super::Engine;
use super::adapter::PackedAdapter;
use super::cache::SequenceCache;
use super::step::{Segment, Workspace};
use crate::clock::Stopwatch;
use crate::kernel::{Team, with_team};

/// Prompt tokens of one step: enough for full speed, few enough that the buffers stay in the caches.
const STEP_TOKENS: usize = 512;

/// The same when every thread steps sequences of its own: its buffers should fit its second-level cache.
const LANE_TOKENS: usize = 192;

/// A prefix shorter than this is computed for every sequence: sharing it would save nothing that one sees.
const LEAST_PREFIX: usize = 8;

/// One prompt.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its tokens, at least one.
    pub tokens: &'a [u32],
    /// At most this many new ones, at least one.
    pub limit: usize,
}

/// What the caller makes of a sequence's logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on after this token.
    Token(u32),
    /// This token was the last one.
    Last(u32),
}

/// A finished sequence.
#[derive(Debug, Clone)]
pub struct Answered {
    /// New tokens.
    pub tokens: Vec<u32>,
    /// From joining to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Prompt tokens that came from a shared prefix.
    pub cached_tokens: usize,
}

/// Gives the next token of a request: its index, its tokens so far, the logits `[V]` after them.
pub type Choose<'a, E> = dyn Fn(usize, &[u32], &[f32]) -> Result<Next, E> + Sync + 'a;

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule<'a> {
    /// Weights.
    pub engine: &'a Engine,
    /// Update beside them.
    pub adapter: Option<&'a PackedAdapter>,
    /// Sequences at a time.
    pub rows: usize,
}

/// A sequence on its way.
struct Running<'a> {
    index: usize,
    request: Request<'a>,
    /// Prompt tokens that are in the cache.
    done: usize,
    tokens: Vec<u32>,
    watch: Stopwatch,
    prefill: Duration,
    cached: usize,
}

impl Schedule<'_> {
    /// Answers every request. `choose(index, tokens so far, logits)` gives the next token of request `index`; an error of it ends everything.
    ///
    /// # Errors
    /// The first error of `choose`.
    pub fn run<E: Send>(&self, requests: &[Request], choose: &Choose<E>) -> Result<Vec<Answered>, E> {
        let threads = rayon::current_num_threads();
        let prefix = with_team(threads, |team| self.shared_prefix(team, requests));
        let queue = Mutex::new((0..requests.len()).collect::<VecDeque<usize>>());
        let lanes = if self.engine.fits_a_cache() { threads.min(requests.len()).max(1) } else { 1 };
        let rows = self.rows.div_ceil(lanes).max(1);
        let lane = |team: &Team| Lane::new(self, requests, prefix.clone(), rows, &queue, choose).run(team);
        let parts: Vec<Result<Vec<(usize, Answered)>, E>> = if lanes == 1 {
            vec![with_team(threads, lane)]
        } else {
            (0..lanes).into_par_iter().with_max_len(1).map(|_| lane(&Team::solo())).collect()
        };
        let mut answers: Vec<Option<Answered>> = vec![None; requests.len()];
        for part in parts {
            for (index, answer) in part? {
                answers[index] = Some(answer);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every request is taken from the queue once")).collect())
    }

    /// The cache of what all prompts begin with, if that is worth while. Every prompt keeps at least one token of its own.
    fn shared_prefix(&self, team: &Team, requests: &[Request]) -> Option<Arc<SequenceCache>> {
        let (first, others) = requests.split_first()?;
        let common = |other: &Request| first.tokens.iter().zip(other.tokens).take_while(|(a, b)| a == b).count();
        let shortest = requests.iter().map(|request| request.tokens.len() - 1).min()?;
        let length = others.iter().map(common).min()?.min(shortest);
        if length < LEAST_PREFIX {
            return None;
        }
        let mut caches = [SequenceCache::new(self.engine.config(), length)];
        let mut work = Workspace::default();
        for tokens in first.tokens[..length].chunks(STEP_TOKENS) {
            self.engine.step(team, self.adapter, &[Segment { cache: 0, tokens, logits: false }], &mut caches, &mut work);
        }
        let [cache] = caches;
        Some(Arc::new(cache))
    }
}

/// Sequences that one thread (or, for a large model, all of them together) steps forward.
struct Lane<'a, E> {
    schedule: &'a Schedule<'a>,
    requests: &'a [Request<'a>],
    prefix: Option<Arc<SequenceCache>>,
    queue: &'a Mutex<VecDeque<usize>>,
    choose: &'a Choose<'a, E>,
    caches: Vec<SequenceCache>,
    running: Vec<Option<Running<'a>>>,
    work: Workspace,
    answers: Vec<(usize, Answered)>,
}

impl<'a, E> Lane<'a, E> {
    fn new(
        schedule: &'a Schedule<'a>,
        requests: &'a [Request<'a>],
        prefix: Option<Arc<SequenceCache>>,
        rows: usize,
        queue: &'a Mutex<VecDeque<usize>>,
        choose: &'a Choose<'a, E>,
    ) -> Self {
        let rows = rows.min(requests.len());
        let shared = prefix.as_ref().map_or(0, |prefix| prefix.len());
        // The last token is never fed back.
        let capacity = requests.iter().map(|request| request.tokens.len() - shared + request.limit - 1).max().unwrap_or(1);
        let caches = (0..rows).map(|_| SequenceCache::new(schedule.engine.config(), capacity)).collect();
        let running = (0..rows).map(|_| None).collect();
        Self { schedule, requests, prefix, queue, choose, caches, running, work: Workspace::default(), answers: Vec::new() }
    }

    fn run(mut self, team: &Team) -> Result<Vec<(usize, Answered)>, E> {
        loop {
            self.admit();
            if self.running.iter().all(Option::is_none) {
                return Ok(self.answers);
            }
            self.step(team)?;
        }
    }

    /// Fills free slots from the queue.
    fn admit(&mut self) {
        for (slot, cache) in self.running.iter_mut().zip(&mut self.caches).filter(|(slot, _)| slot.is_none()) {
            let Some(index) = self.queue.lock().expect("no thread panics while it holds the queue").pop_front() else { return };
            cache.restart(self.prefix.clone());
            let cached = cache.len();
            let request = self.requests[index];
            *slot = Some(Running {
                index,
                request,
                done: cached,
                tokens: Vec::with_capacity(request.limit),
                watch: Stopwatch::start(),
                prefill: Duration::ZERO,
                cached,
            });
        }
    }

    /// One step: the next token of every sequence that has begun, and as many prompt tokens as the step has room for.
    fn step(&mut self, team: &Team) -> Result<(), E> {
        let mut room = if team.threads() == 1 { LANE_TOKENS } else { STEP_TOKENS };
        let mut segments = Vec::with_capacity(self.running.len());
        for (cache, running) in self.running.iter().enumerate().filter_map(|(slot, running)| Some((slot, running.as_ref()?))) {
            let prompt = running.request.tokens;
            if let Some(last) = running.tokens.last() {
                segments.push(Segment { cache, tokens: std::slice::from_ref(last), logits: true });
            } else if room > 0 {
                let count = room.min(prompt.len() - running.done);
                room -= count;
                let tokens = &prompt[running.done..running.done + count];
                segments.push(Segment { cache, tokens, logits: running.done + count == prompt.len() });
            }
        }
        self.schedule.engine.step(team, self.schedule.adapter, &segments, &mut self.caches, &mut self.work);
        let stepped: Vec<(usize, usize, bool)> =
            segments.iter().map(|segment| (segment.cache, segment.tokens.len(), segment.logits)).collect();
        let vocabulary = self.schedule.engine.config().vocab_size;
        let mut logits = self.work.logits(vocabulary);
        for (slot, count, wanted) in stepped {
            let running = self.running[slot].as_mut().expect("a slot that was stepped runs");
            if running.tokens.is_empty() {
                running.done += count;
            }
            if !wanted {
                continue;
            }
            let next = (self.choose)(running.index, &running.tokens, logits.next().expect("logits of every segment that wants them"))?;
            if running.tokens.is_empty() {
                running.prefill = running.watch.lap();
            }
            let (token, ended) = match next {
                Next::Token(token) => (token, false),
                Next::Last(token) => (token, true),
            };
            running.tokens.push(token);
            if ended || running.tokens.len() == running.request.limit {
                let running = self.running[slot].take().expect("just looked at");
                let decode = running.watch.elapsed();
                let answer = Answered { tokens: running.tokens, prefill: running.prefill, decode, cached_tokens: running.cached };
                self.answers.push((running.index, answer));
            }
        }
        Ok(())
    }
}
