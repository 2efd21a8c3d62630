//! Numbers as reports show them.

/// Three significant digits, and separators between thousands.
pub(crate) fn text(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.1 => 4,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let number = format!("{value:.decimals$}");
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Without digits that say nothing, for an axis.
pub(crate) fn short(value: f64) -> String {
    let text = text(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A dash stands for what couldn't be measured.
pub(crate) fn text_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// How many times one value is another.
pub(crate) fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_separators() {
        let shown = [0.0, 0.01234, 0.654, 1.154, 10.66, 787.4, 35_900.0, -1_234_567.0].map(text);
        assert_eq!(shown, ["0", "0.0123", "0.654", "1.15", "10.7", "787", "35,900", "-1,234,567"]);
        assert_eq!([0.3, 0.05, 1.0, 3_000.0].map(short), ["0.3", "0.05", "1", "3,000"]);
        assert_eq!((text_or_dash(None), ratio(Some(1.349))), ("–".to_owned(), "1.35".to_owned()));
    }
}
