//! A step that recreates a service as a Compose file of the package says, all of it at once.

use super::{Outcome, image, recreate};
use crate::plan::model::{Override, Step};
use crate::stage::Bad;
use crate::stage::run::{Run, out_of_order};

/// Brings the image, where there is one, and recreates the service.
pub(super) async fn carry_out(
    run: &mut Run,
    component: &str,
    step: &Step,
    changes: &Override,
) -> Result<Outcome, Bad> {
    let begun = std::time::Instant::now();
    let mut image = None;
    if let Some(source) = &changes.image {
        match image::brought(run, component, step, source).await? {
            Ok(brought) => image = Some(brought),
            Err(outcome) => return Ok(outcome),
        }
    }
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let root = package.root.clone();
    // The step's time is for all of it.
    let rest = Step {
        timeout: step.timeout.saturating_sub(begun.elapsed()),
        ..step.clone()
    };
    recreate(run, &rest, &changes.service, |blueprint| {
        if let Some((reference, facts)) = image {
            blueprint.image = reference;
            blueprint.facts = facts;
        }
        let service = &mut blueprint.service;
        if let Some(command) = &changes.command {
            service.command = Some(command.clone());
        }
        if let Some(entrypoint) = &changes.entrypoint {
            service.entrypoint = Some(entrypoint.clone());
        }
        for (name, value) in &changes.environment {
            blueprint.unset.remove(name);
            service.environment.insert(name.clone(), value.clone());
        }
        for file in &changes.files {
            service.files.retain(|other| other.target != file.target);
            let mut file = file.clone();
            file.source = root.join(&file.source);
            service.files.push(file);
        }
    })
    .await
}
