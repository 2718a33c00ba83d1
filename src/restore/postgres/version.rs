//! Versions of PostgreSQL, as its programs write them.

/// The major version in a server's own words: `15.14 (Debian 15.14-0+deb12u1)` is `15`, `9.6.24` is `9.6`,
/// `18beta1` is `18`.
pub(crate) fn major(text: &str) -> Option<Major> {
    let mut numbers = text
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let first = numbers.next()?.ok()?;
    let second = match numbers.next() {
        Some(Ok(second)) if first < 10 => second,
        _ => 0,
    };
    Some(Major(first, second))
}

/// A major version: two numbers before version 10, one since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Major(u32, u32);

impl Major {
    /// By `server_version_num`.
    pub(crate) const fn of_number(number: u32) -> Self {
        if number < 100_000 {
            Self(number / 10_000, number / 100 % 100)
        } else {
            Self(number / 10_000, 0)
        }
    }

    /// True from this version on.
    pub(crate) const fn at_least(self, first: u32) -> bool {
        self.0 >= first
    }
}

impl std::fmt::Display for Major {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(first, second) if *first < 10 => write!(f, "{first}.{second}"),
            Self(first, _) => write!(f, "{first}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_and_ordered() {
        for (text, number, shown) in [
            ("15.14 (Debian 15.14-0+deb12u1)", 150_014, "15"),
            ("9.6.24", 90_624, "9.6"),
            ("10.23", 100_023, "10"),
            ("18beta1", 180_000, "18"),
        ] {
            let read = major(text).expect("a version");
            assert_eq!(read, Major::of_number(number));
            assert_eq!(read.to_string(), shown);
        }
        assert!(major("9.6.1") < major("10.1") && major("9.4.1") < major("9.6.1"));
        assert_eq!(major("unknown"), None);
    }
}
