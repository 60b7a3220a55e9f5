//! `--shard`: which part of a run this process is to answer, as written or as a scheduler says it.

use crate::store::manifest::Shard;

/// Slurm's number of this task of an array.
const SLURM_TASK: &str = "SLURM_ARRAY_TASK_ID";
/// Kubernetes' number of this pod of an indexed job, from 0.
const KUBERNETES_POD: &str = "JOB_COMPLETION_INDEX";

/// Reads `2/4`, `auto/4` (the index from the scheduler) or `auto` (both from the scheduler).
///
/// # Errors
/// What is wrong, in words.
pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| -> Result<Option<usize>, String> {
        let read = |value: String| value.parse().map_err(|_| format!("`{name}` is `{value}`, expected a number"));
        variable(name).map(read).transpose()
    };
    let (index, of) = match text.split_once('/') {
        Some(("auto", of)) => (index_of_array(&number)?, count(text, of)?),
        Some((index, of)) => (count(text, index)?, count(text, of)?),
        None if text == "auto" => whole_array(&number)?,
        None => return Err(expected(text)),
    };
    if index == 0 || index > of {
        return Err(format!("shard {index} of {of} does not exist: shards are numbered from 1 to {of}"));
    }
    Ok(Shard { index, of })
}

fn expected(text: &str) -> String {
    format!("`--shard {text}`: expected `I/N` with I from 1 to N, `auto/N` or `auto`")
}

fn count(text: &str, part: &str) -> Result<usize, String> {
    part.parse().map_err(|_| expected(text))
}

/// The index alone: a task that is submitted again alone still knows which one it is.
fn index_of_array(number: &impl Fn(&str) -> Result<Option<usize>, String>) -> Result<usize, String> {
    if let Some(task) = number(SLURM_TASK)? {
        return Ok(task);
    }
    match number(KUBERNETES_POD)? {
        Some(pod) => Ok(pod + 1),
        None => {
            Err(format!("`--shard auto/N` takes the index from `{SLURM_TASK}` (1 to N) or `{KUBERNETES_POD}` (from 0); neither is set"))
        }
    }
}

/// Index and number of shards. Only Slurm tells both.
fn whole_array(number: &impl Fn(&str) -> Result<Option<usize>, String>) -> Result<(usize, usize), String> {
    let Some(task) = number(SLURM_TASK)? else {
        let hint = if number(KUBERNETES_POD)?.is_some() { "Kubernetes does not tell how many pods there are" } else { "it is not set" };
        return Err(format!("`--shard auto` reads Slurm's `{SLURM_TASK}`, and {hint}; give the number of shards: `--shard auto/N`"));
    };
    let of = number("SLURM_ARRAY_TASK_COUNT")?.ok_or("`SLURM_ARRAY_TASK_COUNT` is not set; give the number of shards: `--shard auto/N`")?;
    let (least, step) = (number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(1), number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1));
    Ok((task.saturating_sub(least) / step + 1, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        parse(text, variable).map(|shard| (shard.index, shard.of))
    }

    #[test]
    fn a_shard_is_written_as_one_of_so_many() {
        assert_eq!(read("2/4", &[]), Ok((2, 4)));
        assert!(read("0/4", &[]).unwrap_err().contains("numbered from 1 to 4"));
        assert!(read("5/4", &[]).is_err());
        for wrong in ["2", "a/4", "2/", "", "-1/4"] {
            assert!(read(wrong, &[]).unwrap_err().contains("expected `I/N`"), "{wrong}");
        }
    }

    #[test]
    fn slurm_tells_index_and_number() {
        let array =
            [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_MIN", "3"), ("SLURM_ARRAY_TASK_COUNT", "5"), ("SLURM_ARRAY_TASK_STEP", "2")];
        assert_eq!(read("auto", &array), Ok((3, 5)));
        // A single task that is submitted again is an array of one; only the number that was given says of what.
        assert_eq!(read("auto/8", &[("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "1")]), Ok((7, 8)));
        assert!(read("auto/4", &array).is_err());
    }

    #[test]
    fn kubernetes_tells_the_index_from_zero() {
        assert_eq!(read("auto/4", &[("JOB_COMPLETION_INDEX", "0")]), Ok((1, 4)));
        assert!(read("auto", &[("JOB_COMPLETION_INDEX", "0")]).unwrap_err().contains("--shard auto/N"));
        assert!(read("auto/4", &[("JOB_COMPLETION_INDEX", "x")]).unwrap_err().contains("expected a number"));
        assert!(read("auto/4", &[]).unwrap_err().contains("neither is set"));
    }
}
