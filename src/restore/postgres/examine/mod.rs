//! The ladder's rungs that a PostgreSQL server can show.
//!
//! Everything is asked of a branch that is thrown away, one rung after the other, within one limit. What cannot be
//! determined is never the backup's fault, and what was not looked at says why.

mod checksums;
mod constraints;
mod content;
mod rows;
mod versions;

use std::collections::BTreeMap;
use std::time::Instant;

pub use checksums::at_rest;

use super::version::Major;
use super::{Ask, ask, cluster};
use crate::check::ladder::{Finding, Rung, Seen};
use crate::check::source::{DatabaseFacts, Paired};
use crate::event::Owner;
use crate::plan::model::Method;
use crate::restore::{Deadline, Subject, Toolbox};
use crate::staging::Bad;

/// What is looked at.
struct Look<'a> {
    subject: Subject<'a>,
    ask: Ask<'a>,
    /// All that the restore made.
    databases: Vec<String>,
    /// Of the server that it was restored into.
    version: Major,
    /// The databases beside the source's, where it has a manifest.
    paired: Option<Paired<'a>>,
}

/// The rungs that are climbed with the server running, in the order in which they disturb each other least.
const RUNGS: [Rung; 9] = [
    Rung::Version,
    Rung::Collation,
    Rung::Rows,
    Rung::Sequences,
    Rung::Constraints,
    Rung::Files,
    Rung::Readable,
    Rung::Indexes,
    Rung::Writes,
];

/// With the server running on a branch.
pub async fn examine(subject: Subject<'_>) -> Vec<Finding> {
    let restore = subject.job.restore;
    if matches!(restore.method, Method::PostgresGlobals { .. }) {
        return all_skipped("globals hold no database: what is restored beside them is examined");
    }
    let (Some(server), Some(user)) = (subject.server, restore.method.user()) else {
        return all_skipped("no server runs on what was restored");
    };
    let staging = subject.site.staging;
    let tool = Toolbox {
        environment: ask::environment(&server.blueprint),
        ..Toolbox::within(
            staging,
            &server.container,
            format!("examine {}", restore.name),
            Deadline::of(subject.site.limit, "limits.examine"),
        )
    };
    let ask = Ask { tool: &tool, user };
    let look = match open(subject, ask).await {
        Ok(look) => look,
        Err(bad) => {
            let mut findings =
                all_skipped("the server did not say which databases it has, see `readable`");
            findings.retain(|finding| finding.rung != Rung::Readable);
            findings.push(Finding::new(
                Rung::Readable,
                Seen::Unknown(bad.reason, bad.help),
            ));
            return findings;
        }
    };
    let mut findings = Vec::new();
    for rung in RUNGS {
        findings.push(climb(&look, rung).await);
    }
    findings
}

fn all_skipped(reason: &str) -> Vec<Finding> {
    RUNGS
        .into_iter()
        .map(|rung| Finding::skipped(rung, reason))
        .collect()
}

async fn open<'a>(subject: Subject<'a>, ask: Ask<'a>) -> Result<Look<'a>, Bad> {
    let databases = match subject.job.restore.method.database() {
        Some(database) => vec![database.to_owned()],
        None => ask.databases().await?,
    };
    let version = Major::of_number(ask.version().await?);
    let paired = match subject.job.source {
        Some(source) => {
            let mut holds = BTreeMap::new();
            for database in &databases {
                // One that cannot say it is looked at by the rungs.
                let tables = ask.tables(database).await.unwrap_or(1);
                holds.insert(database.clone(), tables > 0);
            }
            let whole = subject.job.restore.method.database().is_none();
            Some(source.beside(&holds, whole))
        }
        None => None,
    };
    Ok(Look {
        paired,
        subject,
        ask,
        databases,
        version,
    })
}

impl Look<'_> {
    /// What was in a database at the source, where that is known.
    fn source_of(&self, database: &str) -> Option<&DatabaseFacts> {
        self.paired.as_ref()?.of(database)
    }
}

async fn climb(look: &Look<'_>, rung: Rung) -> Finding {
    let deadline = &look.ask.tool.deadline;
    if deadline.left().is_zero() {
        return Finding::skipped(rung, "`limits.examine` was over before it");
    }
    let begun = Instant::now();
    let seen = match rung {
        Rung::Version => Ok(versions::version(look)),
        Rung::Collation => versions::collation(look).await,
        Rung::Rows => rows::rows(look).await,
        Rung::Sequences => rows::sequences(look).await,
        Rung::Constraints => constraints::constraints(look).await,
        Rung::Files => files(look).await,
        Rung::Readable => content::readable(look).await,
        Rung::Indexes => content::indexes(look).await,
        _ => content::writes(look).await,
    };
    let seen = seen.unwrap_or_else(|bad| blame(bad, deadline.left().is_zero()));
    Finding {
        seconds: begun.elapsed().as_secs_f64(),
        ..Finding::new(rung, seen)
    }
}

/// What a question that failed shows of the backup.
fn blame(bad: Bad, too_late: bool) -> Seen {
    let lower = bad.reason.to_lowercase();
    // The role may not look: that says nothing of what it would have seen.
    let denied = [
        "permission denied",
        "must be superuser",
        "must be owner of",
        "row-level security",
    ]
    .iter()
    .any(|words| lower.contains(words));
    // A server that died, or a limit that production sets, has shown nothing of the data.
    let lost = [
        "server closed the connection",
        "terminating connection",
        "the database system is ",
        "statement timeout",
        "lock timeout",
    ]
    .iter()
    .any(|words| lower.contains(words));
    if too_late {
        return Seen::Unknown(bad.reason, Some("raise `limits.examine`".to_owned()));
    }
    if lost {
        return Seen::Unknown(
            bad.reason,
            Some(
                "the server's log is in the run's folder, below logs/; often it lacks memory"
                    .to_owned(),
            ),
        );
    }
    if denied {
        return Seen::Unknown(
            bad.reason,
            Some("name a superuser as `user:` of the restore".to_owned()),
        );
    }
    if bad.owner == Owner::Backup {
        return Seen::Broken(bad.reason);
    }
    Seen::Unknown(bad.reason, bad.help)
}

/// Breaches of one rung over several databases, each with its database where there is more than one.
struct Breaches<'a> {
    look: &'a Look<'a>,
    found: Vec<String>,
}

impl<'a> Breaches<'a> {
    const fn new(look: &'a Look<'a>) -> Self {
        Self {
            look,
            found: Vec::new(),
        }
    }

    fn add(&mut self, database: &str, breach: impl std::fmt::Display) {
        self.found.push(if self.look.databases.len() > 1 {
            format!("{database}: {breach}")
        } else {
            breach.to_string()
        });
    }

    /// The first few in one sentence, or the figure where there are none.
    fn seen(self, figure: impl Into<String>) -> Seen {
        const SHOWN: usize = 5;
        if self.found.is_empty() {
            return Seen::Holds(Some(figure.into()));
        }
        let more = self.found.len().saturating_sub(SHOWN);
        let mut text = self.found[..self.found.len().min(SHOWN)].join("; ");
        if more > 0 {
            text = format!("{text}; and {more} more");
        }
        Seen::Broken(text)
    }
}

/// `3 tables`, `1 index`: `one` in its plural where there is not one.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

async fn files(look: &Look<'_>) -> Result<Seen, Bad> {
    let subject = look.subject;
    let Some(named) = &subject.job.restore.demands.files else {
        return Ok(Seen::Skipped("the rehearsal says no `files:`".to_owned()));
    };
    let database = cluster::asked(subject.job.restore, &look.databases)?;
    let query = named.query.trim().trim_end_matches(';');
    let query = format!("select to_json(named.path::text) from (\n{query}\n) as named(path);");
    let paths: Vec<Option<String>> = look
        .ask
        .rows_in_its_path(database, &query, Owner::Staging)
        .await
        .map_err(|bad| bad.with_help("`files.query` has to be one select of one path a row"))?;
    let Some(server) = subject.server else {
        return Ok(Seen::Skipped("no server runs".to_owned()));
    };
    let image = &server.blueprint.facts.id;
    let paths = paths.into_iter().flatten().collect();
    crate::restore::files::look_for(subject, image, look.ask.tool.deadline, named, paths).await
}
