//! A [`Scene`] as SVG text and as PNG file. The only place that names plotters.

use std::path::Path;
use std::sync::Once;

use plotters::prelude::{BitMapBackend, DrawingBackend, IntoDrawingArea, PathElement, Polygon, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontStyle, FontTransform, IntoFont, ShapeStyle, TextStyle, register_font};

use super::scene::{Anchor, Color, Scene, Shape};
use crate::report::ReportError;

/// Coordinates of the backends are whole numbers, so an SVG is drawn larger and scaled by its view box.
const SVG_SCALE: f64 = 8.0;
/// Pixels per logical pixel of a PNG, and the larger raster that it is averaged down from (plotters' areas have hard edges).
const PNG_SCALE: u32 = 2;
const OVERSAMPLE: u32 = 2;
/// Font height over em, with line gap, of the font that ships.
const FONT_LINE_HEIGHT: f64 = 1.149;
/// plotters' SVG backend divides sizes by 1.24 and centres a text on half its x-height.
const SVG_FONT: FontFit = FontFit { per_em: 1.24, lower: 0.0 };
/// Its bitmap backend takes sizes as line heights, and centres a text too high by about this.
const PNG_FONT: FontFit = FontFit { per_em: FONT_LINE_HEIGHT, lower: 0.2 };

/// What makes a text look the same from both backends.
#[derive(Debug, Clone, Copy)]
struct FontFit {
    /// The backend's font size per em.
    per_em: f64,
    /// Ems by which a text must go down to stand where it was asked for.
    lower: f64,
}
const FONT: &str = "sans-serif";

fn ensure_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let is_font = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok();
        assert!(is_font, "the font that ships is a font");
    });
}

/// Width of a text in logical pixels, with some room for a browser's wider font.
pub fn text_width(text: &str, size: f64) -> f64 {
    ensure_font();
    let font = (FONT, size * 10.0 * FONT_LINE_HEIGHT).into_font();
    let (width, _) = font.box_size(text).expect("the font is registered");
    f64::from(width) / 10.0 * 1.1
}

/// The picture as one SVG element with its logical size.
pub fn svg(scene: &Scene, title: &str) -> Result<String, ReportError> {
    ensure_font();
    let (width, height) = ((scene.width * SVG_SCALE) as u32, (scene.height * SVG_SCALE) as u32);
    let mut text = String::new();
    draw(scene, SVGBackend::with_string(&mut text, (width, height)), SVG_SCALE, SVG_FONT)?;
    let sized = format!("<svg width=\"{}\" height=\"{}\" role=\"img\" aria-label=\"{}\"", scene.width, scene.height, escape(title));
    Ok(text.replacen(&format!("<svg width=\"{width}\" height=\"{height}\""), &sized, 1))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Writes the picture as PNG, replacing the file whole.
pub fn write_png(scene: &Scene, path: &Path) -> Result<(), ReportError> {
    ensure_font();
    let scale = PNG_SCALE * OVERSAMPLE;
    let (width, height) = (scene.width as u32 * scale, scene.height as u32 * scale);
    let mut large = vec![0; (width * height * 3) as usize];
    draw(scene, BitMapBackend::with_buffer(&mut large, (width, height)), f64::from(scale), PNG_FONT)?;
    let size = (width / OVERSAMPLE, height / OVERSAMPLE);
    let pixels = average(&large, width as usize, size);
    let folder = path.parent().expect("a file stands in a folder");
    let file = tempfile::Builder::new().suffix(".png").tempfile_in(folder).map_err(|error| ReportError::write(path, error))?;
    let mut backend = BitMapBackend::new(file.path(), size);
    backend.blit_bitmap((0, 0), size, &pixels).map_err(ReportError::draw)?;
    backend.present().map_err(ReportError::draw)?;
    drop(backend);
    file.persist(path).map_err(|error| ReportError::write(path, error.error))?;
    Ok(())
}

/// Averages squares of `OVERSAMPLE` pixels.
fn average(large: &[u8], large_width: usize, (width, height): (u32, u32)) -> Vec<u8> {
    let step = OVERSAMPLE as usize;
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height as usize {
        for x in 0..width as usize {
            for channel in 0..3 {
                let at = |dx, dy| usize::from(large[((y * step + dy) * large_width + x * step + dx) * 3 + channel]);
                let sum: usize = (0..step * step).map(|cell| at(cell % step, cell / step)).sum();
                pixels.push((sum / (step * step)) as u8);
            }
        }
    }
    pixels
}

fn draw<B: DrawingBackend>(scene: &Scene, backend: B, scale: f64, fit: FontFit) -> Result<(), ReportError> {
    let area = backend.into_drawing_area();
    area.fill(&rgb(super::style::PAPER)).map_err(ReportError::draw)?;
    let at = |(x, y): (f64, f64)| ((x * scale).round() as i32, (y * scale).round() as i32);
    for shape in &scene.shapes {
        let drawn = match shape {
            Shape::Line { points, color, width } => {
                let stroke =
                    ShapeStyle { color: rgb(*color).to_rgba(), filled: false, stroke_width: (width * scale).round().max(1.0) as u32 };
                area.draw(&PathElement::new(points.iter().map(|point| at(*point)).collect::<Vec<_>>(), stroke))
            }
            Shape::Area { points, color } => {
                area.draw(&Polygon::new(points.iter().map(|point| at(*point)).collect::<Vec<_>>(), rgb(*color).filled()))
            }
            Shape::Text { at: position, text, size, color, anchor, turned } => {
                let font = (FONT, size * scale * fit.per_em).into_font();
                let font = if *turned { font.transform(FontTransform::Rotate270) } else { font };
                let ink = rgb(*color);
                let style = TextStyle::from(font).color(&ink).pos(Pos::new(horizontal(*anchor), VPos::Center));
                let lower = fit.lower * size;
                let (x, y) = *position;
                area.draw_text(text, &style, at(if *turned { (x + lower, y) } else { (x, y + lower) }))
            }
        };
        drawn.map_err(ReportError::draw)?;
    }
    area.present().map_err(ReportError::draw)
}

fn horizontal(anchor: Anchor) -> HPos {
    match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    }
}

fn rgb(Color(red, green, blue): Color) -> RGBColor {
    RGBColor(red, green, blue)
}
