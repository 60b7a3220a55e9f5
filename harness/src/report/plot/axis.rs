//! Scales, ticks and the frame of a figure: title, legend, grid, axis titles.

use super::render::text_width;
use super::scene::{Anchor, Color, Point, Scene};
use super::style::{GRID, INK, LABEL_SIZE, Mark, PAPER, SOFT, SUBTITLE_SIZE, TITLE_SIZE, mark};
use crate::report::format;
use crate::spec::VariantKind;

/// Values to a stretch of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// A linear scale from `low` to `high` over pixels `from` to `to`.
    pub fn linear((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, is_log: false, from, to }
    }

    /// A logarithmic scale over whole decades; values must be positive.
    pub fn log((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let (low, high) = (low.log10(), high.log10());
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, is_log: true, from, to }
    }

    /// Pixel of a value, kept on the scale.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + part * (self.to - self.from)
    }

    /// Values to mark, about `count` of them: multiples of 1, 2 or 5, or decades.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let step = if self.is_log { ((self.high - self.low) / count as f64).ceil().max(1.0) } else { step(self.high - self.low, count) };
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        let value = |index: i64| if self.is_log { 10f64.powf(index as f64 * step) } else { index as f64 * step };
        (first..=last).map(value).collect()
    }
}

fn step(span: f64, count: usize) -> f64 {
    let rough = span / count as f64;
    let decade = 10f64.powf(rough.log10().floor());
    let fits = |factor: &&f64| decade * **factor >= rough * 0.999;
    decade * [1.0, 2.0, 5.0, 10.0].iter().find(fits).copied().unwrap_or(10.0)
}

/// Where the data of a figure goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left edge in pixels.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// What a legend shows beside a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    /// The mark of a variant.
    Variant(VariantKind),
    /// A mark in a colour.
    Mark(Mark, Color),
    /// A patch of colour.
    Patch(Color),
}

/// Draws title and subtitle; gives the y below them.
pub fn title(scene: &mut Scene, title: &str, subtitle: &str) -> f64 {
    scene.text((16.0, 22.0), title, TITLE_SIZE, INK, Anchor::Start);
    let mut y = 43.0;
    for line in wrap(subtitle, SUBTITLE_SIZE, scene.width - 32.0) {
        scene.text((16.0, y), &line, SUBTITLE_SIZE, SOFT, Anchor::Start);
        y += 17.0;
    }
    y - 3.0
}

/// Breaks a text into lines no wider than `width`.
fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if line.is_empty() || text_width(&longer, size) <= width {
            *line = longer;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Draws a legend in rows from `y` down; gives the y below it.
pub fn legend(scene: &mut Scene, keys: &[(Key, String)], y: f64) -> f64 {
    let (mut x, mut y) = (16.0, y + 12.0);
    for (key, name) in keys {
        let width = 20.0 + text_width(name, LABEL_SIZE) + 18.0;
        if x + width > scene.width && x > 16.0 {
            (x, y) = (16.0, y + 20.0);
        }
        match key {
            Key::Variant(variant) => {
                mark(scene, *variant, (x + 8.0, y), 5.0);
            }
            Key::Mark(shape, color) => shape.draw(scene, *color, (x + 8.0, y), 5.0),
            Key::Patch(color) => scene.rect((x + 2.0, y - 5.5), (x + 14.0, y + 5.5), *color),
        }
        scene.text((x + 22.0, y), name, LABEL_SIZE, INK, Anchor::Start);
        x += width + 4.0;
    }
    y + 16.0
}

impl Frame {
    /// Grid lines and labels of the horizontal axis, with its title below.
    pub fn x_axis(&self, scene: &mut Scene, scale: &Scale, title: &str, label: impl Fn(f64) -> String) {
        self.x_axis_at(scene, scale, &scale.ticks(6), title, label);
    }

    /// The same with lines at these values.
    pub fn x_axis_at(&self, scene: &mut Scene, scale: &Scale, ticks: &[f64], title: &str, label: impl Fn(f64) -> String) {
        for &tick in ticks {
            let x = scale.at(tick);
            scene.line(vec![(x, self.top), (x, self.bottom)], GRID, 1.0);
            scene.text((x, self.bottom + 14.0), &label(tick), LABEL_SIZE, INK, Anchor::Middle);
        }
        scene.line(vec![(self.left, self.bottom), (self.right, self.bottom)], INK, 1.0);
        scene.text((f64::midpoint(self.left, self.right), self.bottom + 36.0), title, LABEL_SIZE, INK, Anchor::Middle);
    }

    /// Grid lines and labels of the upright axis, with its title at the left edge.
    pub fn y_axis(&self, scene: &mut Scene, scale: &Scale, title: &str, label: impl Fn(f64) -> String) {
        self.y_axis_at(scene, scale, &scale.ticks(5), title, label);
    }

    /// The same with lines at these values.
    pub fn y_axis_at(&self, scene: &mut Scene, scale: &Scale, ticks: &[f64], title: &str, label: impl Fn(f64) -> String) {
        for &tick in ticks {
            let y = scale.at(tick);
            scene.line(vec![(self.left, y), (self.right, y)], GRID, 1.0);
            scene.text((self.left - 8.0, y), &label(tick), LABEL_SIZE, INK, Anchor::End);
        }
        scene.turned_text((16.0, f64::midpoint(self.top, self.bottom)), title, LABEL_SIZE, INK);
    }

    /// Names of rows at the left, one at each height.
    pub fn row_labels(&self, scene: &mut Scene, rows: &[(f64, String)]) {
        for (y, name) in rows {
            scene.text((self.left - 10.0, *y), name, LABEL_SIZE, INK, Anchor::End);
        }
    }

    /// A label beside a mark, on a patch of paper so that grid lines do not cross it.
    pub fn value(&self, scene: &mut Scene, at: Point, text: &str) {
        let width = text_width(text, LABEL_SIZE);
        scene.rect((at.0 - 2.0, at.1 - 8.0), (at.0 + width, at.1 + 8.0), PAPER);
        scene.text(at, text, LABEL_SIZE, INK, Anchor::Start);
    }
}

/// Space that the longest of the names needs left of the data.
pub fn label_space<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    names.map(|name| text_width(name, LABEL_SIZE)).fold(40.0, f64::max) + 26.0
}

/// Tick label of a share between 0 and 1.
pub fn percent_tick(value: f64) -> String {
    format!("{:.0}%", value * 100.0)
}

/// Tick label of a positive number of any size.
pub fn plain_tick(value: f64) -> String {
    format::quantity(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        let scale = Scale::linear((0.0, 1.0), (0.0, 100.0));
        assert_eq!(scale.ticks(5).len(), 6);
        assert_eq!(scale.at(0.25), 25.0);
        let scale = Scale::log((1.0, 1e6), (0.0, 60.0));
        assert_eq!(scale.ticks(6), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
        assert_eq!(scale.at(100.0), 20.0);
    }

    #[test]
    fn long_subtitles_wrap_at_words() {
        let text = "one two three four five six seven eight nine ten";
        let lines = wrap(text, 12.0, 120.0);
        assert!(lines.len() > 1);
        assert_eq!(lines.join(" "), text);
        assert!(lines.iter().all(|line| text_width(line, 12.0) <= 120.0));
    }
}
