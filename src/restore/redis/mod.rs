//! Redis: snapshots and append-only files, put into the data folder before the server starts.
//!
//! Where that folder is, what its files are called and whose they are, the service's own server says, started once on
//! empty volumes. A server that appends to a file reads nothing else at its start: a snapshot becomes the base of its
//! append-only files then, which is what `CONFIG SET appendonly yes` would make of it. Sources: "Redis persistence" of
//! the Redis documentation; `aof.c` and `rdb.c` of Redis 7 for what a base may be.

mod ask;
mod check;
mod examine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ask::{Keyspace, Settings};
use check::Checked;
pub use examine::examine;
use jiff::Timestamp;

use super::{Deadline, Inbox, Job, Made, Server, Site, Told, Toolbox, server, timed, tool_image};
use crate::engine::VolumeFacts;
use crate::event::Owner;
use crate::plan::model::{Method, RowCount};
use crate::staging::{Bad, Blueprint};

const PORT: u16 = 6379;
/// Since this version the append-only files have a folder and a manifest.
const MULTI_PART: u32 = 7;
/// Since this version an append-only file may begin with a snapshot.
const PREAMBLE: u32 = 4;

/// What later examinations need to know: the keys of each database.
const KEYSPACE: &str = "keyspace";
/// The version of the server that the backup came from.
const VERSION: &str = "version";
/// Whether the snapshot's checksum held.
const CHECKSUM: &str = "checksum";

/// Restores a snapshot or append-only files into the empty volumes of a service.
///
/// # Errors
/// Never besides those of the one backup.
pub async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let mut made = Made::default();
    for job in jobs {
        let mut log = None;
        let ended = timed(one(site, &blueprint, volumes, *job, &mut log)).await;
        made.ended.push(ended);
        made.log = log;
    }
    Ok(made)
}

async fn one(
    site: Site<'_>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    log: &mut Option<String>,
) -> Result<Told, Bad> {
    let deadline = Deadline::of(site.limit, "limits.restore");
    let place = Place {
        site,
        blueprint,
        volumes,
        job,
        deadline,
        source: format!("restore {}", job.restore.name),
    };
    let settings = place.settings().await?;
    let checked = place.fill(&settings).await?;
    let server = place.start(Owner::Backup).await.map_err(check::too_new)?;
    let loaded = place.loaded(&server, &checked).await;
    *log = server.log(site.staging).await.ok();
    let keyspace = loaded?;
    server.stop_cleanly(site.staging).await?;
    Ok(told(&keyspace, &checked))
}

fn told(keyspace: &Keyspace, checked: &Seen) -> Told {
    let keys: u64 = keyspace.values().map(|(keys, _)| keys).sum();
    let mut facts = BTreeMap::from([
        (KEYSPACE.to_owned(), ask::written(keyspace)),
        (CHECKSUM.to_owned(), checked.checksum().to_owned()),
    ]);
    if let Some(version) = &checked.of.version {
        facts.insert(VERSION.to_owned(), version.clone());
    }
    Told {
        as_of: checked.as_of,
        figure: Some(format!("{keys} keys in {} databases", keyspace.len())),
        facts,
    }
}

/// What was seen of the backup before any server read it.
struct Seen {
    of: Checked,
    appended: bool,
    as_of: Option<Timestamp>,
}

impl Seen {
    const fn checksum(&self) -> &'static str {
        match (self.appended, self.of.checksum) {
            (true, _) => "appended",
            (false, true) => "holds",
            (false, false) => "none",
        }
    }
}

/// Where one backup is restored.
struct Place<'a> {
    site: Site<'a>,
    blueprint: &'a Blueprint,
    volumes: &'a BTreeMap<String, VolumeFacts>,
    job: Job<'a>,
    deadline: Deadline,
    source: String,
}

impl<'a> Place<'a> {
    async fn start(&self, owner: Owner) -> Result<Server, Bad> {
        let blueprint = self.blueprint.clone();
        Server::start(
            self.site.staging,
            blueprint,
            self.volumes,
            Vec::new(),
            PORT,
            owner,
        )
        .await
    }

    async fn ask(&self, server: &Server) -> Result<Toolbox<'a>, Bad> {
        let mut tool = Toolbox::within(
            self.site.staging,
            &server.running.container,
            self.source.clone(),
            self.deadline,
        );
        ask::log_in(&mut tool, self.blueprint).await?;
        Ok(tool)
    }

    /// Where and how the service's server keeps its data: it is started on empty volumes and asked.
    async fn settings(&self) -> Result<Settings, Bad> {
        let server = self.start(Owner::Staging).await?;
        let settings = ask::settings(&self.ask(&server).await?).await?;
        server.stop_cleanly(self.site.staging).await?;
        let appended = matches!(self.job.restore.method, Method::RedisAof);
        fits(self.blueprint, &settings, appended, self.job.facts.folder)?;
        Ok(settings)
    }

    /// Puts the backup into the data folder and checks it there: the checking tools open files for writing.
    async fn fill(&self, settings: &Settings) -> Result<Seen, Bad> {
        let staging = self.site.staging;
        let service = &self.blueprint.service.name;
        let inbox = Inbox::fill(staging, service, &[self.job]).await?;
        let mut mounts = server::mounts(self.blueprint, self.volumes);
        mounts.push(inbox.mount());
        let open = async |image: &str| {
            Toolbox::open(
                staging,
                &format!("redis-{service}"),
                image,
                mounts.clone(),
                self.source.clone(),
                self.deadline,
            )
            .await
        };
        let mut tool = open(&self.blueprint.image).await?;
        let has = "command -v redis-check-rdb && command -v redis-check-aof";
        if tool.run(&["/bin/sh", "-c", has]).await?.exit_code != 0 {
            tool.close().await?;
            let image = tool_image::ensure(&staging.ground, None).await?;
            tool = open(&image).await?;
        }
        let seen = if matches!(self.job.restore.method, Method::RedisAof) {
            self.fill_appended(&tool, settings).await?
        } else {
            fill_snapshot(&tool, settings).await?
        };
        tool.close().await?;
        inbox.remove(staging).await?;
        Ok(seen)
    }

    async fn fill_appended(&self, tool: &Toolbox<'_>, settings: &Settings) -> Result<Seen, Bad> {
        let (from, into, file) = if self.job.facts.folder {
            let (folder, manifest) = manifest(&self.job.facts.path)?;
            let expected = format!("{}.manifest", settings.appendfilename);
            if manifest != expected {
                return Err(Bad::new(
                    Owner::Stack,
                    format!(
                        "the backup's manifest is `{manifest}`, service `{}` reads `{expected}`",
                        self.blueprint.service.name
                    ),
                )
                .with_help("give the service the `appendfilename` of production"));
            }
            let folder = folder.map_or_else(String::new, |name| format!("/{name}"));
            let into = format!(
                "{}/{}",
                settings.dir,
                settings.appenddirname.as_deref().unwrap_or_default()
            );
            let file = format!("{into}/{manifest}");
            (format!("{}{folder}/.", Inbox::path(0)), into, file)
        } else {
            let file = format!("{}/{}", settings.dir, settings.appendfilename);
            (Inbox::path(0), file.clone(), file)
        };
        place(tool, settings, &[&from, &into, ""]).await?;
        let of = check::check(tool, &["redis-check-aof", &file]).await?;
        // Written by servers that are told to (`aof-timestamp-enabled`).
        let stamps = r#"grep -a -h -r '^#TS:[0-9]*.$' "$1" | tail -n 1 | tr -dc 0-9"#;
        let stamp = tool
            .script("grep", stamps, &[&into], Owner::Staging)
            .await?;
        let seconds = stamp.stdout.trim().parse().ok();
        Ok(Seen {
            of,
            appended: true,
            as_of: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        })
    }

    /// Waits until the server has read everything, and holds what it has against what the checking tool read.
    async fn loaded(&self, server: &Server, seen: &Seen) -> Result<Keyspace, Bad> {
        let asked = async {
            let tool = self.ask(server).await?;
            ask::loaded(&tool).await?;
            let stats = ask::section(&tool, "stats").await?;
            let evicted = ask::info(&stats, "evicted_keys").unwrap_or("0").to_owned();
            let keys = ask::section(&tool, "keyspace").await?;
            Ok((evicted, ask::keyspace(&keys)))
        }
        .await;
        let (evicted, keyspace) = match asked {
            Ok(asked) => asked,
            Err(bad) => return Err(self.died(server).await.unwrap_or(bad)),
        };
        if evicted != "0" {
            return Err(Bad::new(
                Owner::Stack,
                format!(
                    "{}: the server evicted {evicted} keys of the backup",
                    self.source
                ),
            )
            .with_help("its `maxmemory` is lower than production's"));
        }
        let total: u64 = keyspace.values().map(|(keys, _)| keys).sum();
        let bad = |reason: String| {
            Err(Bad::new(
                Owner::Backup,
                format!("{}: {reason}", self.source),
            ))
        };
        if !seen.appended {
            // Keys that expire may have gone since.
            let least = seen.of.keys.saturating_sub(seen.of.expires);
            if total < least || total > seen.of.keys {
                return bad(format!(
                    "the snapshot has {} keys, {} of which expire, and the server holds {total}",
                    seen.of.keys, seen.of.expires
                ));
            }
        }
        let rows = &self.job.restore.demands.rows;
        let expected = !rows.is_empty() && rows.values().all(|rows| *rows == RowCount::Exactly(0));
        if total == 0 && !expected {
            return bad(if seen.of.keys == 0 {
                "the backup holds no key".to_owned()
            } else {
                format!("all {} keys of the backup have expired", seen.of.keys)
            });
        }
        Ok(keyspace)
    }

    /// Why the server is gone, if it is.
    async fn died(&self, server: &Server) -> Option<Bad> {
        let engine = &self.site.staging.ground.engine;
        let state = engine
            .container_state(&server.running.container)
            .await
            .ok()?;
        if state.running {
            return None;
        }
        if state.out_of_memory || state.exit_code == Some(137) {
            return Some(super::Trouble::OutOfMemory.bad(&self.source, "redis-server", ""));
        }
        let log = engine
            .container_log(&server.running.container, Some(5))
            .await
            .unwrap_or_default();
        Some(check::too_new(Bad::new(
            Owner::Backup,
            format!(
                "{}: the server ended while it read the backup: {}",
                self.source,
                log.trim().replace('\n', " | ")
            ),
        )))
    }
}

/// Whether what the server keeps its data in can take the backup.
fn fits(
    blueprint: &Blueprint,
    settings: &Settings,
    appended: bool,
    folder: bool,
) -> Result<(), Bad> {
    let service = &blueprint.service.name;
    let stack = |reason: String, help: &str| Err(Bad::new(Owner::Stack, reason).with_help(help));
    let dir = Path::new(&settings.dir);
    let lasts = blueprint
        .service
        .volumes_with(&blueprint.facts)
        .iter()
        .any(|(_, at)| dir.starts_with(&at.target));
    if !lasts {
        return stack(
            format!(
                "service `{service}` keeps its data in `{}`, which is in no volume",
                settings.dir
            ),
            "give it a named volume there, or a `--dir` that lies in one",
        );
    }
    if appended && !settings.appendonly {
        return stack(
            format!("service `{service}` would not read append-only files: it has `appendonly no`"),
            "add `--appendonly yes` to its command, as production has",
        );
    }
    if appended && folder && settings.major() < MULTI_PART {
        return stack(
            format!(
                "the backup is a folder of Redis 7, and service `{service}` is Redis {}",
                settings.version
            ),
            "use the same major version of Redis as production in the stack",
        );
    }
    if !appended && settings.appendonly && settings.major() < PREAMBLE {
        return stack(
            format!(
                "service `{service}` is Redis {} with `appendonly yes`, which reads no snapshot",
                settings.version
            ),
            "restore an append-only file (`aof:`) into it",
        );
    }
    Ok(())
}

/// Empties the data folder of what the first start left, and copies the backup into it: `from`, `to`, and the line of a
/// manifest beside it, or nothing.
async fn place(tool: &Toolbox<'_>, settings: &Settings, copy: &[&str; 3]) -> Result<(), Bad> {
    const SCRIPT: &str = r#"
cd "$1"
rm -rf "./$2" "./$3" "./${4:-$3}"
owner=$5 from=$6 to=$7 line=$8
mkdir -p "$(dirname "$to")"
cp -R "$from" "$to"
if [ -n "$line" ]; then printf '%s\n' "$line" > "${to%.1.base.rdb}.manifest"; fi
if [ "$(dirname "$to")" = "$1" ]; then top=$to; else top=$(dirname "$to"); fi
chown -R "$owner" "$top"
find "$top" -type f -exec chmod 0644 {} +
find "$top" -type d -exec chmod 0755 {} +
"#;
    let [from, to, line] = copy;
    let arguments = [
        settings.dir.as_str(),
        &settings.dbfilename,
        &settings.appendfilename,
        settings.appenddirname.as_deref().unwrap_or_default(),
        &settings.owner,
        from,
        to,
        line,
    ];
    tool.script("cp", SCRIPT, &arguments, Owner::Staging)
        .await
        .map(drop)
}

async fn fill_snapshot(tool: &Toolbox<'_>, settings: &Settings) -> Result<Seen, Bad> {
    let from = Inbox::path(0);
    let of = check::check(tool, &["redis-check-rdb", &from]).await?;
    let (dir, name) = (&settings.dir, &settings.appendfilename);
    let (to, line) = match (settings.appendonly, &settings.appenddirname) {
        (false, _) => (format!("{dir}/{}", settings.dbfilename), String::new()),
        (true, Some(folder)) => (
            format!("{dir}/{folder}/{name}.1.base.rdb"),
            format!("file {name}.1.base.rdb seq 1 type b"),
        ),
        (true, None) => (format!("{dir}/{name}"), String::new()),
    };
    place(tool, settings, &[&from, &to, &line]).await?;
    Ok(Seen {
        as_of: of.made,
        of,
        appended: false,
    })
}

/// The folder below `backup` that holds the manifest, `None` where it is `backup` itself, and the manifest's name.
fn manifest(backup: &Path) -> Result<(Option<String>, String), Bad> {
    let unreadable = |error: std::io::Error| {
        Bad::new(
            Owner::Engine,
            format!("cannot read `{}`: {error}", backup.display()),
        )
    };
    let mut folders: Vec<(Option<String>, PathBuf)> = vec![(None, backup.to_owned())];
    for entry in std::fs::read_dir(backup).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            folders.push((Some(name), entry.path()));
        }
    }
    for (name, folder) in folders {
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.file_name();
            let file = file.to_string_lossy();
            if file.ends_with(".manifest") {
                return Ok((name, file.into_owned()));
            }
        }
    }
    Err(Bad::new(
        Owner::Backup,
        format!(
            "`{}` has no manifest of append-only files",
            backup.display()
        ),
    ))
}
