//! Removes everything that the run made, or leaves staging up on request.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::run::{Keep, Run};
use super::{Bad, takeover, whatif};
use crate::engine::EngineError;
use crate::event::{EventKind, Owner};
use crate::staging::{Generation, Ground};
use crate::state::shelf::{self, Beyond, Removed};
use crate::verdict::{Outcome, Verdict};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let Some(ground) = run.ground.clone() else {
        return Ok(());
    };
    if takeover::hands_off(run) {
        return Ok(());
    }
    let keep = takeover::keeps(run).unwrap_or_else(|| match run.order.keep {
        Keep::Never => false,
        Keep::Always => true,
        Keep::OnFailure => Verdict::of(&run.recorder.events()).outcome != Outcome::Passed,
    });
    // A stage that was broken off may have asked for something that the engine is still making.
    ground.engine.all_made().await;
    let bases = run.staging.as_ref().map(|staging| staging.bases.clone());
    // While this run still stands on its own: what it has just used is the last that should go.
    if let (Some(limit), Some(_)) = (run.order.bases_limit, &bases)
        && let Err(error) = make_room(&ground, limit).await
    {
        ground.note(error.to_string());
    }
    if keep && (bases.is_some() || run.order.takeover.is_some()) {
        // Half-restored volumes are nobody's. Where a server still runs on one, the next sweep finds both.
        if let Some(bases) = &bases
            && let Err(error) = bases.abandon().await
        {
            ground.note(error.to_string());
        }
        return leave_up(run).await;
    }
    if let Some(generation) = run.generation.take() {
        // A log that cannot be read must not keep the rest from being removed.
        if let Err(bad) = run.save_logs(&generation).await {
            ground.note(format!("a log could not be saved: {bad}"));
        }
    }
    run.staging = None;
    let swept = ground.engine.remove_run(ground.labels.run()).await?;
    if swept.left.is_empty() {
        // Only now: a restore that failed has left its server running on what it had restored.
        return match bases {
            Some(bases) => Ok(bases.abandon().await?),
            None => Ok(()),
        };
    }
    for (what, reason) in &swept.left {
        run.recorder.emit(EventKind::Leftover {
            what: what.to_string(),
            reason: reason.clone(),
        });
    }
    Err(Bad::new(
        Owner::Engine,
        format!(
            "{} things of this run could not be removed",
            swept.left.len()
        ),
    )
    .with_help("`rehearse sweep` removes them as soon as the engine lets it"))
}

/// Removes the least recently used bases beyond the limit. That some are left is no fault of the run.
async fn make_room(ground: &Ground, limit: u64) -> Result<(), EngineError> {
    let now = Timestamp::now();
    let bases = shelf::list(&ground.engine, now).await?;
    for base in shelf::beyond(&bases, Beyond::Bytes(limit), now) {
        let key = &base.key;
        ground.note(match shelf::remove(&ground.engine, key).await? {
            Removed::Gone => format!(
                "removed base {key} of {}, last used {:.0}: bases take up more than --bases-limit",
                base.rehearsal, base.used
            ),
            Removed::InUse(runs) => format!("left base {key}: {} stands on it", runs.join(", ")),
            Removed::Partly(cause) => format!("not all of base {key} could be removed: {cause}"),
        });
    }
    Ok(())
}

/// Leaves up what the deploy left (the rollback was proved on branches of its own), marked as kept.
async fn leave_up(run: &mut Run) -> Result<(), Bad> {
    let ground = run.ground()?.clone();
    let (carnage, current) = (run.carnage.take(), run.generation.take());
    let kept: Option<Generation> = match (carnage, current) {
        (Some(carnage), proved) => {
            if let Some(proved) = proved {
                run.save_logs(&proved).await?;
                run.staging()?.discard(&proved).await?;
            }
            // In their order; a service that the deploy broke stays as it is, that is what people want to see.
            for container in &carnage.ran {
                if let Err(error) = ground.engine.start_container(container).await {
                    ground.note(error.to_string());
                }
            }
            Some(carnage.generation)
        }
        (None, current) => current,
    };
    // Paths that were broken off have left what nobody looks at.
    if let Err(bad) = whatif::clear(run).await {
        ground.note(bad.to_string());
    }
    let expires = takeover::keep(run).await?;
    let containers: BTreeMap<String, String> = kept
        .iter()
        .flat_map(|generation| &generation.services)
        .map(|running| {
            (
                running.blueprint.service.name.clone(),
                running.container.clone(),
            )
        })
        .collect();
    run.recorder.emit(EventKind::Kept {
        expires,
        containers,
    });
    Ok(())
}
