//! A picture as a list of lines, filled shapes and texts in logical pixels; knows nothing of files or formats.

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// Which point of a text its position names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Left end, middle height.
    Start,
    /// Centre.
    Middle,
    /// Right end, middle height.
    End,
}

/// A position: x to the right, y down.
pub type Point = (f64, f64);

/// One thing to draw.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Connected segments.
    Line {
        /// Corners.
        points: Vec<Point>,
        /// Of the stroke.
        color: Color,
        /// Of the stroke.
        width: f64,
    },
    /// A filled area without outline.
    Area {
        /// Corners.
        points: Vec<Point>,
        /// Of the filling.
        color: Color,
    },
    /// A line of text.
    Text {
        /// Where.
        at: Point,
        /// What.
        text: String,
        /// Em height.
        size: f64,
        /// Of the letters.
        color: Color,
        /// Which point of it stands at `at`.
        anchor: Anchor,
        /// A quarter turn to the left.
        turned: bool,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Logical pixels.
    pub width: f64,
    /// Logical pixels.
    pub height: f64,
    /// In drawing order.
    pub shapes: Vec<Shape>,
}

impl Scene {
    /// An empty picture.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    /// Connected segments.
    pub fn line(&mut self, points: Vec<Point>, color: Color, width: f64) {
        self.shapes.push(Shape::Line { points, color, width });
    }

    /// A dashed straight segment.
    pub fn dashed(&mut self, from: Point, to: Point, color: Color, width: f64) {
        const DASH: f64 = 4.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |distance: f64| {
            let part = (distance / length).min(1.0);
            (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1))
        };
        let dashes = (length / (2.0 * DASH)).ceil() as usize;
        for dash in 0..dashes {
            let start = dash as f64 * 2.0 * DASH;
            self.line(vec![at(start), at(start + DASH)], color, width);
        }
    }

    /// A filled area.
    pub fn area(&mut self, points: Vec<Point>, color: Color) {
        self.shapes.push(Shape::Area { points, color });
    }

    /// A filled rectangle between two corners.
    pub fn rect(&mut self, (left, top): Point, (right, bottom): Point, color: Color) {
        self.area(vec![(left, top), (right, top), (right, bottom), (left, bottom)], color);
    }

    /// A level line of text.
    pub fn text(&mut self, at: Point, text: &str, size: f64, color: Color, anchor: Anchor) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, color, anchor, turned: false });
    }

    /// A text that reads upwards, centred on `at`.
    pub fn turned_text(&mut self, at: Point, text: &str, size: f64, color: Color) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, color, anchor: Anchor::Middle, turned: true });
    }

    /// A level interval with end caps.
    pub fn whisker_x(&mut self, y: f64, from: f64, to: f64, color: Color) {
        const CAP: f64 = 3.5;
        self.line(vec![(from, y), (to, y)], color, 1.6);
        self.line(vec![(from, y - CAP), (from, y + CAP)], color, 1.6);
        self.line(vec![(to, y - CAP), (to, y + CAP)], color, 1.6);
    }

    /// An upright interval with end caps.
    pub fn whisker_y(&mut self, x: f64, from: f64, to: f64, color: Color) {
        const CAP: f64 = 3.5;
        self.line(vec![(x, from), (x, to)], color, 1.6);
        self.line(vec![(x - CAP, from), (x + CAP, from)], color, 1.6);
        self.line(vec![(x - CAP, to), (x + CAP, to)], color, 1.6);
    }
}
