//! What may be spent on a server, and what was.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::RemoteError;
use crate::spec::{EmbeddingEndpointSpec, EndpointSpec};

/// Tokens that a server counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Read.
    pub prompt_tokens: u64,
    /// Written.
    pub completion_tokens: u64,
}

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.saturating_sub(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_sub(other.completion_tokens),
        }
    }

    /// Larger of both, by kind.
    pub fn at_least(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.max(other.prompt_tokens),
            completion_tokens: self.completion_tokens.max(other.completion_tokens),
        }
    }

    /// Read and written ones together.
    pub fn tokens(self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

/// The limits of a budget and the prices behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The settings that they come from: of the tokens, and of the money.
    pub keys: [&'static str; 2],
    /// Read and written ones together; 0 is no limit.
    pub tokens: u64,
    /// In the currency of the prices; 0 is no limit.
    pub money: f64,
    /// Of a million tokens read.
    pub price_input: f64,
    /// Of a million tokens written.
    pub price_output: f64,
}

impl From<&EndpointSpec> for Limits {
    fn from(spec: &EndpointSpec) -> Self {
        Self {
            keys: ["model.endpoint.max_total_tokens", "model.endpoint.max_total_cost"],
            tokens: spec.max_total_tokens,
            money: spec.max_total_cost,
            price_input: spec.price_input,
            price_output: spec.price_output,
        }
    }
}

impl From<&EmbeddingEndpointSpec> for Limits {
    fn from(spec: &EmbeddingEndpointSpec) -> Self {
        Self {
            keys: ["retrieval.endpoint.max_total_tokens", "retrieval.endpoint.max_total_cost"],
            tokens: spec.max_total_tokens,
            money: spec.max_total_cost,
            price_input: spec.price_input,
            price_output: 0.0,
        }
    }
}

impl Limits {
    /// What so much costs.
    pub fn money(&self, usage: Usage) -> f64 {
        (usage.prompt_tokens as f64 * self.price_input + usage.completion_tokens as f64 * self.price_output) / 1e6
    }

    /// The limit that so much passes.
    fn passed_by(&self, usage: Usage, spent: Usage) -> Option<RemoteError> {
        if self.tokens > 0 && usage.tokens() > self.tokens {
            let spent = format!("{} tokens were used", spent.tokens());
            return Some(RemoteError::Budget { key: self.keys[0], limit: self.tokens.to_string(), spent });
        }
        if self.money > 0.0 && self.money(usage) > self.money {
            let spent = format!("{} tokens for {:.6} were used", spent.tokens(), self.money(spent));
            return Some(RemoteError::Budget { key: self.keys[1], limit: self.money.to_string(), spent });
        }
        None
    }
}

/// A budget that requests at a time draw on. What a request may take is set aside before it is made, so that together they cannot pass it.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spent: Usage,
    aside: Usage,
}

/// What was set aside for one request; given back when it is settled or dropped.
#[derive(Debug)]
pub struct Aside<'a> {
    budget: &'a Budget,
    usage: Usage,
}

impl Budget {
    /// Nothing spent yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), settled: Condvar::new() }
    }

    /// So much was spent before.
    pub fn begin_with(&self, spent: Usage) {
        let mut state = self.state();
        state.spent = state.spent.plus(spent);
    }

    /// Of all settled requests.
    pub fn spent(&self) -> Usage {
        self.state().spent
    }

    /// The price of it.
    pub fn money(&self) -> f64 {
        self.limits.money(self.spent())
    }

    /// Sets aside the most that a request may take. Waits for requests in flight where only what is set aside for them stands in the way.
    ///
    /// # Errors
    /// [`RemoteError::Budget`]
    pub fn set_aside(&self, usage: Usage) -> Result<Aside<'_>, RemoteError> {
        let mut state = self.state();
        loop {
            let total = state.spent.plus(state.aside).plus(usage);
            let Some(passed) = self.limits.passed_by(total, state.spent) else {
                state.aside = state.aside.plus(usage);
                return Ok(Aside { budget: self, usage });
            };
            if state.aside == Usage::default() {
                return Err(passed);
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Aside<'_> {
    /// The request took so much.
    pub fn settle(self, used: Usage) {
        let mut state = self.budget.state();
        state.spent = state.spent.plus(used);
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.aside = state.aside.less(self.usage);
        self.budget.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens }
    }

    fn budget(tokens: u64, money: f64) -> Budget {
        let keys = ["model.endpoint.max_total_tokens", "model.endpoint.max_total_cost"];
        Budget::new(Limits { keys, tokens, money, price_input: 1.0, price_output: 4.0 })
    }

    #[test]
    fn a_request_that_could_pass_a_limit_is_not_made() {
        let tokens = budget(100, 0.0);
        tokens.set_aside(usage(50, 20)).unwrap().settle(usage(50, 5));
        tokens.set_aside(usage(30, 10)).unwrap().settle(usage(30, 10));
        assert_eq!(tokens.spent(), usage(80, 15));
        let error = tokens.set_aside(usage(5, 1)).unwrap_err();
        assert_eq!(error.to_string(), "the budget is spent: 95 tokens were used, and `model.endpoint.max_total_tokens` is 100");
        let money = budget(0, 0.001);
        money.begin_with(usage(500, 100));
        assert_eq!(money.money(), 0.0009);
        money.set_aside(usage(96, 1)).unwrap();
        assert!(money.set_aside(usage(100, 1)).unwrap_err().to_string().contains("600 tokens for 0.000900"));
    }

    #[test]
    fn one_waits_for_what_is_set_aside_and_not_needed() {
        let budget = budget(100, 0.0);
        let first = budget.set_aside(usage(40, 60)).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| budget.set_aside(usage(40, 10)).map(drop));
            first.settle(usage(40, 3));
            assert_eq!(second.join().unwrap(), Ok(()));
        });
        assert_eq!(budget.spent(), usage(40, 3));
    }
}
