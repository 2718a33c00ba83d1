//! Asks restored databases, with the tools of the services that hold them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Bad;
use super::run::Run;
use crate::engine::ExecSpec;
use crate::event::{Output, Owner};
use crate::plan::model::RestoreTarget;
use crate::staging::{Ended, Generation};

/// For one question to one database. Counting every row of a large one takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a command for each restored database in its service's container, and returns the lines that it wrote, by the
/// restore's name. `command` gets the role and the database. `what` names what is asked for, in errors.
///
/// All lines are kept, however many: what is asked for is compared, not shown.
pub(super) async fn ask_all(
    run: &Run,
    generation: &Generation,
    what: &str,
    command: impl Fn(&str, &str) -> Vec<String>,
) -> Result<BTreeMap<String, Vec<String>>, Bad> {
    let mut answers = BTreeMap::new();
    for restore in &run.order.plan.restores {
        let RestoreTarget::Postgres {
            service,
            database,
            user,
            ..
        } = &restore.target
        else {
            continue;
        };
        let failed = |why: String| {
            Bad::new(
                Owner::Staging,
                format!("cannot read {what} of {}: {why}", restore.name),
            )
        };
        let running = generation
            .services
            .iter()
            .find(|running| running.blueprint.service.name == *service)
            .ok_or_else(|| failed(format!("service `{service}` is gone")))?;
        let password = running
            .blueprint
            .service
            .environment
            .get("POSTGRES_PASSWORD");
        let spec = ExecSpec {
            command: command(user, database),
            environment: password
                .map(|password| ("PGPASSWORD".to_owned(), password.clone()))
                .into_iter()
                .collect(),
            ..ExecSpec::default()
        };
        let mut lines = Vec::new();
        let ended = run
            .ground()?
            .exec_within(&running.container, &spec, PATIENCE, |line| {
                if line.output == Output::Stdout {
                    lines.push(line.line);
                }
            })
            .await?;
        match ended {
            // A tool that complains has not told everything, whatever its exit code says.
            Ended::ByItself(outcome) if outcome.exit_code == 0 && outcome.stderr.is_empty() => {}
            Ended::ByItself(outcome) => return Err(failed(outcome.last_words())),
            Ended::Killed => return Err(failed(format!("no answer within {PATIENCE:?}"))),
        }
        answers.insert(restore.name.clone(), lines);
    }
    Ok(answers)
}
