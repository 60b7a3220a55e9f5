//! What is measured: series of points, from small to large.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::work::{Form, Model, Work};

/// Kinds of work; each has figures of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    Prefill,
    Decode,
    Training,
    Index,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Training => "training",
            Self::Index => "index",
        }
    }
}

/// Points that become one line of a figure.
#[derive(Debug, Clone)]
pub struct Series {
    pub group: Group,
    pub name: String,
    /// By rising size.
    pub points: Vec<(u64, Work)>,
    /// Time grows at most with the size to this power, roughly: what the next point is expected to take.
    pub growth: f64,
}

const LENGTHS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const CHUNKS: [usize; 5] = [1000, 3000, 10_000, 30_000, 100_000];
const DIMENSIONS: [usize; 2] = [128, 384];

/// Positions of a training step; the longer a row, the fewer rows.
const STEP_TINY: usize = 2048;
const STEP_135M: usize = 512;

/// The longest prompt that the built-in model's window takes, among [`LENGTHS`].
const BUILTIN_LENGTH: usize = 512;

/// All series, or few and small ones.
pub fn plan(quick: bool) -> Vec<Series> {
    let models = [(Model::M135, Form::F32), (Model::M135, Form::Bf16), (Model::M135, Form::Q8_0), (Model::Builtin, Form::F32)];
    let (lengths, batches, chunks) = (first(&LENGTHS, quick), first(&BATCHES, quick), first(&CHUNKS, quick));
    let mut all = Vec::new();
    for (model, form) in models {
        let name = format!("{} {}", model.name(), form.name());
        let longest = if model == Model::Builtin { BUILTIN_LENGTH } else { usize::MAX };
        let lengths: Vec<usize> = lengths.iter().copied().filter(|length| *length <= longest).collect();
        all.push(series(Group::Prefill, &name, &lengths, 1.3, |length| Work::Prefill { model, form, length }));
        all.push(series(Group::Decode, &name, batches, 1.0, |batch| Work::Decode { model, form, batch }));
    }
    for (model, full, step) in [(Model::Tiny, false, STEP_TINY), (Model::Tiny, true, STEP_TINY), (Model::M135, false, STEP_135M)] {
        let name = format!("{} {}", model.name(), if full { "full" } else { "LoRA" });
        let lengths: Vec<usize> = lengths.iter().copied().filter(|length| *length <= step).collect();
        let work = |length| Work::Training { model, full, rows: step / length, length };
        all.push(series(Group::Training, &name, &lengths, 1.0, work));
    }
    for dimension in DIMENSIONS {
        let hnsw = |chunks| Work::Hnsw { chunks, dimension };
        all.push(series(Group::Index, &format!("HNSW, {dimension} dimensions"), chunks, 1.25, hnsw));
        let exact = |chunks| Work::Exact { chunks, dimension };
        all.push(series(Group::Index, &format!("exact, {dimension} dimensions"), chunks, 1.0, exact));
    }
    all
}

fn first<const N: usize>(all: &[usize; N], quick: bool) -> &[usize] {
    if quick { &all[..2] } else { all }
}

fn series(group: Group, name: &str, sizes: &[usize], growth: f64, work: impl Fn(usize) -> Work) -> Series {
    let points = sizes.iter().map(|&size| (size as u64, work(size))).collect();
    Series { group, name: name.to_owned(), points, growth }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_rise_and_a_training_step_has_the_same_tokens_at_every_length() {
        for series in plan(false) {
            assert!(series.points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{}", series.name);
            let tokens = series.points.iter().filter_map(|(_, work)| match work {
                Work::Training { rows, length, .. } => Some(rows * length),
                _ => None,
            });
            assert!(tokens.collect::<std::collections::BTreeSet<_>>().len() <= 1);
        }
    }
}
