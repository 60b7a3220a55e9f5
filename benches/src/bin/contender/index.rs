//! The HNSW index: built over vectors from a file, then searched one query after another.

use anyhow::{Context as _, Result, ensure};
use ragft::clock::Stopwatch;
use ragft::retrieval::hnsw::HnswIndex;
use ragft::retrieval::vector::Vectors;
use ragft::spec::HnswSpec;
use serde_json::json;

use crate::Settings;
use crate::protocol::{Channel, Command, IndexWork};

/// Answers commands until the input ends; every command builds the index anew.
pub fn serve(_settings: &Settings, work: IndexWork, channel: &mut Channel) -> Result<()> {
    let (vectors, queries) = load(&work)?;
    let mut next = Some(work);
    while let Some(work) = next {
        let spec = HnswSpec { m: work.m, ef_construction: work.ef_construction, ef_search: work.ef_search };
        let mut watch = Stopwatch::start();
        let index = HnswIndex::build(&vectors, &spec)?;
        let build_seconds = watch.lap().as_secs_f64();
        let found: Vec<_> = queries.iter().map(|query| index.search(&vectors, query, work.top_k)).collect();
        let search_seconds = watch.elapsed().as_secs_f64();
        let ids: Vec<Vec<usize>> = found.iter().map(|found| found.hits.iter().map(|hit| hit.chunk).collect()).collect();
        channel.answer(json!({
            "build_seconds": build_seconds,
            "search_seconds": search_seconds,
            "vectors": vectors.len(),
            "queries": queries.len(),
            "ids": ids,
        }))?;
        next = channel.next_as(|command| if let Command::Index(work) = command { Some(work) } else { None })?;
    }
    Ok(())
}

/// The vectors to index, and the queries.
fn load(work: &IndexWork) -> Result<(Vectors, Vec<Vec<f32>>)> {
    let path = work.vectors.display();
    let bytes = std::fs::read(&work.vectors).with_context(|| format!("cannot read `{path}`"))?;
    ensure!(work.dimension > 0 && bytes.len().is_multiple_of(4 * work.dimension), "`{path}` holds no rows of {} f32", work.dimension);
    let float = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    let mut rows: Vec<Vec<f32>> = bytes.chunks_exact(4 * work.dimension).map(|row| row.chunks_exact(4).map(float).collect()).collect();
    ensure!(rows.len() > work.queries, "`{path}` holds {} rows, of which {} would be queries", rows.len(), work.queries);
    let queries = rows.split_off(rows.len() - work.queries);
    Ok((Vectors::from_rows(work.dimension, &rows), queries))
}
