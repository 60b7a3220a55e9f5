//! The report as one HTML file: styles, figures and one script are in it, nothing is fetched. Every text is escaped by the template engine;
//! only the figures and the script, which are ours, go in as they are. The script searches and sorts what the page already shows; no text of
//! the run is ever part of it, and the page's policy lets no other script run: it is named by a number that follows from the whole content,
//! which no text of the run can know.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};

use super::ReportError;
use super::plot::Figure;
use super::view::View;

const TEMPLATE: &str = include_str!("report.html.jinja");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

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
    let content = serde_json::to_vec(view).expect("a view is plain data");
    let own = |text: &str| Value::from_safe_string(text.to_owned());
    let values = context! {
        view => Value::from(Serde(view)),
        svgs => svgs,
        style => own(STYLE),
        script => own(SCRIPT),
        nonce => blake3::hash(&content).to_hex()[..32].to_owned(),
    };
    template.render(values).map_err(ReportError::Template)
}
