//! Colours, marks and sizes: fixed per variant, so that figures of different runs can be read side by side. Colour is never the only
//! carrier of meaning: every variant has a mark of its own.

use super::scene::{Color, Point, Scene};
use crate::spec::VariantKind;
use crate::table::Stage;

/// Background.
pub const PAPER: Color = Color(255, 255, 255);
/// Text and axes.
pub const INK: Color = Color(34, 34, 34);
/// Lesser text.
pub const SOFT: Color = Color(95, 95, 95);
/// Grid lines.
pub const GRID: Color = Color(226, 226, 226);

/// Em heights.
pub const TITLE_SIZE: f64 = 17.0;
#[expect(missing_docs, reason = "see `TITLE_SIZE`")]
pub const SUBTITLE_SIZE: f64 = 12.5;
#[expect(missing_docs, reason = "see `TITLE_SIZE`")]
pub const LABEL_SIZE: f64 = 13.0;

/// Colours of other systems, apart from those of the variants and the stages; labels tell apart what shares one.
const OTHERS: [Color; 5] = [Color(51, 34, 136), Color(153, 153, 51), Color(102, 17, 0), Color(0, 77, 64), Color(170, 68, 153)];

/// A name always has the same place, whatever stands beside it.
fn place_of(name: &str, places: usize) -> usize {
    name.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % places
}

/// Okabe and Ito's colours (distinct under the common colour deficiencies).
pub fn color(variant: VariantKind) -> Color {
    match variant {
        VariantKind::Baseline => Color(77, 77, 77),
        VariantKind::Rag => Color(0, 114, 178),
        VariantKind::Finetuned => Color(230, 159, 0),
        VariantKind::Hybrid => Color(0, 158, 115),
        VariantKind::HybridRaft => Color(204, 121, 167),
        VariantKind::Oracle => Color(86, 180, 233),
        VariantKind::Random => Color(213, 94, 0),
        VariantKind::Predicted(name) => OTHERS[place_of(name.as_str(), OTHERS.len())],
    }
}

/// Tol's muted colours, apart from those of the variants.
pub fn stage_color(stage: Stage) -> Color {
    match stage {
        Stage::Embed => Color(68, 170, 153),
        Stage::Search => Color(17, 119, 51),
        Stage::Lexical => Color(51, 34, 136),
        Stage::Rerank => Color(170, 68, 153),
        Stage::Prompt => Color(221, 204, 119),
        Stage::Prefill => Color(204, 102, 119),
        _ => Color(136, 34, 85),
    }
}

/// A shape that marks a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "shapes are what they are called")]
pub enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
    /// A triangle on its tip.
    Wedge,
    Pentagon,
    Star,
}

impl Mark {
    /// Draws it with radius `r`, with a thin rim of paper so that overlapping marks stay apart.
    pub fn draw(self, scene: &mut Scene, color: Color, at: Point, r: f64) {
        scene.area(self.outline(at, r + 1.2), PAPER);
        scene.area(self.outline(at, r), color);
    }

    fn outline(self, at: Point, r: f64) -> Vec<Point> {
        match self {
            Self::Circle => corners(at, r, 32, 0.0),
            Self::Square => corners(at, r * 1.2, 4, 0.125),
            Self::Triangle => corners(at, r * 1.25, 3, 0.0),
            Self::Diamond => corners(at, r * 1.25, 4, 0.0),
            Self::Wedge => corners(at, r * 1.25, 3, 0.5),
            Self::Pentagon => corners(at, r * 1.15, 5, 0.0),
            Self::Star => star(at, r * 1.35),
        }
    }
}

/// Draws the variant's mark of radius `r`.
pub fn mark(scene: &mut Scene, variant: VariantKind, at: Point, r: f64) {
    let shape = match variant {
        VariantKind::Baseline => Mark::Circle,
        VariantKind::Rag => Mark::Square,
        VariantKind::Finetuned => Mark::Triangle,
        VariantKind::Hybrid => Mark::Diamond,
        VariantKind::HybridRaft => Mark::Wedge,
        VariantKind::Oracle => Mark::Pentagon,
        VariantKind::Random => Mark::Star,
        VariantKind::Predicted(name) => {
            [Mark::Wedge, Mark::Pentagon, Mark::Star, Mark::Square][place_of(name.as_str(), OTHERS.len() + 1) % 4]
        }
    };
    shape.draw(scene, color(variant), at, r);
}

/// A regular polygon, its first corner at the top and turned by `turn` of a full turn.
fn corners((x, y): Point, r: f64, count: usize, turn: f64) -> Vec<Point> {
    let corner = |index: usize| {
        let angle = std::f64::consts::TAU * (index as f64 / count as f64 + turn);
        (x + r * angle.sin(), y - r * angle.cos())
    };
    (0..count).map(corner).collect()
}

fn star((x, y): Point, r: f64) -> Vec<Point> {
    let corner = |index: usize| {
        let angle = std::f64::consts::TAU * index as f64 / 8.0;
        let radius = if index.is_multiple_of(2) { r } else { r * 0.42 };
        (x + radius * angle.sin(), y - radius * angle.cos())
    };
    (0..8).map(corner).collect()
}
