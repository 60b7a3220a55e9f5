//! One setting for every thread of the process: `--threads`, else `RAGFT_THREADS`, else `RAYON_NUM_THREADS`, else all cores.
//!
//! | who computes | where | ruled by |
//! |---|---|---|
//! | the run itself, kernels, trainer, index, tokenizers, candle's matrix products | rayon's global pool | [`settle`] builds it |
//! | candle's matrix products | how many pieces they are cut into | `RAYON_NUM_THREADS` |
//! | candle's unary and binary operations from 65 536 elements on: sums of gradients, residuals | its own workers | `CANDLE_NUM_THREADS` |
//! | polars | a pool of its own, idle while the model computes | `POLARS_MAX_THREADS` |
//!
//! candle's workers are turned off. They spin between calls, beside a pool that is busy each is a thread too many, and what they share out is
//! bound by memory: the thread that calls does it alone.

use std::num::NonZero;

use super::failure::Failure;
use crate::diagnostic::Blame;

/// As much as a process's first thread usually has: the pool's threads do its work.
const STACK: usize = 8 << 20;

/// Settles the number of threads, once, before the process has a second thread.
pub fn settle(asked: Option<usize>) -> Result<(), Failure> {
    if asked == Some(0) {
        return Err(Failure::message(Blame::Request, "`--threads` is 0, expected at least 1", None));
    }
    let threads = asked.unwrap_or_else(default);
    // What the user has set for one of them alone would break the rule that one setting rules all.
    let variables = [("RAYON_NUM_THREADS", threads), ("CANDLE_NUM_THREADS", 1), ("POLARS_MAX_THREADS", threads)];
    for (name, value) in variables {
        #[expect(unsafe_code, reason = "candle and polars take their numbers of threads from the environment only")]
        // SAFETY: `main` calls this first, when the process has one thread, so nobody reads the environment at the same time.
        unsafe {
            std::env::set_var(name, value.to_string());
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK)
        .thread_name(|index| format!("ragft-{index}"))
        .build_global()
        .map_err(|error| Failure::message(Blame::Runtime, &format!("cannot start threads: {error}"), None))
}

/// Does the work on a thread of the pool: called from outside, every parallel loop would put the caller to sleep and wake it again.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// As rayon has it.
fn default() -> usize {
    let variable = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&threads| threads > 0);
    variable.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}
