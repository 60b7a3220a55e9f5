//! How numbers are written, in one place.

use crate::stats::Estimate;
use crate::table::Metric;
use crate::table::metric::SHARE;

/// What stands where nothing was measured.
pub const NOT_MEASURED: &str = "not measured";

/// With so many significant digits, never in scientific form.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value.is_infinite() { "unbounded".to_owned() } else { "0".to_owned() };
    }
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if value.abs() >= 1000.0 { grouped(&text) } else { text }
}

/// A whole number with thousands apart.
pub fn count(value: f64) -> String {
    grouped(&format!("{value:.0}"))
}

fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, rest) = digits.split_once('.').map_or((digits, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Three digits at most, without zeros at the end of a fraction.
fn trimmed(value: f64) -> String {
    let text = significant(value, 3);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A large number in words: `685`, `20,000`, `242 million`.
pub fn large(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e12, "trillion"), (1e9, "billion"), (1e6, "million")];
    match UNITS.iter().find(|(size, _)| value >= *size * 0.9995) {
        Some((size, unit)) => format!("{} {unit}", trimmed(value / size)),
        None => count(value),
    }
}

/// A quantity of any size in three digits at most: `0.002`, `40`, `12k`, `1.5M`, `3G`; very small ones as powers of ten.
pub fn quantity(value: f64) -> String {
    const UNITS: [(f64, &str); 6] = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    if value != 0.0 && value.abs() < 0.00099 {
        let exponent = value.abs().log10().floor();
        let factor = value / 10f64.powf(exponent);
        return if (factor - 1.0).abs() < 1e-6 { format!("1e{exponent}") } else { format!("{}e{exponent}", trimmed(factor)) };
    }
    match UNITS.iter().find(|(size, _)| value.abs() >= *size * 0.9995) {
        Some((size, unit)) => format!("{}{unit}", trimmed(value / size)),
        None => trimmed(value),
    }
}

/// A number of bytes in binary units.
pub fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [((1u64 << 30) as f64, "GiB"), ((1u64 << 20) as f64, "MiB"), (1024.0, "KiB")];
    match UNITS.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", significant(value / size, 3)),
        None => format!("{value:.0} B"),
    }
}

/// Seconds in the unit that reads best.
pub fn duration(seconds: f64) -> String {
    if seconds == 0.0 {
        "0 s".to_owned()
    } else if seconds < 1e-3 {
        format!("{} µs", significant(seconds * 1e6, 3))
    } else if seconds < 1.0 {
        format!("{} ms", significant(seconds * 1e3, 3))
    } else if seconds < 120.0 {
        format!("{} s", significant(seconds, 3))
    } else {
        format!("{} min", significant(seconds / 60.0, 3))
    }
}

/// Money in two decimals; what would round to nothing is `under 0.01`.
pub fn money(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.is_infinite() {
        "unbounded".to_owned()
    } else if value < 0.005 {
        "under 0.01".to_owned()
    } else {
        grouped(&format!("{value:.2}"))
    }
}

/// How many queries to price together, and that number in words, so that two decimals show all of these prices per query.
pub fn priced_together(per_query: impl Iterator<Item = f64>) -> (f64, &'static str) {
    const SIZES: [(f64, &str); 3] = [(1e3, "1,000"), (1e6, "1 million"), (1e9, "1 billion")];
    let least = per_query.filter(|price| *price > 0.0).fold(f64::INFINITY, f64::min);
    SIZES.into_iter().find(|(size, _)| least * size >= 0.01).unwrap_or(SIZES[2])
}

/// A value of a metric: shares as percent.
pub fn score(value: f64, metric: &Metric) -> String {
    if metric.unit == SHARE && value.is_finite() { format!("{:.1}", value * 100.0) } else { significant(value, 3) }
}

/// `66.2 (62.1 to 70.3)`.
pub fn estimate(estimate: &Estimate, metric: &Metric) -> String {
    format!("{} {}", score(estimate.point, metric), interval(estimate, metric))
}

/// `(62.1 to 70.3)`.
pub fn interval(estimate: &Estimate, metric: &Metric) -> String {
    format!("({} to {})", score(estimate.ci_low, metric), score(estimate.ci_high, metric))
}

/// A difference with its sign: `+42.1`.
pub fn signed(value: f64, metric: &Metric) -> String {
    let text = score(value, metric);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

/// `p = 0.003`, `p < 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {}", significant(p, if p < 0.1 { 2 } else { 3 }).trim_end_matches(".00")) }
}

/// With a capital first letter.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// At most `length` characters, cut with an ellipsis, on one line. Characters that are not seen but change how others are (controls,
/// directions of writing) are named instead.
pub fn shortened(text: &str, length: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = if line.chars().count() <= length { line } else { line.chars().take(length - 1).chain(['…']).collect() };
    if !cut.contains(is_hidden) {
        return cut;
    }
    let name = |letter: char| if is_hidden(letter) { format!("⟨U+{:04X}⟩", u32::from(letter)) } else { letter.to_string() };
    cut.chars().map(name).collect()
}

fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(significant(1234.6, 3), "1,235");
        assert_eq!(significant(0.012345, 3), "0.0123");
        assert_eq!(count(1234567.0), "1,234,567");
        assert_eq!(quantity(20_000.0), "20k");
        assert_eq!(quantity(1_530_000.0), "1.53M");
        assert_eq!(quantity(1e-6), "1e-6");
        assert_eq!(quantity(0.0), "0");
        assert_eq!(quantity(0.001), "0.001");
        assert_eq!(bytes(900_000.0), "879 KiB");
        assert_eq!(duration(0.0123), "12.3 ms");
        assert_eq!(large(20_000.4), "20,000");
        assert_eq!(large(242_118_000.0), "242 million");
        assert_eq!(large(1.5e9), "1.5 billion");
    }

    #[test]
    fn p_values_are_short() {
        assert_eq!([0.0, 0.0042, 0.0519, 0.25, 1.0].map(p_value), ["p < 0.001", "p = 0.0042", "p = 0.052", "p = 0.250", "p = 1"]);
    }

    #[test]
    fn money_never_stands_in_powers_of_ten() {
        assert_eq!(money(80.0111), "80.01");
        assert_eq!(money(2.56e-5), "under 0.01");
        assert_eq!(money(0.0), "0");
        assert_eq!(money(f64::INFINITY), "unbounded");
        assert_eq!(priced_together([0.002, 0.0, 0.05].into_iter()), (1e3, "1,000"));
        let (size, name) = priced_together([4.33e-7, 1.35e-7].into_iter());
        assert_eq!((name, money(1.35e-7 * size)), ("1 million", "0.14".to_owned()));
        assert_eq!(priced_together([7.78e-8].into_iter()).1, "1 million");
    }

    #[test]
    fn shares_are_percent_and_differences_have_signs() {
        let metric = Metric::of("exact_match");
        let estimate = Estimate { point: 0.662, ci_low: 0.621, ci_high: 0.703, n: 100 };
        assert_eq!(super::estimate(&estimate, &metric), "66.2 (62.1 to 70.3)");
        assert_eq!(signed(0.421, &metric), "+42.1");
        assert_eq!(signed(-0.05, &metric), "-5.0");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("a\n b", 10), "a b");
        assert_eq!(shortened("äöüäöü", 4), "äöü…");
        assert_eq!(shortened("a\u{202e}b\u{2028}c\u{7}", 20), "a⟨U+202E⟩b c⟨U+0007⟩");
    }
}
