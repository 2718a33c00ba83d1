//! Digests everything that was handed over and asks the engine what it can do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::engine::{Engine, Labels};
use crate::event::{Artefact, CaseStatus, EventKind, Owner, Stage};
use crate::plan::model::{Restore, RestoreTarget};
use crate::restore::{BackupFacts, Wanted};
use crate::staging::Ground;
use crate::state::BaseStore;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    digest_files(run).await?;
    if let Some(package) = &run.order.plan.package {
        run.recorder.emit(EventKind::ArtefactDigested(Artefact {
            role: "package".to_owned(),
            path: package.source.display().to_string(),
            digest: package.digest.clone(),
            size: package.bytes,
        }));
        run.recorder.emit(EventKind::PackageOpened {
            name: package.name.clone(),
            version: package.version.clone(),
            digest: package.digest.clone(),
            files: package.files,
            bytes: package.bytes,
            shape: package.shape.file().to_owned(),
            components: package
                .components
                .iter()
                .map(|component| component.name.clone())
                .collect(),
        });
    }
    // Before the backups: without an engine, hours of digesting would be for nothing.
    connect(run).await?;
    let restores = run.order.plan.restores.clone();
    for restore in &restores {
        let facts = inspect(run, restore).await?;
        run.recorder.emit(EventKind::ArtefactDigested(Artefact {
            role: restore.name.clone(),
            path: restore.source.display().to_string(),
            digest: format!("sha256:{}", facts.sha256.trim_start_matches("sha256:")),
            size: facts.size,
        }));
        run.backups.push(facts);
    }
    Ok(())
}

async fn digest_files(run: &Run) -> Result<(), Bad> {
    for (role, path) in &run.order.files {
        let content = tokio::fs::read(path).await.map_err(|error| {
            Bad::new(
                Owner::Engine,
                format!("cannot read `{}`: {error}", path.display()),
            )
        })?;
        run.recorder.emit(EventKind::ArtefactDigested(Artefact {
            role: role.clone(),
            path: path.display().to_string(),
            digest: crate::digest::sha256(&content),
            size: content.len() as u64,
        }));
    }
    Ok(())
}

/// Reads a backup once, from its first byte to its last: its digest, its format, and whether all of it is there.
async fn inspect(run: &Run, restore: &Restore) -> Result<BackupFacts, Bad> {
    let started = std::time::Instant::now();
    let name = format!("{}: the backup is whole", restore.name);
    run.recorder.emit(EventKind::Progress {
        stage: Stage::Preflight,
        what: format!("read {}", restore.source.display()),
        done: 0,
        total: tokio::fs::metadata(&restore.source)
            .await
            .ok()
            .map(|metadata| metadata.len()),
        unit: "bytes".to_owned(),
    });
    let path = restore.source.clone();
    let wanted = match &restore.target {
        RestoreTarget::Postgres { .. } => Wanted::PostgresDump,
        RestoreTarget::Archive { .. } => Wanted::Archive,
    };
    let inspected = tokio::task::spawn_blocking(move || {
        let facts = crate::restore::inspect(&path)?;
        facts.require(wanted)?;
        if wanted == Wanted::Archive {
            crate::restore::archive::check(&path, &facts)?;
        }
        Ok::<_, crate::restore::BackupError>(facts)
    })
    .await
    .map_err(|panic| {
        Bad::new(
            Owner::Engine,
            format!("reading a backup broke off: {panic}"),
        )
    })?;
    let seconds = started.elapsed().as_secs_f64();
    match inspected {
        Ok(facts) => {
            let figure = format!("{}, {} bytes", facts.format.name(), facts.size);
            run.case(
                Stage::Preflight,
                passed(Stage::Preflight, name, seconds, Some(figure)),
            );
            Ok(facts)
        }
        Err(error) => {
            let (owner, status) = if error.is_backup_fault() {
                (Owner::Backup, CaseStatus::Failed)
            } else {
                (Owner::Engine, CaseStatus::Error)
            };
            let reason = format!(
                "the backup `{}` of {} cannot serve: {error}",
                restore.source.display(),
                restore.name
            );
            let mut case = not_passed(Stage::Preflight, name, status, seconds, &reason);
            case.location = Some(restore.location.to_string());
            run.case(Stage::Preflight, case);
            Err(Bad::new(owner, reason).with_help(error.help()))
        }
    }
}

async fn connect(run: &mut Run) -> Result<(), Bad> {
    let engine = Engine::connect(run.order.docker_host.as_deref()).await?;
    let facts = engine.facts().await?;
    let now = Timestamp::now();
    let swept = engine.sweep(now).await?;
    let bases = BaseStore::sweep(&engine, now).await?;
    if !swept.removed.is_empty() || bases > 0 {
        run.recorder.emit(EventKind::Note {
            stage: Stage::Preflight,
            text: format!(
                "swept {} things that dead runs left ({})",
                swept.removed.len() + bases,
                swept.runs.join(", ")
            ),
        });
    }
    let names = run.order.names.clone();
    run.ground = Some(Ground {
        labels: Labels::new(
            names.run(),
            &run.order.plan.rehearsal,
            now,
            run.order.expires,
        ),
        plan: Arc::clone(&run.order.plan),
        engine,
        facts: Arc::new(facts),
        names,
        recorder: Arc::clone(&run.recorder),
        stage: Arc::new(Mutex::new(Stage::Preflight)),
        addresses: Arc::new(Mutex::new(HashMap::new())),
        refused: tokio::sync::watch::Sender::new(Vec::new()),
    });
    Ok(())
}
