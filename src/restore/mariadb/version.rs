//! Which server a backup comes from, and which one restores it.

use crate::event::Owner;
use crate::staging::Bad;

/// A server's kind and series: within a series its files and dumps fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    mariadb: bool,
    major: u32,
    minor: u32,
}

impl Series {
    /// Of a version as servers, dumps and backups write it: `10.11.6-MariaDB-0+deb12u1`, `8.0.36`.
    pub(super) fn of(version: &str) -> Option<Self> {
        // Older servers pretend to be MySQL 5.5 towards replicas.
        let version = version
            .trim()
            .strip_prefix("5.5.5-")
            .unwrap_or(version.trim());
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self {
            // MariaDB's versions begin with 10; only those before it need the word.
            mariadb: version.to_lowercase().contains("mariadb") || major >= 10,
            major,
            minor,
        })
    }

    /// True where something of `other` is newer than this server can be expected to know.
    fn is_older_than(self, other: Self) -> bool {
        self.mariadb == other.mariadb && (self.major, self.minor) < (other.major, other.minor)
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.mariadb { "MariaDB" } else { "MySQL" };
        write!(f, "{kind} {}.{}", self.major, self.minor)
    }
}

/// Refuses what is newer than the server, before anything is restored.
///
/// # Errors
/// The stack is at fault: its image is older than production's.
pub(super) fn refuse_newer(name: &str, backup: Option<&str>, server: &str) -> Result<(), Bad> {
    let (Some(from), Some(to)) = (backup.and_then(Series::of), Series::of(server)) else {
        return Ok(());
    };
    if to.is_older_than(from) {
        return Err(Bad::new(
            Owner::Stack,
            format!("{name}: the backup is of {from}, the service's image is {to}"),
        )
        .with_help("use the version that production has in the stack: an older server need not read what a newer one wrote"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_from_every_form() {
        let shown = |text| Series::of(text).map(|series| series.to_string());
        assert_eq!(
            shown("10.11.6-MariaDB-0+deb12u1").as_deref(),
            Some("MariaDB 10.11")
        );
        assert_eq!(
            shown("5.5.5-10.3.39-MariaDB").as_deref(),
            Some("MariaDB 10.3")
        );
        assert_eq!(shown("8.0.36").as_deref(), Some("MySQL 8.0"));
        assert_eq!(shown("unknown"), None);
        let refused = |from, to| refuse_newer("db", Some(from), to).is_err();
        assert!(refused("11.4.2-MariaDB", "10.11.6-MariaDB"));
        assert!(!refused("10.11.99-MariaDB", "10.11.6-MariaDB"));
        assert!(!refused("10.6.1-MariaDB", "10.11.6-MariaDB"));
        assert!(!refused("8.0.36", "10.11.6-MariaDB"));
    }
}
