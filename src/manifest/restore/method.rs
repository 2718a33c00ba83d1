//! The one key of a restore that says with which tool: `postgres`, `mariadb`, `redis`, `sqlite`, `archive`, ...

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RestoreInto;
use crate::manifest::decode::{Fields, number, string, text};
use crate::manifest::paths;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{Method, Repository, Secret};

/// The backup and the tool; `data_as_of` and `database` belong to what is asked afterwards.
pub(super) struct Written {
    pub(super) source: At<PathBuf>,
    pub(super) method: Method,
    /// The file names no role: it is the one that the service's image makes.
    pub(super) default_user: bool,
    pub(super) data_as_of: Option<String>,
    pub(super) asked: Option<String>,
}

impl Written {
    fn of(source: At<PathBuf>, method: Method) -> Self {
        Self {
            source,
            method,
            default_user: false,
            data_as_of: None,
            asked: None,
        }
    }
}

/// The keys that go with a service, and with a volume.
pub(super) const fn keys(into: RestoreInto) -> &'static [&'static str] {
    match into {
        RestoreInto::Service => &["postgres", "mariadb", "mysql", "redis", "rootfs", "command"],
        RestoreInto::Volume => &["archive", "sqlite", "restic", "borg", "command"],
    }
}

pub(super) fn decode(key: &str, node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    match key {
        "postgres" => postgres(node, dir, p),
        "mariadb" | "mysql" => mariadb(node, dir, p),
        "redis" => redis(node, dir, p),
        "rootfs" => Some(Written::of(path(node, dir, p)?, Method::Rootfs)),
        "archive" => Some(Written::of(path(node, dir, p)?, Method::Archive)),
        "sqlite" => sqlite(node, dir, p),
        "restic" | "borg" => repository(key, node, dir, p),
        _ => command(node, dir, p),
    }
}

fn path(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<At<PathBuf>> {
    text(node, p).map(|at| at.map(|written| paths::join(dir, &written)))
}

/// Exactly one of some keys.
fn one_of(f: &Fields<'_>, names: &[&'static str], p: &mut Problems) -> Option<&'static str> {
    let given: Vec<&'static str> = names.iter().copied().filter(|key| f.has(key)).collect();
    match given.as_slice() {
        [one] => Some(one),
        several => {
            let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            p.push(f.place.problem(if several.is_empty() {
                format!("none of {} is given", all.join(", "))
            } else {
                format!("more than one of {} is given", all.join(", "))
            }));
            None
        }
    }
}

fn postgres(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, "`postgres`", p)?;
    let kind = one_of(&f, &["dump", "globals", "base_backup", "pgbackrest"], p);
    let dump = f.opt("dump", p, |node, p| path(node, dir, p));
    let globals = f.opt("globals", p, |node, p| path(node, dir, p));
    let base_backup = f.opt("base_backup", p, |node, p| path(node, dir, p));
    let pgbackrest = f.opt("pgbackrest", p, |node, p| pgbackrest(node, dir, p));
    let database = f.opt("database", p, string);
    let user = f.opt("user", p, string);
    let jobs_place = f.key_place("jobs").cloned();
    let jobs = f.opt("jobs", p, jobs);
    let data_as_of = f.opt("data_as_of", p, string);
    f.finish(p);
    let kind = kind?;
    if let (Some(place), true) = (jobs_place, kind != "dump") {
        p.push(place.problem(format!("`jobs` goes with `dump`, not with `{kind}`")));
    }
    let default_user = user.is_none();
    let user = user.unwrap_or_default();
    let (source, method) = match kind {
        "dump" => (
            dump?,
            Method::PostgresDump {
                database: database.clone(),
                user,
                jobs: jobs.unwrap_or(1),
            },
        ),
        "globals" => (globals?, Method::PostgresGlobals { user }),
        "base_backup" => (base_backup?, Method::PostgresBaseBackup { user }),
        _ => {
            let written = pgbackrest?;
            (
                written.repository,
                Method::PgBackRest {
                    stanza: written.stanza,
                    time: written.time,
                    passphrase: written.passphrase,
                    image: written.image,
                    user,
                },
            )
        }
    };
    Some(Written {
        source,
        method,
        default_user,
        data_as_of,
        asked: database,
    })
}

struct PgBackRest {
    repository: At<PathBuf>,
    stanza: String,
    time: Option<String>,
    passphrase: Option<Secret>,
    image: Option<String>,
}

fn pgbackrest(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<PgBackRest> {
    let mut f = Fields::of(node, "`pgbackrest`", p)?;
    let repository = f.req("repository", p, |node, p| path(node, dir, p));
    let stanza = f.req("stanza", p, string);
    let time = f.opt("time", p, string);
    let passphrase = f.opt("passphrase", p, |node, p| secret(node, dir, p));
    let image = f.opt("image", p, string);
    f.finish(p);
    Some(PgBackRest {
        repository: repository?,
        stanza: stanza?,
        time,
        passphrase,
        image,
    })
}

fn mariadb(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, "`mariadb`", p)?;
    let kind = one_of(&f, &["dump", "backup"], p);
    let dump = f.opt("dump", p, |node, p| path(node, dir, p));
    let backup = f.opt("backup", p, |node, p| path(node, dir, p));
    let database = f.opt("database", p, string);
    let user = f
        .opt("user", p, string)
        .unwrap_or_else(|| "root".to_owned());
    let data_as_of = f.opt("data_as_of", p, string);
    f.finish(p);
    let (source, method) = if kind? == "dump" {
        let method = Method::MariadbDump {
            database: database.clone(),
            user,
        };
        (dump?, method)
    } else {
        (backup?, Method::MariadbBackup { user })
    };
    Some(Written {
        data_as_of,
        asked: database,
        ..Written::of(source, method)
    })
}

fn redis(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, "`redis`", p)?;
    let kind = one_of(&f, &["rdb", "aof"], p);
    let rdb = f.opt("rdb", p, |node, p| path(node, dir, p));
    let aof = f.opt("aof", p, |node, p| path(node, dir, p));
    f.finish(p);
    if kind? == "rdb" {
        Some(Written::of(rdb?, Method::RedisRdb))
    } else {
        Some(Written::of(aof?, Method::RedisAof))
    }
}

fn sqlite(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, "`sqlite`", p)?;
    let file = f.req("file", p, |node, p| path(node, dir, p));
    let to = f.opt("to", p, inside);
    let data_as_of = f.opt("data_as_of", p, string);
    f.finish(p);
    let file = file?;
    let to = to.unwrap_or_else(|| {
        file.value
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    });
    Some(Written {
        data_as_of,
        ..Written::of(file, Method::Sqlite { to })
    })
}

fn repository(key: &str, node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, format!("`{key}`"), p)?;
    let repository = f.req("repository", p, |node, p| path(node, dir, p));
    let password = if key == "restic" {
        f.req("password", p, |node, p| secret(node, dir, p))
    } else {
        f.opt("password", p, |node, p| secret(node, dir, p))
    };
    let snapshot = f.opt("snapshot", p, string);
    let path = f.opt("path", p, string);
    let image = f.opt("image", p, string);
    f.finish(p);
    let kept = Repository {
        password,
        snapshot: snapshot.unwrap_or_else(|| "latest".to_owned()),
        path,
        image,
    };
    let method = if key == "restic" {
        kept.password.as_ref()?;
        Method::Restic(kept)
    } else {
        Method::Borg(kept)
    };
    Some(Written::of(repository?, method))
}

fn command(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Written> {
    let mut f = Fields::of(node, "`command`", p)?;
    let backup = f.req("backup", p, |node, p| path(node, dir, p));
    let run = f.req("run", p, string);
    let image = f.opt("image", p, string);
    f.finish(p);
    Some(Written::of(backup?, Method::Command { run: run?, image }))
}

/// `{ env: NAME }` or `{ file: PATH }`: a secret itself has no place in a file that is handed around.
pub(crate) fn secret(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Secret> {
    if let Kind::Scalar { .. } = node.kind {
        p.push(
            node.place
                .problem("a secret is not written into the rehearsal")
                .help("write `{ env: NAME }` or `{ file: PATH }`"),
        );
        return None;
    }
    let mut f = Fields::of(node, "a secret", p)?;
    let kind = one_of(&f, &["env", "file"], p);
    let name = f.opt("env", p, string);
    let file = f.opt("file", p, |node, p| path(node, dir, p));
    f.finish(p);
    if kind? == "env" {
        name.map(Secret::Environment)
    } else {
        file.map(|at| Secret::File(at.value))
    }
}

/// A path in a volume, relative to its root, that stays in it.
pub(super) fn inside(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let at = text(node, p)?;
    let stays = !at.value.starts_with('/')
        && at.value.split('/').all(|part| part != "..")
        && !at.value.is_empty();
    if stays {
        return Some(at.value.trim_matches('/').to_owned());
    }
    p.push(
        at.place
            .problem(format!("`{}` does not lie in the volume", at.value))
            .help("write a path relative to the volume's root, without `..`"),
    );
    None
}

pub(crate) fn jobs(node: &Arc<Node>, p: &mut Problems) -> Option<u16> {
    let jobs = number::<u16>(node, p)?;
    if (1..=64).contains(&jobs) {
        return Some(jobs);
    }
    p.push(
        node.place
            .problem(format!("`{jobs}` jobs is not between 1 and 64")),
    );
    None
}
