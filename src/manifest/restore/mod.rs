//! The restores of a rehearsal as written.

mod demand;
mod method;

pub(crate) use method::{jobs, secret};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::check::ladder::Rung;
use crate::manifest::decode::{Fields, duration, text};
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::tree::Node;
use crate::plan::model::{Demands, Family, Method, Target};

/// One restore as written.
#[derive(Clone, Debug)]
pub struct RestoreEntry {
    /// The backup's file or folder.
    pub source: At<PathBuf>,
    /// The service or volume.
    pub name: At<String>,
    /// Into what.
    pub into: RestoreInto,
    /// With which tool.
    pub method: Method,
    /// The file names no role: it is the one that the service's image makes.
    pub default_user: bool,
    /// The data must not be older.
    pub max_age: Option<Duration>,
    /// What has to be true of it.
    pub demands: Demands,
    /// The volume that `files:` names.
    pub files_volume: Option<At<String>>,
    /// Where the restore is written.
    pub place: Place,
}

/// What a backup goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreInto {
    /// A service.
    Service,
    /// A volume.
    Volume,
}

impl RestoreEntry {
    /// What it is restored into.
    pub fn target(&self) -> Target {
        let name = self.name.value.clone();
        match (self.into, &self.method) {
            (RestoreInto::Service, Method::Rootfs) => Target::Image(name),
            (RestoreInto::Service, _) => Target::Service(name),
            (RestoreInto::Volume, _) => Target::Volume(name),
        }
    }

    /// Names it in output: `db/site` or `uploads`.
    pub fn name(&self) -> String {
        let target = &self.name.value;
        match &self.method {
            Method::PostgresDump { database, .. } | Method::MariadbDump { database, .. } => {
                database
                    .as_ref()
                    .map_or_else(|| target.clone(), |database| format!("{target}/{database}"))
            }
            Method::PostgresGlobals { .. } => format!("{target}/globals"),
            Method::Sqlite { to } => format!("{target}/{to}"),
            _ => target.clone(),
        }
    }
}

pub(crate) fn decode(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<RestoreEntry> {
    let mut f = Fields::of(node, "a restore", p)?;
    let place = f.place.clone();
    let max_age = f.opt("max_age", p, duration);
    let (mut demands, files_volume) = demand::decode(&mut f, dir, p);
    let (name, into) = match (f.has("service"), f.has("volume")) {
        (true, false) => (f.opt("service", p, text), RestoreInto::Service),
        (false, true) => (f.opt("volume", p, text), RestoreInto::Volume),
        (both, _) => {
            p.push(
                place
                    .problem(if both {
                        "a restore goes into a `service` or a `volume`, not into both"
                    } else {
                        "a restore says neither `service` nor `volume`"
                    })
                    .help("write `service: db` with `postgres: { dump: .., database: .. }`, or `volume: uploads` with `archive: ..`"),
            );
            return None;
        }
    };
    let keys = method::keys(into);
    let mut written = None;
    let mut given = 0;
    for key in keys {
        if f.has(key) {
            given += 1;
            written = f.opt(key, p, |node, p| method::decode(key, node, dir, p));
        }
    }
    if given != 1 {
        let what = match into {
            RestoreInto::Service => "a service",
            RestoreInto::Volume => "a volume",
        };
        p.push(
            place
                .problem(if given == 0 {
                    format!("the restore does not say how {what} is restored")
                } else {
                    format!("the restore says in {given} ways how {what} is restored")
                })
                .help(format!("give one of `{}`", keys.join("`, `"))),
        );
    }
    f.finish(p);
    if given != 1 {
        return None;
    }
    let written = written?;
    demands.data_as_of = written.data_as_of;
    demands.database = written.asked;
    let entry = RestoreEntry {
        source: written.source,
        name: name?,
        into,
        method: written.method,
        default_user: written.default_user,
        max_age,
        demands,
        files_volume,
        place,
    };
    asks_a_database(&entry, p);
    let demands = &entry.demands;
    if demands.require.contains(&Rung::Named)
        && demands.checksum.is_none()
        && demands.manifest.is_none()
    {
        p.push(
            entry
                .place
                .problem("`require` names `named`, and nothing records the backup's digest")
                .help("add `checksum:` or `manifest:`"),
        );
    }
    if entry.demands.require.contains(&Rung::Fresh) && entry.max_age.is_none() {
        p.push(
            entry
                .place
                .problem("`require` names `fresh`, and there is no `max_age` to be fresh by")
                .help("add `max_age: 26h`, or what the data may be old"),
        );
    }
    Some(entry)
}

/// What asks a database needs one: accepted without effect, it would promise what nobody checks.
fn asks_a_database(entry: &RestoreEntry, p: &mut Problems) {
    if matches!(
        entry.method.family(),
        Family::Postgres | Family::Mariadb | Family::Sqlite
    ) {
        return;
    }
    let demands = &entry.demands;
    let asked = [
        (
            "expect",
            !demands.rows.is_empty() && entry.method.family() != Family::Redis,
        ),
        ("invariants", !demands.invariants.is_empty()),
        ("files", demands.files.is_some()),
    ];
    for (key, _) in asked.iter().filter(|(_, given)| *given) {
        p.push(entry.place.problem(format!(
            "`{key}` asks a database, and this restore makes none"
        )));
    }
}
