//! Whether a repository can be used: its stanza, its passphrase, and what the tool itself finds in it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Wanted, judged};
use crate::event::Owner;
use crate::restore::postgres::data_folder::Cluster;
use crate::restore::{Inbox, Site, Toolbox, tool_image};
use crate::staging::{Bad, Blueprint};

/// A stanza that is not there is a mistake in the rehearsal, where the repository has others.
pub(super) fn has_stanza(repository: &Path, stanza: &str, restore: &str) -> Result<(), Bad> {
    let there = ["backup", "archive"]
        .iter()
        .any(|part| repository.join(part).join(stanza).is_dir());
    if there {
        return Ok(());
    }
    let mut names: Vec<String> = std::fs::read_dir(repository.join("backup"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Err(Bad::new(
        Owner::Staging,
        format!(
            "{restore}: the repository has no stanza `{stanza}`; it has: {}",
            names.join(", ")
        ),
    )
    .with_help("correct `stanza:` in the rehearsal"))
}

const INFO: [(&str, &str); 4] = [
    ("archive", "archive.info"),
    ("archive", "archive.info.copy"),
    ("backup", "backup.info"),
    ("backup", "backup.info.copy"),
];

/// The info files that are there, as the repository names them.
fn info_files(repository: &Path, stanza: &str) -> Vec<String> {
    INFO.iter()
        .map(|(part, name)| format!("{part}/{stanza}/{name}"))
        .filter(|name| repository.join(name).is_file())
        .collect()
}

/// The passphrase, where the repository is encrypted: then an info file is openssl's.
pub(super) fn key<'a>(
    site: Site<'a>,
    repository: &Path,
    wanted: &Wanted<'_>,
    restore: &str,
) -> Result<Option<&'a str>, Bad> {
    let mut encrypted = false;
    for name in info_files(repository, wanted.stanza) {
        let head = std::fs::File::open(repository.join(&name)).and_then(|file| {
            let mut head = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, 8), &mut head)?;
            Ok(head)
        });
        match head {
            Ok(head) => encrypted |= head == b"Salted__",
            Err(error) => {
                return Err(Bad::new(
                    Owner::Engine,
                    format!("{restore}: cannot read `{name}` of the repository: {error}"),
                ));
            }
        }
    }
    if !encrypted {
        return Ok(None);
    }
    let Some(secret) = wanted.passphrase else {
        return Err(Bad::new(
            Owner::Staging,
            format!(
                "{restore}: the repository is encrypted, and the rehearsal names no passphrase"
            ),
        )
        .with_help(
            "add `passphrase: { env: NAME }` or `passphrase: { file: PATH }` to `pgbackrest`",
        ));
    };
    site.secrets.get(secret).map(Some).ok_or_else(|| {
        Bad::new(
            Owner::Staging,
            format!("{restore}: the passphrase of the repository ({secret}) is not there"),
        )
    })
}

/// The image that has the tool: the one that the rehearsal names, the service's own, or ours.
pub(super) async fn tool_image_of(
    cluster: &Cluster<'_>,
    blueprint: &Blueprint,
    wanted: &Wanted<'_>,
) -> Result<String, Bad> {
    let ground = &cluster.tool.staging.ground;
    if wanted.image.is_some() {
        return tool_image::ensure(ground, wanted.image).await;
    }
    let look = ["/bin/sh", "-c", "command -v pgbackrest"];
    if cluster.tool.run(&look).await?.exit_code == 0 {
        return Ok(blueprint.image.clone());
    }
    tool_image::ensure(ground, None).await
}

pub(super) fn environment(
    stanza: &str,
    data: &str,
    passphrase: Option<&str>,
) -> BTreeMap<String, String> {
    let repository = Inbox::path(0);
    let mut environment: BTreeMap<String, String> = [
        ("STANZA", stanza),
        ("REPO1_PATH", repository.as_str()),
        ("REPO1_TYPE", "posix"),
        ("PG1_PATH", data),
        ("LOCK_PATH", "/tmp/rehearse-pgbackrest"),
        ("LOG_LEVEL_CONSOLE", "info"),
        ("LOG_LEVEL_FILE", "off"),
        ("LOG_TIMESTAMP", "n"),
        ("PROCESS_MAX", "2"),
    ]
    .into_iter()
    .map(|(key, value)| (format!("PGBACKREST_{key}"), value.to_owned()))
    .collect();
    if let Some(passphrase) = passphrase {
        let cipher = [("CIPHER_TYPE", "aes-256-cbc"), ("CIPHER_PASS", passphrase)];
        for (key, value) in cipher {
            environment.insert(format!("PGBACKREST_REPO1_{key}"), value.to_owned());
        }
    }
    environment
}

/// Whether the passphrase is the repository's. A wrong one and a damaged file look alike to the tool: where it opens any
/// of the info files, it is the right one.
pub(super) async fn opens(
    tool: &Toolbox<'_>,
    repository: &Path,
    wanted: &Wanted<'_>,
    restore: &str,
) -> Result<(), Bad> {
    // The first bytes only: what follows holds the keys of the other files.
    const HEAD: &str = r#"pgbackrest --no-config repo-get "$1" 2>/dev/null | head -c 10"#;
    let files = info_files(repository, wanted.stanza);
    for name in &files {
        let head = tool.run(&["/bin/sh", "-c", HEAD, "repo-get", name]).await?;
        if head.stdout.trim_end() == "[backrest]" {
            return Ok(());
        }
    }
    let outcome = tool.run(&["pgbackrest", "version"]).await?;
    if outcome.exit_code != 0 {
        return Err(tool.failed("pgbackrest", &outcome, Owner::Stack));
    }
    Err(Bad::new(
        Owner::Staging,
        format!(
            "{restore}: the passphrase opens none of the repository's {} info files: it is wrong",
            files.len()
        ),
    )
    .with_help("correct the secret that the rehearsal names: the backup was not judged"))
}

/// Every file of the repository against its checksum. The tool ends with 0 whatever it finds: its words count.
pub(super) async fn verify(tool: &Toolbox<'_>, restore: &str) -> Result<(), Bad> {
    let command = [
        "pgbackrest",
        "--no-config",
        "verify",
        "--output=text",
        "--verbose",
    ];
    let outcome = tool.run(&command).await?;
    if outcome.exit_code != 0 {
        return Err(judged(tool, "pgbackrest verify", &outcome));
    }
    let said = |words: &str| {
        outcome
            .stdout
            .lines()
            .any(|line| line.trim().starts_with(words))
    };
    if said("status: ok") && !said("status: error") {
        return Ok(());
    }
    let mut broken: Vec<&str> = outcome
        .stdout
        .lines()
        .chain(outcome.stderr.lines())
        .map(str::trim)
        .filter(|line| complains(line))
        .collect();
    broken.dedup();
    broken.truncate(5);
    if broken.is_empty() {
        broken.push("it did not say `status: ok`");
    }
    Err(Bad::new(
        Owner::Backup,
        format!("{restore}: `pgbackrest verify`: {}", broken.join(" | ")),
    )
    .with_help("the repository is damaged: make a new full backup, and look at the storage that it lies on"))
}

/// True for a line in which `pgbackrest verify` says what is wrong.
fn complains(line: &str) -> bool {
    let wrong = [
        "invalid checksum",
        "invalid result",
        "invalid size",
        "No usable",
        "status: invalid",
        "file missing",
    ];
    let counts = [
        "missing: ",
        "checksum invalid: ",
        "size invalid: ",
        "other: ",
    ];
    wrong.iter().any(|words| line.contains(words))
        || counts.iter().any(|label| {
            line.starts_with(label) && line.split(", ").any(|part| !part.ends_with(" 0"))
        })
        || line.contains("ERROR")
}

#[cfg(test)]
mod tests {
    use super::complains;

    #[test]
    fn what_the_tool_finds_wrong_is_heard() {
        // As pgBackRest 2.45 says it.
        for (line, expected) in [
            (
                "missing: 0, checksum invalid: 0, size invalid: 0, other: 0",
                false,
            ),
            (
                "missing: 0, checksum invalid: 1, size invalid: 0, other: 0",
                true,
            ),
            ("checksum invalid: 1", true),
            ("missing: 1", true),
            ("No usable backup.info file", true),
            (
                "backup: 20261121-121751F, status: invalid, total files checked: 969, total valid files: 968",
                true,
            ),
            (
                "backup: 20261121-121751F, status: valid, total files checked: 969, total valid files: 969",
                false,
            ),
            ("status: ok", false),
        ] {
            assert_eq!(complains(line), expected, "{line}");
        }
    }
}
