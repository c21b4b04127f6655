//! Kubernetes' quantities in canonical form (`resource.Quantity` of apimachinery).
//!
//! The operator keeps the canonical form of a Pod and compares it field by field with what we answer later: `0.5` and
//! `500m` would be two values to it, and the cluster would be restarted for ever.

/// The smallest unit that is kept, 10^-9, as powers of ten.
const NANO: i32 = -9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

/// The canonical text of a quantity; `None` for what is none, or does not fit into the arithmetic here.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (form, base, exponent) = unit(suffix)?;
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    // In units of 10^-9, rounded away from zero as the original does.
    let scale = i32::try_from(fraction.len()).ok()?;
    let nanos = if base == 2 {
        let value = digits.checked_mul(1_i128.checked_shl(u32::try_from(exponent).ok()?)?)?;
        scaled(value, (-scale).checked_sub(NANO)?)?
    } else {
        scaled(digits, exponent.checked_sub(scale)?.checked_sub(NANO)?)?
    };
    Some(written(nanos.checked_mul(sign)?, form))
}

/// The form, base and exponent of a suffix.
fn unit(suffix: &str) -> Option<(Form, u8, i32)> {
    let decimal = |exponent| Some((Form::Decimal, 10, exponent));
    let binary = |exponent| Some((Form::Binary, 2, exponent));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => Some((Form::Exponent, 10, suffix.strip_prefix(['e', 'E'])?.parse().ok()?)),
    }
}

/// `value` times ten to the power of `exponent`, rounded up.
fn scaled(value: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 { value.checked_mul(power) } else { Some(value / power + i128::from(value % power != 0)) }
}

fn written(nanos: i128, form: Form) -> String {
    const ONE: i128 = 1_000_000_000;
    if nanos == 0 {
        return "0".to_owned();
    }
    let is_whole = nanos % ONE == 0;
    if form == Form::Binary && is_whole && (nanos / ONE).abs() >= 1024 {
        let (mut value, mut unit) = (nanos / ONE, 0);
        while value % 1024 == 0 && unit < 6 {
            (value, unit) = (value / 1024, unit + 1);
        }
        return format!("{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][unit]);
    }
    let (mut value, mut exponent) = (nanos, NANO);
    while value % 1000 == 0 && exponent < 18 {
        (value, exponent) = (value / 1000, exponent + 3);
    }
    let suffix = match (form, exponent) {
        (_, 0) => String::new(),
        (Form::Exponent, exponent) => format!("e{exponent}"),
        (_, -9) => "n".to_owned(),
        (_, -6) => "u".to_owned(),
        (_, -3) => "m".to_owned(),
        (_, 3) => "k".to_owned(),
        (_, 6) => "M".to_owned(),
        (_, 9) => "G".to_owned(),
        (_, 12) => "T".to_owned(),
        (_, 15) => "P".to_owned(),
        (_, _) => "E".to_owned(),
    };
    format!("{value}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs follow from the rules in `quantity.go`: no fraction, the largest suffix that leaves none.
    #[test]
    fn c16_quantities_are_canonical() {
        for (text, wanted) in [
            ("1", "1"),
            ("0", "0"),
            ("0.0", "0"),
            ("0Gi", "0"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100m", "100m"),
            ("2000", "2k"),
            ("1000000", "1M"),
            ("128974848", "128974848"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("1023", "1023"),
            ("2048", "2048"),
            ("0.1Gi", "107374182400m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("100e1", "1e3"),
            ("1e0", "1"),
            ("+1", "1"),
            ("-1500m", "-1500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("12E", "12E"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(wanted), "{text}");
            assert_eq!(canonical(wanted).as_deref(), Some(wanted), "{wanted} again");
        }
        for bad in ["", "x", "1x", "1.2.3", "Gi", "1e", "1ee3", "--1", "1 Gi", "1e999999999999", &"9".repeat(60)] {
            assert_eq!(canonical(bad), None, "{bad:?}");
        }
    }
}
