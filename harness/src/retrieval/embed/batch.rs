//! Many texts through an encoder: packed into groups that run in parallel, one thread each. The way they are packed, the order and the number
//! of threads do not change a bit of what is read (see [`super::encoder`]).

use rayon::prelude::*;

use super::super::RetrievalError;
use super::encoder::{Encoder, Row};
use crate::kernel::{Team, with_team};

/// Tokens of a group: enough rows for the matrix kernels, few enough that their states stay near the processor.
const GROUP_TOKENS: usize = 512;

/// What `read` makes of the last layer's states of every row, `[tokens, hidden]`, in order; nothing for an empty row.
///
/// # Errors
/// [`RetrievalError::Token`] for a token without weights.
pub(super) fn read_states<R: Send>(
    encoder: &Encoder,
    rows: &[Row],
    read: &(impl Fn(&[f32]) -> R + Sync),
) -> Result<Vec<Option<R>>, RetrievalError> {
    let vocabulary = encoder.vocabulary();
    if let Some(&token) = rows.iter().flat_map(|row| row.ids).find(|&&token| token as usize >= vocabulary) {
        return Err(RetrievalError::Token { token, vocabulary });
    }
    let threads = rayon::current_num_threads();
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    // A few texts are spread over all threads.
    let groups = group(&lengths, GROUP_TOKENS.min(lengths.iter().sum::<usize>().div_ceil(threads)));
    let found: Vec<Vec<R>> = if groups.len() < threads {
        with_team(threads, |team| groups.iter().map(|group| read_group(encoder, rows, group, team, read)).collect())
    } else {
        groups.par_iter().with_max_len(1).map(|group| read_group(encoder, rows, group, &Team::solo(), read)).collect()
    };
    let mut results: Vec<Option<R>> = rows.iter().map(|_| None).collect();
    for (index, result) in groups.into_iter().flatten().zip(found.into_iter().flatten()) {
        results[index] = Some(result);
    }
    Ok(results)
}

/// [`read_states`] for the rows that a group names, none of them empty.
pub(super) fn read_group<R>(encoder: &Encoder, rows: &[Row], group: &[usize], team: &Team, read: &impl Fn(&[f32]) -> R) -> Vec<R> {
    let texts: Vec<Row> = group.iter().map(|&index| rows[index]).collect();
    encoder.with_states(&texts, team, |mut states| {
        let read_own = |text: &Row| {
            let (own, others) = states.split_at(text.ids.len() * encoder.hidden());
            states = others;
            read(own)
        };
        texts.iter().map(read_own).collect()
    })
}

/// Cuts rows into groups of at most `most` tokens; a longer row is a group of its own. Longest first, so that what is left at the end, while
/// other threads have nothing more to do, is small. Empty rows are in no group.
pub(super) fn group(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&row| lengths[row] > 0).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for row in order {
        match groups.last_mut() {
            Some(group) if lengths[row] <= room => group.push(row),
            _ => {
                groups.push(vec![row]);
                room = most.max(lengths[row]);
            }
        }
        room -= lengths[row];
    }
    groups
}
