//! Reads the schema of restored databases, and judges what a deploy did to it by what its package declares.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Bad;
use super::database::ask_all;
use super::run::{Run, passed};
use crate::check::schema::{SchemaObject, diff, idle, undeclared};
use crate::event::{Case, CaseStatus, EventKind, Owner, Stage, StageOutcome};
use crate::staging::Generation;

/// From a restore's name to its database's objects.
pub(crate) type Schemas = BTreeMap<String, Vec<SchemaObject>>;

const QUERY: &str = include_str!("schema.sql");

/// Reads the schemas of all restored databases of a generation that runs.
pub(super) async fn read(run: &Run, generation: &Generation) -> Result<Schemas, Bad> {
    let command = |user: &str, database: &str| {
        let command = [
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            database,
            "-c",
            QUERY,
        ];
        command.map(str::to_owned).to_vec()
    };
    let mut schemas = Schemas::new();
    for (name, lines) in ask_all(run, generation, "the schema", command).await? {
        let objects = lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line))
            .collect::<Result<Vec<SchemaObject>, _>>()
            .map_err(|error| {
                Bad::new(
                    Owner::Staging,
                    format!("cannot read the schema of {name}: {error}"),
                )
            })?;
        schemas.insert(name, objects);
    }
    Ok(schemas)
}

/// True where no step of the package failed: what a broken-off deploy did not come to is no idle promise.
fn deployed(run: &Run) -> bool {
    run.recorder.events().iter().any(|event| {
        matches!(
            &event.kind,
            EventKind::StageFinished {
                stage: Stage::Deploy,
                outcome: StageOutcome::Ok,
                ..
            }
        )
    })
}

/// Compares with what was read before the deploy, reports a case for each database, and returns a sentence where a
/// package that declares its schema changes made others. A package that declares none at all is warned about: its
/// changes are written down here for the first time.
pub(super) async fn judge(run: &Run, before: &Schemas) -> Result<Option<String>, Bad> {
    let Some(package) = &run.order.plan.package else {
        return Ok(None);
    };
    let mut sentence = None;
    let begun = Instant::now();
    let after = match read(run, run.generation()?).await {
        Ok(after) => after,
        // The deploy took the database away or broke it; the tests and the services' own cases say so.
        Err(bad) => {
            run.case(
                Stage::Verify,
                super::run::not_passed(
                    Stage::Verify,
                    "the schema can be read",
                    CaseStatus::Failed,
                    begun.elapsed().as_secs_f64(),
                    &bad.reason,
                ),
            );
            return Ok(Some(bad.reason));
        }
    };
    for (name, before) in before {
        let changes = diff(before, after.get(name).map_or(&[], Vec::as_slice));
        let declares = &package.declares_schema;
        let hidden = undeclared(&changes, declares);
        let idle = idle(&changes, declares);
        let title = format!("{name}: every schema change is declared");
        let figure = match changes.len() {
            0 => "the schema did not change".to_owned(),
            n => format!("{n} changes, all declared"),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let mut case = Case {
            mismatches: hidden.iter().map(|change| change.undeclared()).collect(),
            ..passed(Stage::Verify, title, seconds, Some(figure))
        };
        if let Some(first) = hidden.first() {
            let reason = format!(
                "{} of {} schema changes of {name} are not declared: {}{}",
                hidden.len(),
                changes.len(),
                first.object.label(),
                if hidden.len() > 1 { ", …" } else { "" }
            );
            case.message = Some(reason.clone());
            if declares.is_empty() {
                case.status = CaseStatus::Warned;
            } else {
                case.status = CaseStatus::Failed;
                sentence.get_or_insert(reason);
            }
        } else if !idle.is_empty() && deployed(run) {
            case.status = CaseStatus::Warned;
            case.message = Some(format!("declared, and not changed: {}", idle.join(", ")));
        }
        run.case(Stage::Verify, case);
    }
    Ok(sentence)
}
