//! pgBackRest repositories: verified, restored, and the WAL that recovery needs fetched before it.
//!
//! The service's image has no `pgbackrest` as a rule, so the tool runs in an image that does, and the server takes its
//! WAL from a volume. Everything the tool needs to know is in its environment: a passphrase stands in no argument, file
//! or event. Its locks are on the machine where it runs, none in the repository, so nobody else's job can be in the way.

use std::collections::BTreeMap;
use std::path::Path;

use super::base::RELINK;
use super::data_folder::{Cluster, TABLESPACES};
use super::segment::{self, Needed};
use super::settings;
use crate::engine::{Purpose, VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::{Method, Secret};
use crate::restore::server::mounts;
use crate::restore::{Deadline, Inbox, Job, Site, Toolbox, tool_image};
use crate::staging::{Bad, Blueprint, Staging};

/// Where the fetched WAL is mounted.
const WAL: &str = "/rehearse-wal";
/// The data folder's volume under a second path: pgBackRest puts no tablespace below the data folder's own.
const VOLUME: &str = "/rehearse-volume";
/// Segments fetched by one command line.
const AT_ONCE: usize = 200;

const GET: &str = r#"
for segment; do
    pgbackrest --no-config archive-get "$segment" "/rehearse-wal/$segment" >/tmp/archive-get 2>&1 || {
        echo "error: cannot get $segment from the archive" >&2
        grep -v INFO /tmp/archive-get >&2 || :
        exit 1
    }
done
chmod -R a+rX /rehearse-wal
"#;

/// The WAL that recovery needs, in a volume of its own.
pub(super) struct Wal {
    volume: String,
    /// The first segment that the archive lacks while it has later ones.
    gap: Option<String>,
    last: Option<String>,
    time: Option<String>,
}

impl Wal {
    /// For the server's recovery.
    pub(super) fn from(&self) -> settings::From {
        settings::From {
            command: format!("test -f \"{WAL}/%f\" && cp \"{WAL}/%f\" \"%p\""),
            time: self.time.clone(),
        }
    }

    /// Adds what is known of the archive to the server's words about a target that it did not reach.
    pub(super) fn explain(&self, bad: Bad) -> Bad {
        let Some(time) = self
            .time
            .as_ref()
            .filter(|_| bad.reason.contains("recovery target was reached"))
        else {
            return bad;
        };
        let why = match (&self.gap, &self.last) {
            (Some(gap), _) => format!("segment {gap} is missing in it"),
            (None, Some(last)) => format!("its last segment is {last}"),
            (None, None) => "it holds no segment".to_owned(),
        };
        Bad {
            reason: format!(
                "{}; the archive does not reach `time: {time}`: {why}",
                bad.reason
            ),
            ..bad
        }
    }

    /// Removes it.
    pub(super) async fn remove(self, staging: &Staging) -> Result<(), Bad> {
        staging.ground.engine.remove_volume(&self.volume).await?;
        Ok(())
    }

    fn mount(&self) -> VolumeAt {
        VolumeAt {
            volume: self.volume.clone(),
            target: WAL.to_owned(),
            read_only: false,
        }
    }
}

/// What the restore says of the tool.
struct Wanted<'a> {
    stanza: &'a str,
    time: Option<&'a str>,
    passphrase: Option<&'a Secret>,
    image: Option<&'a str>,
}

/// Fills the data folder from the repository, and a volume with the WAL after it.
pub(super) async fn fill<'a>(
    site: Site<'a>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    deadline: Deadline,
) -> Result<(Cluster<'a>, Wal, Inbox), Bad> {
    let Method::PgBackRest {
        stanza,
        time,
        passphrase,
        image,
        user: _,
    } = &job.restore.method
    else {
        return Err(crate::restore::not_built(&[job]));
    };
    let wanted = Wanted {
        stanza,
        time: time.as_deref(),
        passphrase: passphrase.as_ref(),
        image: image.as_deref(),
    };
    let restore = job.restore.name.as_str();
    let repository = job.facts.path.as_path();
    has_stanza(repository, stanza, restore)?;
    let passphrase = key(site, repository, &wanted, restore)?;
    let staging = site.staging;
    let service = &blueprint.service.name;
    let inbox = Inbox::fill(staging, service, &[job]).await?;
    let ground = &staging.ground;
    let volume = ground.names.of(&format!("wal-{service}"));
    ground
        .engine
        .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
        .await?;
    let mut wal = Wal {
        volume,
        gap: None,
        last: None,
        time: time.clone(),
    };
    let more = vec![inbox.mount(), wal.mount()];
    let mut cluster =
        Cluster::open(site, blueprint, volumes, more.clone(), restore, deadline).await?;
    let image = tool_image_of(&cluster, blueprint, &wanted).await?;
    let mut at = mounts(blueprint, volumes);
    at.extend(more);
    at.push(VolumeAt {
        volume: cluster.volume.0.clone(),
        target: VOLUME.to_owned(),
        read_only: false,
    });
    let name = format!("pgbackrest-{service}");
    let mut tool = Toolbox::open(
        staging,
        &name,
        &image,
        at,
        format!("restore {restore}"),
        deadline,
    )
    .await?;
    tool.environment = environment(stanza, &cluster.data, passphrase);
    if wanted.passphrase.is_some() && passphrase.is_none() {
        cluster
            .notes
            .push("the repository is not encrypted: no passphrase was used".to_owned());
    }
    if passphrase.is_some() {
        opens(&tool, repository, &wanted, restore).await?;
    }
    verify(&tool, restore).await?;
    let backup = restore_backup(&tool, &cluster, &wanted, restore).await?;
    cluster.notes.push(format!("backup set {}", backup.label));
    cluster.filled().await?;
    let elsewhere = format!("{VOLUME}{}", cluster.volume.1);
    cluster
        .tool
        .script(
            "tablespaces",
            RELINK,
            &[&cluster.data, &elsewhere],
            Owner::Backup,
        )
        .await?;
    let needed = needed(&cluster, repository, &wanted, &backup, restore).await?;
    wal.gap.clone_from(&needed.gap);
    wal.last = needed.segments.last().cloned();
    fetch(&tool, &needed).await?;
    cluster
        .notes
        .push(format!("{} WAL segments", needed.segments.len()));
    if let Some(gap) = &needed.gap {
        cluster
            .notes
            .push(format!("the archive lacks {gap}, after the time"));
    }
    tool.close().await?;
    Ok((cluster, wal, inbox))
}

/// A stanza that is not there is a mistake in the rehearsal, where the repository has others.
fn has_stanza(repository: &Path, stanza: &str, restore: &str) -> Result<(), Bad> {
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
fn key<'a>(
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
async fn tool_image_of(
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

fn environment(stanza: &str, data: &str, passphrase: Option<&str>) -> BTreeMap<String, String> {
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
async fn opens(
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
async fn verify(tool: &Toolbox<'_>, restore: &str) -> Result<(), Bad> {
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

/// A failure of the tool: the rehearsal's, the image's or the repository's.
fn judged(tool: &Toolbox<'_>, what: &str, outcome: &crate::engine::ExecOutcome) -> Bad {
    let bad = tool.failed(what, outcome, Owner::Backup);
    let all = format!("{}\n{}", outcome.stderr, outcome.stdout);
    let says = |words: &str| all.contains(words);
    if says("automatic backup set selection cannot be performed") || says("invalid target time") {
        return Bad {
            owner: Owner::Staging,
            ..bad
        }
        .with_help("write `time:` as YYYY-MM-DD HH:MM:SS+00");
    }
    if says("not compiled with") || says("expected format") || says("invalid command") {
        return Bad {
            owner: Owner::Staging,
            ..bad
        }
        .with_help("name an image with production's version of pgBackRest with `image:`");
    }
    if says("unable to find backup set with stop time less than") {
        return bad
            .with_help("no backup in the repository is older than the time that `time:` names");
    }
    bad
}

/// The backup that was restored.
struct Restored {
    label: String,
    archive: String,
    start: String,
    stop: String,
}

async fn restore_backup(
    tool: &Toolbox<'_>,
    cluster: &Cluster<'_>,
    wanted: &Wanted<'_>,
    restore: &str,
) -> Result<Restored, Bad> {
    let tablespaces = format!(
        "--tablespace-map-all={VOLUME}{}/{TABLESPACES}",
        cluster.volume.1
    );
    let target = wanted.time.map(|time| format!("--target={time}"));
    let mut command = vec![
        "pgbackrest",
        "--no-config",
        "--archive-mode=off",
        &tablespaces,
    ];
    if let Some(target) = &target {
        command.extend(["--type=time", target, "--target-action=promote"]);
    }
    command.push("restore");
    let outcome = tool.run(&command).await?;
    if outcome.exit_code != 0 {
        return Err(judged(tool, "pgbackrest restore", &outcome));
    }
    let label = outcome
        .stdout
        .lines()
        .find_map(|line| line.split_once("restore backup set "))
        .and_then(|(_, rest)| rest.split(|c: char| c == ',' || c.is_whitespace()).next())
        .unwrap_or_default();
    let info = tool
        .run(&["pgbackrest", "--no-config", "info", "--output=json"])
        .await?;
    if info.exit_code != 0 {
        return Err(judged(tool, "pgbackrest info", &info));
    }
    of_info(&info.stdout, label).ok_or_else(|| {
        Bad::new(
            Owner::Staging,
            format!("{restore}: `pgbackrest info` does not say where the WAL of backup set `{label}` begins"),
        )
        .with_help("name an image with production's version of pgBackRest with `image:`")
    })
}

/// A backup set in what `pgbackrest info --output=json` says.
fn of_info(json: &str, label: &str) -> Option<Restored> {
    let info: serde_json::Value = serde_json::from_str(json.trim()).ok()?;
    let stanza = info.get(0)?;
    let backup = stanza
        .get("backup")?
        .as_array()?
        .iter()
        .find(|backup| backup["label"] == label)?;
    let archive = stanza
        .get("archive")?
        .as_array()?
        .iter()
        .find(|archive| archive["database"]["id"] == backup["database"]["id"])?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Some(Restored {
        label: label.to_owned(),
        archive: text(&archive["id"])?,
        start: text(&backup["archive"]["start"])?,
        stop: text(&backup["archive"]["stop"])?,
    })
}

/// The segments from the backup's first to the archive's last.
async fn needed(
    cluster: &Cluster<'_>,
    repository: &Path,
    wanted: &Wanted<'_>,
    backup: &Restored,
    restore: &str,
) -> Result<Needed, Bad> {
    let control = cluster.control().await?;
    let size = settings::control_value(&control, "Bytes per WAL segment")
        .and_then(|text| text.parse().ok())
        .unwrap_or(segment::DEFAULT_SIZE);
    let folder = repository
        .join("archive")
        .join(wanted.stanza)
        .join(&backup.archive);
    let names = segment::names_below(&folder).map_err(|error| {
        Bad::new(
            Owner::Engine,
            format!("{restore}: cannot list the archive of the repository: {error}"),
        )
    })?;
    let lacks = |gap: &str, help: &str| {
        Bad::new(
            Owner::Backup,
            format!("{restore}: the archive lacks WAL segment {gap}"),
        )
        .with_help(help)
    };
    let needed = segment::needed(&names, &backup.start, &backup.stop, size).ok_or_else(|| {
        lacks(
            &backup.start,
            "the WAL that was written during the backup is not in the archive",
        )
    })?;
    match &needed.gap {
        Some(gap) if needed.before_stop => Err(lacks(
            gap,
            "it was written during the backup, which cannot be recovered without it",
        )),
        // With a time before the gap the server may still get there; it says so if it does not.
        Some(gap) if wanted.time.is_none() => Err(lacks(
            gap,
            "later ones are there, and nothing in them can be brought back: look at archive_command, and make a new backup",
        )),
        _ => Ok(needed),
    }
}

async fn fetch(tool: &Toolbox<'_>, needed: &Needed) -> Result<(), Bad> {
    let all: Vec<&str> = needed
        .histories
        .iter()
        .chain(&needed.segments)
        .map(String::as_str)
        .collect();
    for some in all.chunks(AT_ONCE) {
        tool.script("pgbackrest archive-get", GET, some, Owner::Backup)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{complains, of_info};

    #[test]
    fn the_tools_words_are_read() {
        // As pgBackRest 2.45 says it.
        let json = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000006","min":"000000010000000000000001"}],"backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000003"},"database":{"id":1,"repo-key":1},"label":"20261121-121751F"}],"name":"s"}]"#;
        let backup = of_info(json, "20261121-121751F").expect("it is there");
        assert_eq!(
            (
                backup.archive.as_str(),
                backup.start.as_str(),
                backup.stop.as_str()
            ),
            (
                "15-1",
                "000000010000000000000002",
                "000000010000000000000003"
            )
        );
        assert!(of_info(json, "another").is_none());
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
