//! The approximate index: a navigable small-world graph (Malkov and Yashunin, 2016). The only place that names the crate behind it.
//!
//! Points are inserted one after another in row order, because insertion from several threads gives another graph every time; the crate
//! draws levels from a constant seed. So equal vectors give an equal graph, and [`HnswIndex::hash`] can be compared between runs.

use std::cell::Cell;

use hnsw_rs::prelude::{Distance, Hnsw};

use super::exact::by_score_then_chunk;
use super::vector::{Vectors, dot};
use super::{Hit, RetrievalError};
use crate::spec::HnswSpec;

/// The crate's own bound on layers.
const MAX_LAYERS: usize = 16;
/// Most links per point and layer that the crate takes; above it, it ends the process.
const MAX_LINKS: usize = 256;
/// Estimated bytes of a link: a counted pointer to a counted (point, distance) pair.
const LINK_BYTES: usize = 40;
/// Estimated bytes of a point beside its vector: its record, and one list header per layer.
const POINT_BYTES: usize = 128 + MAX_LAYERS * 24;

thread_local! {
    /// Distances computed on this thread. A search or an insertion runs on one thread, so a difference of two readings is its exact count.
    static DISTANCES: Cell<u64> = const { Cell::new(0) };
}

/// Cosine distance of unit vectors, never negative (the crate panics on a negative distance), counted.
struct CountedCosine;

impl Distance<f32> for CountedCosine {
    fn eval(&self, left: &[f32], right: &[f32]) -> f32 {
        DISTANCES.set(DISTANCES.get() + 1);
        (1.0 - dot(left, right)).max(0.0)
    }
}

/// What one search gave, and the distances it computed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Best first; fewer than asked when the graph leads to fewer.
    pub hits: Vec<Hit>,
    /// Distances computed, a step of work: two operations per dimension each.
    pub distances: u64,
}

/// Links of one point: by layer, the rows it links to, nearest first.
type Links = Vec<Vec<usize>>;

/// A graph over the rows of a [`Vectors`].
pub struct HnswIndex {
    graph: Hnsw<'static, f32, CountedCosine>,
    ef_search: usize,
    build_distances: u64,
}

impl HnswIndex {
    /// Inserts every row of `vectors` (unit vectors) in order, on the calling thread.
    ///
    /// # Errors
    /// [`RetrievalError::Links`] when `m` is outside of 2 to 256.
    pub fn build(vectors: &Vectors, spec: &HnswSpec) -> Result<Self, RetrievalError> {
        if !(2..=MAX_LINKS).contains(&spec.m) {
            return Err(RetrievalError::Links { m: spec.m });
        }
        let start = DISTANCES.get();
        let graph = Hnsw::new(spec.m, vectors.len(), MAX_LAYERS, spec.ef_construction, CountedCosine);
        for (row, vector) in vectors.rows().enumerate() {
            graph.insert((vector, row));
        }
        Ok(Self { graph, ef_search: spec.ef_search, build_distances: DISTANCES.get() - start })
    }

    /// Distances computed while building.
    pub fn build_distances(&self) -> u64 {
        self.build_distances
    }

    /// About the `k` rows most similar to `query`, best first, ties by row. `vectors` must be those the graph was built over: hits are scored
    /// again with them, so that a score is the same here and in exact search.
    pub fn search(&self, vectors: &Vectors, query: &[f32], k: usize) -> Found {
        let start = DISTANCES.get();
        let rows = self.graph.search(query, k, self.ef_search);
        let distances = DISTANCES.get() - start;
        let mut hits: Vec<Hit> = rows.iter().map(|row| Hit { chunk: row.d_id, score: dot(query, vectors.row(row.d_id)) }).collect();
        hits.sort_unstable_by(by_score_then_chunk);
        Found { hits, distances }
    }

    /// The links of every point, in row order.
    fn links(&self) -> Vec<Links> {
        let mut links = vec![Links::new(); self.graph.get_nb_point()];
        if links.is_empty() {
            return links;
        }
        for point in self.graph.get_point_indexation() {
            let layers = point.get_neighborhood_id();
            links[point.get_origin_id()] = layers.iter().map(|layer| layer.iter().map(|link| link.d_id).collect()).collect();
        }
        links
    }

    /// The row at which every search starts: the first one inserted on the highest layer.
    fn entry(&self) -> Option<usize> {
        let layer = self.graph.get_max_level_observed();
        self.graph.get_point_indexation().get_layer_iterator(usize::from(layer)).next().map(|point| point.get_origin_id())
    }

    /// Rows that no search can reach, rising: neither down the upper layers from the entry point, nor from there along the lowest layer.
    pub fn unreachable(&self) -> Vec<usize> {
        unreachable_from(self.entry(), &self.links())
    }

    /// BLAKE3 over all links, in row order.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut number = |n: usize| {
            hasher.update(&(n as u64).to_le_bytes());
        };
        number(self.entry().unwrap_or(usize::MAX));
        for layers in self.links() {
            for layer in layers {
                number(layer.len());
                layer.into_iter().for_each(&mut number);
            }
        }
        hasher.finalize().to_string()
    }

    /// Estimate of the bytes that the graph and its own copy of the vectors hold.
    pub fn bytes(&self, vectors: &Vectors) -> u64 {
        let links: usize = self.links().iter().flatten().map(Vec::len).sum();
        vectors.bytes() + (links * LINK_BYTES + vectors.len() * POINT_BYTES) as u64
    }
}

/// Rows not reached from `entry`: first along the upper layers, then from all reached so far along layer 0.
fn unreachable_from(entry: Option<usize>, links: &[Links]) -> Vec<usize> {
    let mut reached = vec![false; links.len()];
    if let Some(entry) = entry {
        reached[entry] = true;
        spread(&mut reached, |row| links[row].iter().skip(1).flatten());
        spread(&mut reached, |row| links[row].iter().take(1).flatten());
    }
    (0..links.len()).filter(|&row| !reached[row]).collect()
}

/// Marks everything that `next` leads to from what is marked.
fn spread<'a, I: Iterator<Item = &'a usize>>(reached: &mut [bool], next: impl Fn(usize) -> I) {
    let mut frontier: Vec<usize> = (0..reached.len()).filter(|&row| reached[row]).collect();
    while let Some(row) = frontier.pop() {
        for &other in next(row) {
            if !std::mem::replace(&mut reached[other], true) {
                frontier.push(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exact;
    use super::super::vector::{normalise, testing::random_units};
    use super::*;
    use crate::rng::Rng;

    const DEFAULTS: HnswSpec = HnswSpec { m: 16, ef_construction: 200, ef_search: 64 };

    #[test]
    fn two_builds_give_the_same_graph_and_other_vectors_another() {
        let vectors = Vectors::from_rows(16, &random_units(300, 16, 1));
        let build = |vectors: &Vectors| HnswIndex::build(vectors, &DEFAULTS).unwrap();
        let (left, right) = (build(&vectors), build(&vectors));
        assert_eq!(left.links(), right.links());
        assert_eq!((left.hash(), left.build_distances()), (right.hash(), right.build_distances()));
        assert_ne!(left.hash(), build(&Vectors::from_rows(16, &random_units(300, 16, 2))).hash());
    }

    #[test]
    fn recall_against_exact_search_is_at_least_95_percent() {
        let vectors = Vectors::from_rows(64, &random_units(2000, 64, 3));
        let index = HnswIndex::build(&vectors, &DEFAULTS).unwrap();
        assert!(index.unreachable().is_empty());
        let queries = random_units(200, 64, 4);
        let mut kept = 0;
        for query in &queries {
            let exact = exact::search(&vectors, query, 10);
            let found = index.search(&vectors, query, 10);
            assert!(found.distances > 64 && found.distances < 2000, "{} distances", found.distances);
            kept += found.hits.iter().filter(|hit| exact.contains(hit)).count();
        }
        let recall = kept as f64 / 2000.0;
        assert!(recall >= 0.95, "recall@10 is {recall}");
    }

    #[test]
    fn nearly_every_point_finds_itself() {
        let vectors = Vectors::from_rows(32, &random_units(1000, 32, 5));
        let index = HnswIndex::build(&vectors, &DEFAULTS).unwrap();
        let lost = (0..1000).filter(|&row| index.search(&vectors, vectors.row(row), 1).hits[0].chunk != row).count();
        assert_eq!(lost, 0);
    }

    /// A tight cluster whose lists are full, then outliers: each links to the cluster, but no list of the cluster keeps them.
    fn cluster_with_outliers() -> Vectors {
        let mut rng = Rng::new(6, "cluster");
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for row in 0..120 {
            let axis = if row < 100 { 0 } else { 1 + row % 7 };
            let mut vector: Vec<f32> = (0..8).map(|i| f32::from(u8::from(i == axis)) + 0.02 * rng.normal() as f32).collect();
            normalise(&mut vector);
            rows.push(vector);
        }
        Vectors::from_rows(8, &rows)
    }

    #[test]
    fn unreachable_points_are_counted_and_indeed_never_found() {
        let vectors = cluster_with_outliers();
        let index = HnswIndex::build(&vectors, &HnswSpec { m: 3, ef_construction: 10, ef_search: 200 }).unwrap();
        let unreachable = index.unreachable();
        assert!(!unreachable.is_empty(), "the plan of this test does not work");
        for row in 0..vectors.len() {
            let found = index.search(&vectors, vectors.row(row), 120).hits.iter().any(|hit| hit.chunk == row);
            assert!(!(found && unreachable.contains(&row)), "row {row} was found though it counts as unreachable");
        }
    }

    #[test]
    fn reach_goes_down_the_layers_and_not_up_again() {
        // 0 -upper-> 1 -lowest-> 2 -upper-> 3: the upper link of 2 is of no use to a search that is already on the lowest layer.
        let links = vec![vec![vec![], vec![1]], vec![vec![2], vec![]], vec![vec![], vec![3]], vec![vec![], vec![]]];
        assert_eq!(unreachable_from(Some(0), &links), [3]);
        assert_eq!(unreachable_from(None, &links), [0, 1, 2, 3]);
    }

    #[test]
    fn equal_vectors_come_back_in_row_order() {
        let vectors = Vectors::from_rows(2, &vec![vec![1.0, 0.0]; 5]);
        let index = HnswIndex::build(&vectors, &DEFAULTS).unwrap();
        let rows: Vec<_> = index.search(&vectors, &[1.0, 0.0], 5).hits.iter().map(|hit| hit.chunk).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn too_few_or_too_many_links_are_refused() {
        let vectors = Vectors::from_rows(2, &[vec![1.0, 0.0]]);
        for m in [0, 1, 257] {
            assert!(HnswIndex::build(&vectors, &HnswSpec { m, ..DEFAULTS }).is_err());
        }
    }
}
