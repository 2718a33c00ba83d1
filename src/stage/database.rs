//! Asks restored databases, with the tools of the services that hold them.

use std::collections::BTreeMap;

use super::Bad;
use super::run::Run;
use crate::engine::ExecSpec;
use crate::event::{Output, Owner};
use crate::plan::model::{Family, Method, Restore};
use crate::restore::postgres::{Ask, environment};
use crate::restore::{Deadline, Toolbox};
use crate::staging::{Ended, Generation, Running};

/// Runs a command for each restored database in its service's container, and returns the lines that it wrote, by
/// `service/database`. `command` gets the role and the database. `what` names what is asked for, in errors.
///
/// All lines are kept, however many: what is asked for is compared, not shown.
pub(super) async fn ask_all(
    run: &Run,
    generation: &Generation,
    what: &str,
    command: impl Fn(&str, &str) -> Vec<String>,
) -> Result<BTreeMap<String, Vec<String>>, Bad> {
    let mut answers = BTreeMap::new();
    for restored in restored(run, generation, what).await? {
        let command = command(restored.user, &restored.database);
        let lines = ask(run, restored.running, what, &restored.name, command).await?;
        answers.insert(restored.name, lines);
    }
    Ok(answers)
}

/// A database that a restore made.
pub(super) struct Restored<'a> {
    /// `service/database`.
    pub(super) name: String,
    /// Its service.
    pub(super) running: &'a Running,
    /// The role that restored it.
    pub(super) user: &'a str,
    /// Its name in the server.
    pub(super) database: String,
}

/// Every restored PostgreSQL database, once.
pub(super) async fn restored<'a>(
    run: &'a Run,
    generation: &'a Generation,
    what: &str,
) -> Result<Vec<Restored<'a>>, Bad> {
    let mut all: Vec<Restored<'a>> = Vec::new();
    for restore in &run.order.plan.restores {
        let (Some(service), Some(user), true) = (
            restore.service(),
            restore.method.user(),
            has_databases(&restore.method),
        ) else {
            continue;
        };
        let running = generation
            .services
            .iter()
            .find(|running| running.blueprint.service.name == service)
            .ok_or_else(|| cannot(what, &restore.name, &format!("service `{service}` is gone")))?;
        for database in databases(run, restore, running, user).await? {
            let name = format!("{service}/{database}");
            // A whole server's dump beside one of a database names both.
            if all.iter().any(|known| known.name == name) {
                continue;
            }
            all.push(Restored {
                name,
                running,
                user,
                database,
            });
        }
    }
    Ok(all)
}

fn cannot(what: &str, whose: &str, why: &str) -> Bad {
    Bad::new(
        Owner::Staging,
        format!("cannot read {what} of {whose}: {why}"),
    )
}

fn has_databases(method: &Method) -> bool {
    method.family() == Family::Postgres && !matches!(method, Method::PostgresGlobals { .. })
}

/// The databases that a restore made: the one that it names, else all of the server.
async fn databases(
    run: &Run,
    restore: &Restore,
    running: &Running,
    user: &str,
) -> Result<Vec<String>, Bad> {
    if let Some(database) = restore.method.database() {
        return Ok(vec![database.to_owned()]);
    }
    let tool = Toolbox {
        environment: environment(&running.blueprint),
        ..Toolbox::within(
            run.staging()?,
            &running.container,
            format!("the databases of {}", restore.name),
            Deadline::of(run.order.plan.limits.examine, "limits.examine"),
        )
    };
    let asked = Ask { tool: &tool, user }.databases().await;
    // It was restored and has started: that it does not answer now is no fault of the backup.
    asked.map_err(|bad| cannot("the list of databases", &restore.name, &bad.reason))
}

async fn ask(
    run: &Run,
    running: &Running,
    what: &str,
    name: &str,
    command: Vec<String>,
) -> Result<Vec<String>, Bad> {
    let spec = ExecSpec {
        command,
        environment: environment(&running.blueprint),
        ..ExecSpec::default()
    };
    let mut lines = Vec::new();
    // Counting every row of a large one takes its time.
    let limit = run.order.plan.limits.examine;
    let ended = run
        .ground()?
        .exec_within(&running.container, &spec, limit, |line| {
            if line.output == Output::Stdout {
                lines.push(line.line);
            }
        })
        .await?;
    match ended {
        // A tool that complains has not told everything, whatever its exit code says.
        Ended::ByItself(outcome) if outcome.exit_code == 0 && outcome.stderr.is_empty() => {
            Ok(lines)
        }
        Ended::ByItself(outcome) => Err(cannot(what, name, &outcome.last_words())),
        // It may be large, and nobody's fault.
        Ended::Killed => {
            let why = format!("no answer within {} s (limits.examine)", limit.as_secs());
            Err(Bad {
                owner: Owner::Engine,
                ..cannot(what, name, &why)
            })
        }
    }
}
