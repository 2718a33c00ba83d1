//! Repositories of backup programs that keep snapshots: restic and Borg, into a volume.
//!
//! The repository is copied into staging, because both programs want to write their locks into it and because the one
//! on this machine must never be touched. A lock that came along with the copy is not removed: whoever holds it is
//! writing to the repository, so it could not be judged. All data is checked before anything is restored.
//!
//! What is restored is data: an absolute link or one with `..` stays one, in the volume. Device files are made too, as
//! the container's root may; the engine's device cgroup keeps services from opening them.

mod borg;
mod restic;
mod settle;

use super::{Deadline, Inbox, Job, Site, Toolbox, Trouble, tool_image};
use crate::engine::{EngineError, ExecOutcome, VolumeAt, VolumeFacts};
use crate::event::{EventKind, Owner, Stage};
use crate::plan::model::{Method, Repository, Tolerated};
use crate::staging::Bad;

pub use super::Told;

/// Where the volume is mounted in the tool's container.
const TARGET: &str = "/restore";
/// In the volume, until what was restored is moved to its root.
const STAGE: &str = "/restore/.rehearse-restore";

/// The fact of a base that says how all data of the repository was checked.
pub(super) const CHECKED: &str = "checked";
/// The fact of a base that says what was restored from it.
pub(super) const RESTORED: &str = "restored";

/// Restores a snapshot of a repository into a volume.
///
/// # Errors
/// With [`Owner::Backup`] where the repository does not hold, or holds nothing of what is wanted; a wrong password, a
/// lock, a missing key or tool are somebody else's.
pub async fn restore(site: Site<'_>, volume: &VolumeFacts, job: Job<'_>) -> Result<Told, Bad> {
    let staging = site.staging;
    let (repository, is_restic) = match &job.restore.method {
        Method::Restic(repository) => (repository, true),
        Method::Borg(repository) => (repository, false),
        _ => return Err(super::not_built(&[job])),
    };
    let password = password(site, repository)?;
    let image = tool_image::of_job(&staging.ground, job).await?;
    let label = job.restore.volume().unwrap_or(&job.restore.name);
    let deadline = Deadline::of(site.limit, "limits.restore");
    let inbox = Inbox::fill(staging, label, &[job]).await?;
    let volumes = vec![
        inbox.mount_writable(),
        VolumeAt {
            volume: volume.name.clone(),
            target: TARGET.to_owned(),
            read_only: false,
        },
    ];
    let name = format!("repository-{label}");
    let source = format!("restore {}", job.restore.name);
    let mut tool = Toolbox::open(staging, &name, &image, volumes, source, deadline).await?;
    let work = Work {
        repository,
        path: inside(repository)?,
        at: Inbox::path(0),
        tolerate: &job.restore.demands.tolerate,
        name: &job.restore.name,
    };
    let result = if is_restic {
        tool.environment = restic::environment(password);
        restic::restore(&tool, &work).await
    } else {
        tool.environment = borg::environment(password);
        borg::restore(&tool, &work).await
    };
    let removed: Result<(), EngineError> = async {
        tool.close().await?;
        inbox.remove(staging).await
    }
    .await;
    // What the restore says matters more than that its container stayed: teardown removes it.
    let told = result?;
    removed?;
    Ok(told)
}

/// One restore from a repository.
struct Work<'a> {
    repository: &'a Repository,
    /// The folder in the snapshot, without slashes around it; empty is its root.
    path: String,
    /// The copy of the repository.
    at: String,
    tolerate: &'a [Tolerated],
    name: &'a str,
}

fn password<'s>(site: Site<'s>, repository: &Repository) -> Result<Option<&'s str>, Bad> {
    let Some(secret) = &repository.password else {
        return Ok(None);
    };
    site.secrets.get(secret).map(Some).ok_or_else(|| {
        Bad::new(
            Owner::Engine,
            format!("the secret {secret} was not read (a defect of rehearse)"),
        )
    })
}

fn inside(repository: &Repository) -> Result<String, Bad> {
    let path = repository.path.as_deref().unwrap_or_default();
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(Bad::new(
            Owner::Staging,
            format!("`path: {path}` of a repository must not contain `..`"),
        )
        .with_help("write the path as the backup job had it"));
    }
    Ok(parts.join("/"))
}

/// Says which of the phases begins; the tools themselves are silent for hours.
fn begins(tool: &Toolbox<'_>, what: &str) {
    tool.staging.ground.recorder.emit(EventKind::Progress {
        stage: Stage::Restore,
        what: format!("{}: {what}", tool.source),
        done: 0,
        total: None,
        unit: "bytes".to_owned(),
    });
}

/// Why a tool that reads a repository failed: what was in its way, else the repository. `telling` are words of the
/// lines that say more than the last one.
fn failed(
    tool: &Toolbox<'_>,
    program: &str,
    outcome: &ExecOutcome,
    telling: &[&str],
    helped: &str,
) -> Bad {
    let text = format!("{}\n{}", outcome.stderr, outcome.stdout);
    let said = text
        .lines()
        .map(str::trim)
        .find(|line| telling.iter().any(|word| line.contains(word)))
        .map_or_else(|| outcome.last_words(), str::to_owned);
    if let Some(trouble) = Trouble::of_repository(outcome) {
        return trouble.bad(&tool.source, program, &said);
    }
    let (owner, help) = if too_new(&text) {
        (
            Owner::Stack,
            "name an image with the version of the tool that production uses in `image:`",
        )
    } else {
        (Owner::Backup, helped)
    };
    Bad::new(
        owner,
        format!(
            "{}: `{program}` failed with exit code {}: {said}",
            tool.source, outcome.exit_code
        ),
    )
    .with_help(help)
}

/// True where a tool says that it is older than the repository.
fn too_new(text: &str) -> bool {
    [
        "newer version of borg is required",
        "unsupported repository version",
        "is not supported by this borg version",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// What a tool said of entries that it could not restore completely. It is heard line by line: of a long output only the
/// end is kept, and what was lost of it would not be judged.
struct Complaints<'a> {
    tolerate: &'a [Tolerated],
    /// How often each came that is tolerated.
    came: Vec<u64>,
    all: u64,
    open: u64,
    first: Option<String>,
    /// The first that is more than an attribute.
    worse: Option<String>,
    /// The first that says that something else was in the way, such as a full disk.
    trouble: Option<(Trouble, String)>,
}

impl<'a> Complaints<'a> {
    fn new(tolerate: &'a [Tolerated]) -> Self {
        Self {
            tolerate,
            came: vec![0; tolerate.len()],
            all: 0,
            open: 0,
            first: None,
            worse: None,
            trouble: None,
        }
    }

    fn hear(&mut self, line: String) {
        self.all += 1;
        if self.trouble.is_none() {
            self.trouble = Trouble::of_complaint(&line).map(|trouble| (trouble, line.clone()));
        }
        let mut tolerated = false;
        for (one, came) in self.tolerate.iter().zip(&mut self.came) {
            if one.message == line {
                *came += 1;
                tolerated = true;
            }
        }
        if tolerated {
            return;
        }
        self.open += 1;
        if self.worse.is_none() && !is_attribute(&line) {
            self.worse = Some(line.clone());
        }
        self.first.get_or_insert(line);
    }

    const fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// What was in the way, if one of them says so: then nothing was seen of the backup.
    fn trouble(&self, source: &str, program: &str) -> Result<(), Bad> {
        match &self.trouble {
            Some((trouble, line)) => Err(trouble.bad(source, program, line)),
            None => Ok(()),
        }
    }

    /// Judges them. Those that the rehearsal tolerates have to come exactly so often; an attribute that the kernel refuses
    /// in a container says nothing of the backup; all the rest is missing in what was restored.
    fn judge(self, source: &str) -> Result<(), Bad> {
        for (tolerated, came) in self.tolerate.iter().zip(&self.came) {
            if *came != tolerated.count {
                return Err(Bad::new(
                    Owner::Backup,
                    format!(
                        "{source}: `{}` is tolerated {} times, and came {came} times",
                        tolerated.message, tolerated.count
                    ),
                ));
            }
        }
        let (owner, line, help) = match (self.worse, self.first) {
            (Some(line), _) => (
                Owner::Backup,
                line,
                "look at this entry in the repository, or name the message in `tolerate:` if it does no harm",
            ),
            (None, Some(line)) => (
                Owner::Staging,
                line,
                "a container may not set this attribute, so it could not be judged; name the message in `tolerate:` if it does no harm",
            ),
            (None, None) => return Ok(()),
        };
        Err(Bad::new(
            owner,
            format!(
                "{source}: {} entries were not restored completely: {line}",
                self.open
            ),
        )
        .with_help(help))
    }
}

/// True where a line says that the kernel refused an extended attribute or a flag.
fn is_attribute(line: &str) -> bool {
    let line = line.to_lowercase();
    let attribute = ["xattr", "extended attribute", "acl", "flags"]
        .iter()
        .any(|word| line.contains(word));
    attribute
        && ["not permitted", "not supported", "permission denied"]
            .iter()
            .any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(said: &[&str], tolerate: &[Tolerated]) -> Result<(), Bad> {
        let mut complaints = Complaints::new(tolerate);
        said.iter()
            .for_each(|line| complaints.hear((*line).to_owned()));
        complaints.judge("restore x")
    }

    #[test]
    fn a_complaint_before_a_flood_of_others_is_not_lost() {
        let attribute = "srv/a: when setting extended attribute security.selinux: [Errno 1] Operation not permitted: 'srv/a'";
        let missing = "ignoring error for /srv/up/a/1: ciphertext verification failed";
        let mut said = vec![missing];
        said.extend(std::iter::repeat_n(attribute, 100_000));
        let tolerate = [Tolerated {
            message: attribute.to_owned(),
            count: 100_000,
        }];
        let bad = judge(&said, &tolerate).expect_err("an entry is missing");
        assert_eq!(bad.owner, Owner::Backup);
        assert!(bad.reason.contains(missing), "{bad}");
        assert!(judge(&said[1..], &tolerate).is_ok());
    }

    #[test]
    fn a_full_disk_is_known_by_the_complaints_about_files_and_not_by_their_names() {
        for (line, owner) in [
            (
                "ignoring error for /a: write /restore/a: no space left on device",
                Some(Owner::Engine),
            ),
            (
                "srv/a: write: [Errno 28] No space left on device",
                Some(Owner::Engine),
            ),
            ("srv/disk full.txt: file chunk missing", None),
        ] {
            let mut complaints = Complaints::new(&[]);
            complaints.hear("srv/b: file chunk missing".to_owned());
            complaints.hear(line.to_owned());
            let judged = complaints.trouble("restore x", "borg extract");
            assert_eq!(judged.err().map(|bad| bad.owner), owner, "{line}");
        }
    }

    #[test]
    fn what_was_not_restored_is_judged_by_its_reason() {
        let attribute = "srv/a: when setting extended attribute security.selinux: [Errno 1] Operation not permitted: 'srv/a'";
        let missing = "ignoring error for /srv/up/a/1: ciphertext verification failed";
        let tolerate = |message: &str, count| {
            vec![Tolerated {
                message: message.to_owned(),
                count,
            }]
        };
        for (said, tolerated, expected) in [
            (vec![], vec![], None),
            (vec![attribute], vec![], Some(Owner::Staging)),
            (vec![attribute], tolerate(attribute, 1), None),
            (
                vec![attribute, attribute],
                tolerate(attribute, 1),
                Some(Owner::Backup),
            ),
            (vec![], tolerate(attribute, 1), Some(Owner::Backup)),
            (vec![missing], vec![], Some(Owner::Backup)),
            (vec![attribute, missing], vec![], Some(Owner::Backup)),
            (
                vec![attribute, missing],
                tolerate(missing, 1),
                Some(Owner::Staging),
            ),
        ] {
            let judged = judge(&said, &tolerated);
            assert_eq!(judged.err().map(|bad| bad.owner), expected, "{said:?}");
        }
    }
}
