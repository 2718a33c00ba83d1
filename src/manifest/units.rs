//! Durations, sizes, permission bits and owners as people write them.

use std::time::Duration;

/// `500ms`, `5s`, `10m`, `26h`, `7d`, and several in falling order: `1m30s`. A bare `0` is zero; any other
/// bare number is refused because nobody knows its unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0u128;
    let mut smaller_than = u128::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic() && c != 'µ')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return None,
        };
        if nanos >= smaller_than {
            return None;
        }
        smaller_than = nanos;
        total = total.checked_add(times(number, nanos)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(())?;
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let nanos = u32::try_from(total % 1_000_000_000).ok()?;
    // A century bounds sums of deadlines.
    (seconds < 100 * 366 * 86_400).then(|| Duration::new(seconds, nanos))
}

/// A decimal number times a whole one, exactly.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 9 || (number.contains('.') && part.is_empty()) {
        return None;
    }
    let mut total = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    if !part.is_empty() {
        let scale = 10u128.checked_pow(u32::try_from(part.len()).ok()?)?;
        total += part.parse::<u128>().ok()?.checked_mul(unit)? / scale;
    }
    Some(total)
}

/// `512m`, `1g`, `1.5gb`, `64k`, or plain bytes, as Compose counts them: in powers of 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor: u128 = match unit {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    u64::try_from(times(number, factor)?)
        .ok()
        .filter(|n| *n > 0)
}

/// `0644`, `644`, `0o644`.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u32::from_str_radix(digits, 8).ok().filter(|m| *m <= 0o7777)
}

/// `1000:1000`.
pub(crate) fn owner(text: &str) -> Option<(u64, u64)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("500ms", Some(ms(500))),
            ("5s", Some(ms(5_000))),
            ("1.5s", Some(ms(1_500))),
            ("10m", Some(ms(600_000))),
            ("1m30s", Some(ms(90_000))),
            ("26h", Some(ms(93_600_000))),
            ("7d", Some(ms(604_800_000))),
            ("1h30m5s", Some(ms(5_405_000))),
            ("0", Some(ms(0))),
            ("0s", Some(ms(0))),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("5x", None),
            ("30s1m", None),
            ("1s1s", None),
            ("1.s", None),
            ("1.2.3s", None),
            ("99999999999999999999d", None),
            ("50000d", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512m", Some(512 << 20)),
            ("1g", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("64KB", Some(64 << 10)),
            ("100", Some(100)),
            ("0", None),
            ("m", None),
            ("1x", None),
            ("-1m", None),
            ("99999999999t", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn modes_and_owners() {
        for (text, expected) in [
            ("0644", Some(0o644)),
            ("755", Some(0o755)),
            ("0o600", Some(0o600)),
            ("0888", None),
            ("", None),
            ("77777", None),
        ] {
            assert_eq!(mode(text), expected, "{text}");
        }
        assert_eq!(owner("1000:33"), Some((1000, 33)));
        assert_eq!(owner("root:root"), None);
        assert_eq!(owner("1000"), None);
    }
}
