//! What the loop tells its listeners (progress bar, log, test spy). The loop never prints.

use crate::finetune::TrainingRow;

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunEvent<'a> {
    /// A phase begins: its name, what it works on, and how many units it has (zero if unknown).
    Phase {
        /// `load`, `index`, `train`, `accuracy`, `latency`, `report`.
        name: &'static str,
        /// For example the variant and seed.
        detail: &'a str,
        /// Units of work.
        total: u64,
        /// What a unit is, for example `questions`.
        unit: &'static str,
    },
    /// This many further units are done.
    Advance(u64),
    /// An optimizer step is done.
    Step(&'a TrainingRow),
    /// A sentence for the log.
    Note(&'a str),
}

/// Takes events.
pub type Listener<'a> = dyn FnMut(RunEvent) + 'a;
