//! Which value a plain YAML scalar is: the core schema of YAML 1.2 with the additions of the Go parser that
//! Compose uses (`0755` and `0b1` are numbers, `1_000` is one, `yes` and `12:30` are text).
//!
//! Specification: <https://yaml.org/spec/1.2.2/#103-core-schema>.

use super::node::Value;

/// The value of an untagged plain scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    // The longest number that can be meant; what is longer is text and need not be copied.
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) || text.len() > 400 {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| (byte as char).is_digit(radix)) {
        return None;
    }
    match i128::from_str_radix(digits, radix) {
        Ok(value) => {
            let value = if negative { -value } else { value };
            Some(match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => Value::Integer(value),
                // No attribute is that large; a label or a variable keeps all of its digits.
                (_, Ok(value)) => Value::Text(value.to_string()),
                _ => Value::Float(value as f64),
            })
        }
        Err(_) if radix == 10 => None,
        Err(_) => Some(Value::Text(text.to_owned())),
    }
}

fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_is_number = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let exponent_is_number = exponent.is_none_or(|text| digits(text.strip_prefix(['-', '+']).unwrap_or(text)));
    if !mantissa_is_number || !exponent_is_number {
        return None;
    }
    text.parse().ok().map(Value::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        let text = |text: &str| Value::Text(text.into());
        for (plain, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("nULL", text("nULL")),
            ("True", Value::Bool(true)),
            ("yes", text("yes")),
            ("on", text("on")),
            ("12", Value::Integer(12)),
            ("-7", Value::Integer(-7)),
            ("1_000", Value::Integer(1000)),
            ("0755", Value::Integer(493)),
            ("0o17", Value::Integer(15)),
            ("0x1F", Value::Integer(31)),
            ("0b11", Value::Integer(3)),
            ("22:22", text("22:22")),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("1.", Value::Float(1.0)),
            ("1.2.3", text("1.2.3")),
            ("0.0.0.0:80", text("0.0.0.0:80")),
            ("-", text("-")),
            ("08", Value::Float(8.0)),
            ("2024-01-01", text("2024-01-01")),
            ("12345678901234567890", text("12345678901234567890")),
            ("100000000000000000000", Value::Float(1e20)),
        ] {
            assert_eq!(resolve(plain), value, "{plain}");
        }
    }
}
