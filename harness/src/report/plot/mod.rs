//! Figures: each is a pure function of tables and ledger to a [`Figure`], written as `.svg`, `.png` and the `.csv` it was drawn from.

pub mod axis;
mod contrast;
mod cost;
mod decision;
mod interaction;
mod ladder;
mod latency;
mod pretraining;
mod quality;
pub mod render;
pub mod scene;
mod strata;
pub mod style;
mod training;
pub mod trend;

use std::path::Path;

use rayon::prelude::*;

use crate::cost::{Decision, Ledger};
use crate::report::ReportError;
use crate::store::write_atomic;
use crate::table::Tables;
pub use pretraining::pretraining;
use scene::Scene;

/// A picture with what it says and what it was drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// File stem.
    pub name: &'static str,
    /// Heading.
    pub title: String,
    /// What to see in it and how it was made.
    pub caption: String,
    /// The picture.
    pub scene: Scene,
    /// The data, header first.
    pub data: Vec<Vec<String>>,
}

impl Figure {
    /// The picture as SVG.
    pub fn svg(&self) -> Result<String, ReportError> {
        render::svg(&self.scene, &self.title)
    }

    fn csv(&self) -> String {
        self.data.iter().map(|row| row.iter().map(|cell| csv_cell(cell)).collect::<Vec<_>>().join(",") + "\n").collect()
    }
}

fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// One line of a figure's data.
macro_rules! line {
    ($($cell:expr),* $(,)?) => { vec![$($cell.to_string()),*] };
}
use line;

/// All figures that the run has data for, in the order of the report.
pub fn figures(tables: &Tables, ledger: &Ledger, decision: Option<&Decision>) -> Vec<Figure> {
    let all = [
        quality::accuracy(tables),
        contrast::forest(tables),
        interaction::square(tables),
        quality::slices(tables),
        strata::strata(tables),
        quality::tradeoff(tables),
        ladder::causes(tables),
        latency::ecdf(tables),
        latency::stages(tables),
        cost::over_queries(tables, ledger),
        decision.and_then(|decision| decision::map(tables, decision)),
        training::curve(tables),
    ];
    all.into_iter().flatten().collect()
}

/// Writes the figures into `folder`.
pub fn write(folder: &Path, figures: &[Figure]) -> Result<(), ReportError> {
    figures.par_iter().try_for_each(|figure| write_as(&folder.join(figure.name), figure))
}

/// Writes one figure; the endings are added to the path.
pub fn write_as(path: &Path, figure: &Figure) -> Result<(), ReportError> {
    let with = |ending: &str| std::path::PathBuf::from(format!("{}.{ending}", path.display()));
    write_atomic(&with("csv"), figure.csv().as_bytes())?;
    write_atomic(&with("svg"), figure.svg()?.as_bytes())?;
    render::write_png(&figure.scene, &with("png"))
}
