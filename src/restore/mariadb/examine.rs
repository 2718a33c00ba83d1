//! The ladder's rungs that a MariaDB or MySQL server can show.

use std::time::Instant;

use super::ask::{Ask, literal};
use super::tables::{Kind, Table};
use super::{counters, keys, named, pages, quiet, tables, version};
use crate::check::ladder::{Finding, Rung, Seen};
use crate::check::source::Paired;
use crate::event::Owner;
use crate::plan::model::Restore;
use crate::restore::{Deadline, Subject, Toolbox};
use crate::staging::Bad;

/// In this order: what reads everything comes before what asks about it, and what writes is last.
const RUNGS: [Rung; 9] = [
    Rung::Version,
    Rung::Collation,
    Rung::Readable,
    Rung::Indexes,
    Rung::Rows,
    Rung::Sequences,
    Rung::Constraints,
    Rung::Files,
    Rung::Writes,
];

/// What is examined.
pub(super) struct Scene<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) restore: &'a Restore,
    /// The databases that the backup brought.
    pub(super) databases: Vec<String>,
    /// Their tables, views and sequences.
    pub(super) tables: Vec<Table>,
    /// The databases beside the source's, where it has a manifest.
    pub(super) paired: Option<Paired<'a>>,
}

impl Scene<'_> {
    /// Those of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |table| table.kind == kind)
    }

    /// The databases as a list of literals.
    pub(super) fn list(&self) -> String {
        let names: Vec<String> = self.databases.iter().map(|name| literal(name)).collect();
        names.join(", ")
    }

    /// Where the rehearsal's own queries are asked.
    pub(super) fn asked(&self) -> Option<&str> {
        let method = self.restore.method.database();
        let only = match self.databases.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        method.or(self.restore.demands.database.as_deref()).or(only)
    }
}

/// With the server running on a branch.
pub async fn examine(subject: Subject<'_>) -> Vec<Finding> {
    let deadline = Deadline::of(subject.site.limit, "limits.examine");
    let seen =
        |seen: Result<Seen, Bad>| seen.unwrap_or_else(|bad| of_bad(bad, deadline.left().is_zero()));
    let scene = match scene(subject, deadline).await {
        Ok(Some(scene)) => scene,
        Ok(None) => return Vec::new(),
        Err(bad) => return vec![Finding::new(Rung::Readable, seen(Err(bad)))],
    };
    let mut found = Vec::new();
    for rung in RUNGS {
        if deadline.left().is_zero() {
            found.push(Finding::skipped(
                rung,
                "`limits.examine` was over before it",
            ));
            continue;
        }
        let began = Instant::now();
        let result = match rung {
            Rung::Version => same_version(&scene, subject).await,
            Rung::Collation => tables::collations(&scene).await,
            Rung::Readable => tables::readable(&scene).await,
            Rung::Indexes => tables::checked(&scene).await,
            Rung::Rows => tables::rows(&scene).await,
            Rung::Sequences => counters::judge(&scene).await,
            Rung::Constraints => keys::judge(&scene).await,
            Rung::Files => named::judge(&scene, subject).await,
            _ => tables::writes(&scene).await,
        };
        found.push(Finding {
            seconds: began.elapsed().as_secs_f64(),
            ..Finding::new(rung, seen(result))
        });
    }
    found
}

/// After its clean stop.
pub async fn at_rest(subject: Subject<'_>) -> Vec<Finding> {
    let began = Instant::now();
    let Some(running) = subject.server else {
        return Vec::new();
    };
    let deadline = Deadline::of(subject.site.limit, "limits.examine");
    let seen = pages::judge(subject, running, deadline).await;
    vec![Finding {
        seconds: began.elapsed().as_secs_f64(),
        ..Finding::new(
            Rung::Checksums,
            seen.unwrap_or_else(|bad| of_bad(bad, deadline.left().is_zero())),
        )
    }]
}

async fn scene<'a>(subject: Subject<'a>, deadline: Deadline) -> Result<Option<Scene<'a>>, Bad> {
    let (Some(running), Some(user)) = (subject.server, subject.job.restore.method.user()) else {
        return Ok(None);
    };
    let tool = Toolbox::within(
        subject.site.staging,
        &running.container,
        format!("examine {}", subject.job.restore.name),
        deadline,
    );
    let ask = Ask::open(tool, user).await?;
    quiet::events(&ask).await?;
    let databases = match subject.job.restore.method.database() {
        Some(database) => vec![database.to_owned()],
        None => ask.databases().await?,
    };
    let tables = tables::all(&ask, &databases).await?;
    let whole = subject.job.restore.method.database().is_none();
    let holds = |database: &String| {
        let held = |table: &Table| table.kind == Kind::Base && table.database == *database;
        (database.clone(), tables.iter().any(held))
    };
    let paired = subject
        .job
        .source
        .map(|source| source.beside(&databases.iter().map(holds).collect(), whole));
    Ok(Some(Scene {
        paired,
        ask,
        restore: subject.job.restore,
        databases,
        tables,
    }))
}

/// What a question that failed shows of the backup.
fn of_bad(bad: Bad, too_late: bool) -> Seen {
    if too_late {
        return Seen::Unknown(bad.reason, Some("raise `limits.examine`".to_owned()));
    }
    if bad.owner == Owner::Backup {
        return Seen::Broken(bad.reason);
    }
    Seen::Unknown(bad.reason, bad.help)
}

/// Not the backup's fault where it differs: staging is not like production.
async fn same_version(scene: &Scene<'_>, subject: Subject<'_>) -> Result<Seen, Bad> {
    let server = scene
        .ask
        .text(None, "select version()", Owner::Staging)
        .await?;
    let dump = subject.job.facts.dump.as_ref();
    let dumped = dump.and_then(|dump| dump.server_version.as_deref());
    let source = subject.job.source;
    let Some(from) = dumped.or_else(|| source.map(|source| source.server_version.as_str())) else {
        return Ok(Seen::Skipped(
            "the backup does not say which server it is of".into(),
        ));
    };
    Ok(
        match (version::Series::of(from), version::Series::of(&server)) {
            (Some(backup), Some(server)) if backup == server => {
                Seen::Holds(Some(backup.to_string()))
            }
            (Some(backup), Some(server)) => Seen::Unknown(
                format!("the backup is of {backup}, the service's image is {server}"),
                Some("use the version that production has in the stack".into()),
            ),
            (None, _) | (_, None) => Seen::Skipped(format!(
                "the backup is of `{from}`, the server is `{server}`: which series that is cannot be told"
            )),
        },
    )
}
