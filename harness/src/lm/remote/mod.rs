//! Models behind servers that speak OpenAI's interface: vLLM, SGLang, TGI, llama.cpp, a vendor.
//!
//! [`Client`] makes one request safe: it is tried again while the server is busy, slow or cut off, and an answer is whole or it is none.
//! [`ServedModel`] asks for answers, [`Budget`] says when no more may be asked. Keys come from the environment and stand in the header of a
//! request alone; what a server says is cleared of them before it is told on.

mod budget;
mod client;
mod events;
mod model;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use budget::{Budget, Limits, Usage};
pub use client::{Client, Connection, Key, Traffic, give_up_when};
pub use model::{Continuation, Question, Seen, ServedModel};

pub use client::{back_off, retry_after};

use crate::diagnostic::Hint;

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The environment does not hold the key.
    #[error("the environment variable `{variable}`, which is to hold the key, {problem}")]
    NoKey {
        /// Its name.
        variable: String,
        /// What is wrong with it; never what is in it.
        problem: &'static str,
    },
    /// It was tried as often as allowed.
    #[error("the server at {host} gives no answer after {attempts} attempts: {problem}")]
    Gone {
        /// Host and port.
        host: String,
        /// Requests made.
        attempts: u32,
        /// What the last one met.
        problem: String,
    },
    /// It asks for more patience than there is.
    #[error("the server at {host} asks to wait {seconds} seconds")]
    Wait {
        /// Host and port.
        host: String,
        /// Its `Retry-After`.
        seconds: u64,
    },
    /// It would refuse every request.
    #[error("the server at {host} refuses with status {status}: {message}")]
    Denied {
        /// Host and port.
        host: String,
        /// HTTP.
        status: u16,
        /// What it says.
        message: String,
        /// The models that it lists.
        listed: Vec<String>,
    },
    /// It refused this request and may take others.
    #[error("the server refused this request with status {status}: {message}")]
    Refused {
        /// HTTP.
        status: u16,
        /// What it says.
        message: String,
    },
    /// Whole, and not of the interface's form.
    #[error("the answer of the server at {host} {problem}")]
    Malformed {
        /// Host and port.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// One more request could pass a limit.
    #[error("the budget is spent: {spent}, and `{key}` is {limit}")]
    Budget {
        /// The setting.
        key: &'static str,
        /// Its value.
        limit: String,
        /// So far.
        spent: String,
    },
    /// Not asked, because another request of the same batch showed that it is in vain.
    #[error("not asked")]
    Skipped,
    /// The user stopped.
    #[error("interrupted")]
    Interrupted,
}

impl RemoteError {
    /// Every other request would fail as well: the run stops, and can go on later.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl Hint for RemoteError {
    fn hint(&self) -> Option<String> {
        const RESUME: &str = "every answer so far is kept; the same command with `-o DIR --resume` goes on";
        match self {
            Self::NoKey { variable, .. } => Some(format!("set `{variable}`, or leave `key_env` empty for a server without keys")),
            Self::Gone { .. } | Self::Wait { .. } => Some(format!("see to the server; {RESUME}")),
            Self::Denied { status: 401 | 403, .. } => {
                Some(format!("the environment variable that `key_env` names holds the key that the server wants; {RESUME}"))
            }
            Self::Denied { listed, .. } if !listed.is_empty() => {
                Some(format!("the server lists the models {}; {RESUME}", listed.join(", ")))
            }
            Self::Denied { .. } => Some(format!("`url` ends with the version, for example `http://HOST:PORT/v1`; {RESUME}")),
            Self::Malformed { .. } => {
                Some("the server must speak OpenAI's interface; `url` ends with the version, for example `/v1`".into())
            }
            Self::Budget { key, .. } => Some(format!("raise `{key}`; {RESUME}")),
            Self::Refused { .. } | Self::Skipped | Self::Interrupted => None,
        }
    }
}

/// The results of `work` over all items in their order, `concurrency` of them at a time. After a final error no more are begun: they are
/// [`RemoteError::Skipped`]. `work` is told to give up by the flag.
pub fn each<T: Sync, R: Send>(
    concurrency: usize,
    items: &[T],
    work: impl Fn(&T, &AtomicBool) -> Result<R, RemoteError> + Sync,
) -> Vec<Result<R, RemoteError>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<R, RemoteError>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let result = if stop.load(Ordering::Relaxed) { Err(RemoteError::Skipped) } else { work(item, &stop) };
            if result.as_ref().is_err_and(RemoteError::is_final) {
                stop.store(true, Ordering::Relaxed);
            }
            *results[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..concurrency.clamp(1, items.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let take = |result: Mutex<Option<Result<R, RemoteError>>>| {
        result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).unwrap_or(Err(RemoteError::Skipped))
    };
    results.into_iter().map(take).collect()
}

/// All results, or the error that says most: not that one was skipped, but why.
///
/// # Errors
/// The first that is not [`RemoteError::Skipped`], if there is one.
pub fn all<R>(results: Vec<Result<R, RemoteError>>) -> Result<Vec<R>, RemoteError> {
    if let Some(Err(error)) = results.iter().find(|result| matches!(result, Err(error) if *error != RemoteError::Skipped)) {
        return Err(error.clone());
    }
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_what_is_in_vain_is_not_begun() {
        let items: Vec<usize> = (0..50).collect();
        let squares = each(8, &items, |item, _| Ok(item * item));
        assert_eq!(all(squares).unwrap(), items.iter().map(|item| item * item).collect::<Vec<_>>());
        let gone = RemoteError::Gone { host: "h".into(), attempts: 1, problem: "p".into() };
        let refused = RemoteError::Refused { status: 400, message: "m".into() };
        let work = |item: &usize, _: &AtomicBool| match item {
            1 => Err(refused.clone()),
            3 => Err(gone.clone()),
            other => Ok(*other),
        };
        let results = each(1, &items, work);
        assert_eq!(results[..4], [Ok(0), Err(refused.clone()), Ok(2), Err(gone.clone())]);
        assert!(results[4..].iter().all(|result| *result == Err(RemoteError::Skipped)));
        assert_eq!(all(results[2..].to_vec()), Err(gone));
        assert!(each(4, &[] as &[usize], |item, _| Ok(*item)).is_empty());
    }
}
