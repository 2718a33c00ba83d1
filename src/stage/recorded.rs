//! What was recorded of a backup where it was made: its digest, and the source's manifest.

use std::path::Path;

use super::Bad;
use super::run::Run;
use crate::backup::{BackupFacts, Format};
use crate::check::source::{SourceManifest, VERSION};
use crate::event::Owner;
use crate::plan::model::{Family, Restore};

/// True where the digest of a backup was recorded: every difference can be seen then.
pub(super) fn is_recorded(run: &Run, member: usize) -> bool {
    let demands = &run.order.plan.restores[member].demands;
    let source = run.sources.get(&member);
    demands.checksum.is_some() || source.is_some_and(|source| source.backup.is_some())
}

/// Compares a backup with its recorded digests.
///
/// # Errors
/// As [`digest`].
pub(super) fn judge(run: &Run, member: usize, facts: &BackupFacts) -> Result<(), Bad> {
    let restore = &run.order.plan.restores[member];
    digest(restore, facts, run.sources.get(&member)).map(|_| ())
}

/// The digest of a backup beside those that were recorded.
///
/// # Errors
/// [`Owner::Backup`] where a recorded digest is another one; [`Owner::Staging`] where a record cannot be read.
pub(super) fn digest(
    restore: &Restore,
    facts: &BackupFacts,
    manifest: Option<&SourceManifest>,
) -> Result<String, Bad> {
    let mut by = Vec::new();
    if let (Some(path), Some(recorded)) = (
        &restore.demands.manifest,
        manifest.and_then(|manifest| manifest.backup.as_ref()),
    ) {
        same(restore, facts, &recorded.sha256, path)?;
        by.push(path.display().to_string());
    }
    if let Some(path) = &restore.demands.checksum {
        let recorded = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| of_sums(&text, &restore.source))
            .map_err(|reason| {
                unusable(restore, path, &reason).with_help(
                    "write it with `sha256sum` in the folder of the backup, when the backup is made",
                )
            })?;
        same(restore, facts, &recorded, path)?;
        by.push(path.display().to_string());
    }
    let recorded = if by.is_empty() {
        "no digest was recorded".to_owned()
    } else {
        format!("as recorded in {}", by.join(" and "))
    };
    Ok(format!(
        "sha256 {}, {} bytes, {recorded}",
        facts.sha256, facts.size
    ))
}

/// What was taken at the source, where the rehearsal names it.
///
/// # Errors
/// [`Owner::Staging`] where it cannot be read or does not belong to this kind of backup.
pub(super) fn manifest(restore: &Restore) -> Result<Option<SourceManifest>, Bad> {
    let Some(path) = &restore.demands.manifest else {
        return Ok(None);
    };
    let read = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| of_source(&text, restore.method.family()));
    read.map(Some).map_err(|reason| {
        unusable(restore, path, &reason)
            .with_help("take it with `rehearse manifest` beside the backup, of the same version")
    })
}

fn unusable(restore: &Restore, path: &Path, reason: &str) -> Bad {
    Bad::new(
        Owner::Staging,
        format!(
            "`{}` of {} cannot be used: {reason}",
            path.display(),
            restore.name
        ),
    )
}

fn same(restore: &Restore, facts: &BackupFacts, recorded: &str, path: &Path) -> Result<(), Bad> {
    if recorded.eq_ignore_ascii_case(&facts.sha256) {
        return Ok(());
    }
    // With journals beside it a database's digest is over all of them; `sha256sum` knows the one file.
    let alone = (facts.format == Format::Sqlite)
        .then(|| crate::archive::source::digest(&facts.path).ok())
        .flatten();
    if alone.is_some_and(|alone| recorded.eq_ignore_ascii_case(&alone)) {
        return Ok(());
    }
    Err(Bad::new(
        Owner::Backup,
        format!(
            "the backup `{}` of {} has the SHA-256 {}, and {recorded} was recorded in `{}`",
            restore.source.display(),
            restore.name,
            facts.sha256,
            path.display()
        ),
    )
    .with_help(
        "it was changed or damaged after it was made, or the record belongs to another backup",
    ))
}

fn of_source(text: &str, family: Family) -> Result<SourceManifest, String> {
    // The version first: another one may have other fields.
    #[derive(serde::Deserialize)]
    struct Version {
        source_manifest: u32,
    }
    let Version { source_manifest } =
        serde_json::from_str(text).map_err(|error| format!("it is no source manifest: {error}"))?;
    if source_manifest != VERSION {
        return Err(format!(
            "it is of version {source_manifest}, and this program reads version {VERSION}"
        ));
    }
    let manifest: SourceManifest =
        serde_json::from_str(text).map_err(|error| format!("it is no source manifest: {error}"))?;
    let wanted = match family {
        Family::Postgres => "postgres",
        Family::Mariadb => "mariadb",
        Family::Redis => "redis",
        Family::Sqlite => "sqlite",
        Family::Files => return Err("files of no known kind have no source manifest".to_owned()),
    };
    if manifest.family != wanted {
        return Err(format!(
            "it was taken at a source of the kind {}, and this backup is one of {wanted}",
            manifest.family
        ));
    }
    Ok(manifest)
}

/// The digest of a file in the form of `sha256sum`: the line with its name, else the only line.
fn of_sums(text: &str, backup: &Path) -> Result<String, String> {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (digest, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Err(format!(
                "`{}` is no line of `sha256sum`",
                line.chars().take(80).collect::<String>()
            ));
        }
        // A star says that the file was read as binary.
        let name = name.trim_start();
        lines.push((digest, name.strip_prefix('*').unwrap_or(name)));
    }
    let wanted = backup.file_name();
    let named: Vec<&str> = lines
        .iter()
        .filter(|(_, name)| Path::new(name).file_name() == wanted)
        .map(|(digest, _)| *digest)
        .collect();
    match (named.as_slice(), lines.as_slice()) {
        ([digest], _) | ([], [(digest, _)]) => Ok((*digest).to_owned()),
        ([], []) => Err("it is empty".to_owned()),
        ([], _) => Err("it has no line for the backup".to_owned()),
        _ => Err("it has several lines for the backup".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_backup_is_found() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let backup = Path::new("/backups/site.dump");
        for (text, expected) in [
            (format!("{a}  site.dump\n"), Ok(&a)),
            (format!("{a} *site.dump\n{b}  uploads.tar\n"), Ok(&a)),
            (format!("{b}  uploads.tar\n{a}  ./site.dump\n"), Ok(&a)),
            (format!("{a}  site-2026-11-21.dump\n"), Ok(&a)),
            (format!("{a}\n"), Ok(&a)),
            (
                format!("{b}  uploads.tar\n{a}  other\n"),
                Err("no line for"),
            ),
            (
                format!("{a}  site.dump\n{b}  x/site.dump\n"),
                Err("several"),
            ),
            (String::new(), Err("empty")),
            (
                "d41d8cd98f00b204e9800998ecf8427e  site.dump\n".to_owned(),
                Err("no line of"),
            ),
            ("<html>\n".to_owned(), Err("no line of")),
        ] {
            match (of_sums(&text, backup), expected) {
                (Ok(seen), Ok(expected)) => assert_eq!(&seen, expected),
                (Err(seen), Err(word)) => assert!(seen.contains(word), "{seen}"),
                (seen, _) => panic!("{text}: {seen:?}"),
            }
        }
    }

    #[test]
    fn only_a_manifest_of_this_version_and_kind_is_read() {
        let good = r#"{"source_manifest": 1, "taken": "2026-11-21T12:00:00Z", "family": "postgres", "server_version": "15.14",
            "databases": {"site": {"tables": {"public.invoice": 412}}}}"#;
        for (text, family, word) in [
            (good.to_owned(), Family::Postgres, None),
            (
                good.to_owned(),
                Family::Mariadb,
                Some("of the kind postgres"),
            ),
            (good.to_owned(), Family::Files, Some("no known kind")),
            (
                good.replace(": 1,", ": 2,"),
                Family::Postgres,
                Some("version 2"),
            ),
            (
                good.replace("412", "-1"),
                Family::Postgres,
                Some("no source manifest"),
            ),
            (
                good.replace("\"tables\"", "\"table\""),
                Family::Postgres,
                Some("no source manifest"),
            ),
            (
                "garbage".to_owned(),
                Family::Postgres,
                Some("no source manifest"),
            ),
            (String::new(), Family::Postgres, Some("no source manifest")),
        ] {
            match (of_source(&text, family), word) {
                (Ok(_), None) => {}
                (Err(seen), Some(word)) => assert!(seen.contains(word), "{seen}"),
                (seen, _) => panic!("{text}: {seen:?}"),
            }
        }
    }
}
