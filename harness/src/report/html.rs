//! The report as one HTML file: styles and figures are in it, nothing is fetched, nothing is run. Every text is escaped by the template
//! engine; only the figures, which are ours, go in as they are.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};

use super::ReportError;
use super::plot::Figure;
use super::view::View;

const TEMPLATE: &str = include_str!("report.html.jinja");
const STYLE: &str = include_str!("report.css");

/// Renders the report.
pub(super) fn render(view: &View, figures: &[Figure]) -> Result<String, ReportError> {
    let mut svgs = BTreeMap::new();
    for figure in figures {
        svgs.insert(figure.name, Value::from_safe_string(figure.svg()?));
    }
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report.html", TEMPLATE).map_err(ReportError::Template)?;
    let template = environment.get_template("report.html").map_err(ReportError::Template)?;
    template
        .render(context! { view => Value::from(Serde(view)), svgs => svgs, style => Value::from_safe_string(STYLE.to_owned()) })
        .map_err(ReportError::Template)
}
