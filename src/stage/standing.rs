//! What no test of the plan looks at may have died all the same.

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::event::{CaseStatus, Stage};

/// Lines of its log that explain why a service is down.
const LOG_LINES: usize = 5;

/// Each service must run, and its own health check must not say otherwise. A service without a check counts as ready
/// as soon as it runs, so one that ends a moment later is found here. Reports a case for each service, and returns a
/// sentence for the first that does not stand.
pub(super) async fn first_down(run: &Run, stage: Stage) -> Result<Option<String>, Bad> {
    let staging = run.staging()?;
    let engine = &staging.ground.engine;
    let mut first = None;
    for running in &run.generation()?.services {
        let service = &running.blueprint.service;
        if service.one_shot {
            continue;
        }
        let name = format!("service `{}` still runs", service.name);
        let what = match engine.container_state(&running.container).await {
            Ok(state) if !state.running => {
                let log = engine
                    .container_log(&running.container, Some(LOG_LINES))
                    .await?;
                let said = log.trim().replace('\n', " | ");
                let log = if said.is_empty() {
                    String::new()
                } else {
                    format!("; its last log lines: {said}")
                };
                Some(format!(
                    "service `{}` does not run: it ended with exit code {}{log}",
                    service.name,
                    state.exit_code.unwrap_or(-1)
                ))
            }
            Ok(state) if state.health.as_deref() == Some("unhealthy") => Some(format!(
                "service `{}` is unhealthy: {}",
                service.name,
                state.last_check.unwrap_or_default().trim()
            )),
            Ok(state) if state.health.is_none() => {
                let complaint = staging.complaint(running).await?;
                complaint.map(|said| format!("service `{}` is unhealthy: {said}", service.name))
            }
            Ok(_) => None,
            Err(error) if error.is_not_found() => Some(format!(
                "service `{}` has no container any more",
                service.name
            )),
            Err(error) => return Err(error.into()),
        };
        run.case(
            stage,
            match &what {
                None => passed(stage, name, 0.0, None),
                Some(what) => not_passed(stage, name, CaseStatus::Failed, 0.0, what),
            },
        );
        first = first.or(what);
    }
    Ok(first)
}
