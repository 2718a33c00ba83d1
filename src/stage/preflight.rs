//! Digests everything that was handed over and asks the engine what it can do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::Bad;
use super::restore::worst;
use super::run::{Run, not_passed, passed};
use super::size;
use crate::backup::remembered::{Remembered, stamp};
use crate::backup::{BackupError, BackupFacts, Wanted, inspect as inspect_backup};
use crate::check::ladder::Rung;
use crate::engine::{Engine, Labels};
use crate::event::{Artefact, Case, CaseStatus, EventKind, Mode, Owner, PathPlanned, Stage};
use crate::plan::model::{Emulates, Method, Plan, Restore, WhatIf};
use crate::plan::paths::paths;
use crate::staging::{Authority, Ground};
use crate::state::shelf;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    if run.order.mode == Mode::BackupCheck {
        size::expect(run);
    }
    digest_files(run).await?;
    if let Some(package) = &run.order.plan.package {
        let what_ifs_left_out: Vec<String> = run
            .order
            .plan
            .what_ifs_left_out
            .iter()
            .map(|what_if| what_if.name().to_owned())
            .collect();
        if package.declares.max_rollback.is_some() && run.order.mode == Mode::Rehearse {
            unmeasured(run);
        }
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
            left_out: package.left_out.clone(),
            what_ifs_left_out: what_ifs_left_out.clone(),
            manual: package.manual.clone(),
        });
        if let Some(component) = package
            .components
            .first()
            .filter(|_| !package.document.is_empty())
        {
            run.recorder.emit(EventKind::Runbook {
                component: component.name.clone(),
                parts: package.document.clone(),
            });
        }
        if !what_ifs_left_out.is_empty() {
            run.recorder.emit(EventKind::Note {
                stage: Stage::Preflight,
                text: format!(
                    "not every what-if that the rehearsal requires is tried, {} is left out: the gate stays shut",
                    what_ifs_left_out.join(", ")
                ),
            });
        }
        if !package.left_out.is_empty() {
            run.recorder.emit(EventKind::Note {
                stage: Stage::Preflight,
                text: format!(
                    "only a part of the package is rehearsed, without {}: the gate stays shut",
                    package.left_out.join(", ")
                ),
            });
        }
    }
    plan_paths(run);
    // Before the backups: without an engine, hours of digesting would be for nothing.
    connect(run).await?;
    let restores = run.order.plan.restores.clone();
    let mut bad = None;
    for (member, restore) in restores.iter().enumerate() {
        // All are read, also when one is bad: the nightly reader wants to know of each backup.
        let read = inspect(run, restore).await;
        if let Ok(facts) = &read {
            worst(&mut bad, shown(restore, facts));
        }
        let judged = match &read {
            Ok(facts) => size::judge(run, restore, facts),
            Err(bad) => Err(bad.clone()),
        };
        worst(&mut bad, judged);
        if let Ok(facts) = &read {
            worst(&mut bad, name(run, member, restore, facts));
        }
        run.backups.extend(read);
    }
    bad.map_or(Ok(()), Err)
}

/// What a package promises of its way back is held against it by a what-if alone.
fn unmeasured(run: &Run) {
    let mut asked = run.order.plan.what_ifs.iter();
    if asked.any(|asked| asked.what_if == WhatIf::Rollback) {
        return;
    }
    let case = not_passed(
        Stage::Preflight,
        "declares.max_rollback is measured",
        CaseStatus::Warned,
        0.0,
        "`declares.max_rollback` is not measured: add `rollback` to `what_if`",
    );
    run.case(Stage::Preflight, case);
}

/// Says which what-ifs will be tried: a run that does not come to them, or not to their end, can be seen by this.
fn plan_paths(run: &mut Run) {
    let plan = Arc::clone(&run.order.plan);
    let (Some(package), Mode::Rehearse, false) =
        (&plan.package, run.order.mode, plan.what_ifs.is_empty())
    else {
        return;
    };
    let trying = run.order.trying;
    let seed = trying.seed.unwrap_or_else(|| seed(&package.digest));
    let paths = paths(package, &plan.what_ifs, trying.most_orders, seed);
    run.recorder.emit(EventKind::PathsPlanned {
        paths: paths
            .paths
            .iter()
            .map(|path| PathPlanned {
                path: path.name.clone(),
                what_if: path.what_if.name().to_owned(),
                advisory: path.advisory,
            })
            .collect(),
        orders_left_out: paths.orders_left_out,
        seed: paths.seed,
    });
    run.paths = Some(paths);
}

/// The same package is tried in the same orders. Eight hexadecimal digits: every reader of JSON keeps such a number.
fn seed(digest: &str) -> u64 {
    let digits = digest.trim_start_matches("sha256:").get(..8);
    digits.map_or(0, |digits| {
        u64::from_str_radix(digits, 16).unwrap_or_default()
    })
}

/// Holds the digest of a backup against those that were recorded of it, and reads what was taken at its source.
fn name(run: &mut Run, member: usize, restore: &Restore, facts: &BackupFacts) -> Result<(), Bad> {
    let name = format!("{}: {}", restore.name, Rung::Named.says());
    let named = super::recorded::manifest(restore).and_then(|manifest| {
        super::recorded::digest(restore, facts, manifest.as_ref()).map(|figure| (manifest, figure))
    });
    match named {
        Ok((manifest, figure)) => {
            run.case(
                Stage::Preflight,
                passed(Stage::Preflight, name, 0.0, Some(figure)),
            );
            if let Some(manifest) = manifest {
                run.sources.insert(member, manifest);
            }
            Ok(())
        }
        Err(bad) => {
            let status = if bad.owner == Owner::Backup {
                CaseStatus::Failed
            } else {
                CaseStatus::Error
            };
            let mut case = not_passed(Stage::Preflight, name, status, 0.0, &bad.reason);
            case.location = Some(restore.location.to_string());
            run.case(Stage::Preflight, case);
            Err(bad)
        }
    }
}

async fn digest_files(run: &Run) -> Result<(), Bad> {
    for (role, path) in &run.order.files {
        let content = match tokio::fs::read(path).await {
            Ok(content) => content,
            // What was recorded of a backup is judged with it, and whose fault it is is known there.
            Err(_) if is_record(run, path) => continue,
            Err(error) => {
                return Err(Bad::new(
                    Owner::Engine,
                    format!("cannot read `{}`: {error}", path.display()),
                ));
            }
        };
        run.recorder.emit(EventKind::ArtefactDigested(Artefact {
            role: role.clone(),
            path: path.display().to_string(),
            digest: crate::digest::sha256(&content),
            size: content.len() as u64,
        }));
    }
    Ok(())
}

/// True for a manifest or a checksum that lies beside a backup.
fn is_record(run: &Run, path: &Path) -> bool {
    run.order.plan.restores.iter().any(|restore| {
        let demands = &restore.demands;
        let mut records = demands.manifest.iter().chain(&demands.checksum);
        records.any(|record| record == path)
    })
}

/// Reads a backup once, from its first byte to its last: its digest, its format, and whether all of it is there.
async fn inspect(run: &Run, restore: &Restore) -> Result<BackupFacts, Bad> {
    let started = std::time::Instant::now();
    let name = format!("{}: {}", restore.name, Rung::Complete.says());
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
    let wanted = wanted(&restore.method);
    // A backup check is there to read: what a disk did to the file by itself is not seen in its times.
    let memory = (run.order.mode == Mode::Rehearse).then(|| run.order.remembered.clone());
    let inspected = tokio::task::spawn_blocking(move || read(&path, wanted, memory))
        .await
        .map_err(|panic| {
            Bad::new(
                Owner::Engine,
                format!("reading a backup broke off: {panic}"),
            )
        })?;
    let seconds = started.elapsed().as_secs_f64();
    match inspected {
        Ok((facts, since)) => {
            let mut figure = format!(
                "{}, {} bytes, {}",
                facts.format.name(),
                facts.size,
                facts.complete
            );
            if let Some(since) = since {
                figure = format!("{figure}; read at {since:.0} and unchanged since");
            }
            run.recorder.emit(EventKind::ArtefactDigested(Artefact {
                role: restore.name.clone(),
                path: restore.source.display().to_string(),
                digest: format!("sha256:{}", facts.sha256.trim_start_matches("sha256:")),
                size: facts.size,
            }));
            let case = match (facts.shown, shown(restore, &facts)) {
                (true, _) => passed(Stage::Preflight, name, seconds, Some(figure)),
                (false, Ok(())) => {
                    let skipped = CaseStatus::Skipped;
                    not_passed(Stage::Preflight, name, skipped, seconds, figure)
                }
                (false, Err(bad)) => Case {
                    location: Some(restore.location.to_string()),
                    ..not_passed(
                        Stage::Preflight,
                        name,
                        CaseStatus::Error,
                        seconds,
                        bad.reason,
                    )
                },
            };
            run.case(Stage::Preflight, case);
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

/// That the rehearsal requires to have seen that a backup is whole, and nothing shows it.
fn shown(restore: &Restore, facts: &BackupFacts) -> Result<(), Bad> {
    if facts.shown || !restore.demands.require.contains(&Rung::Complete) {
        return Ok(());
    }
    let reason = format!(
        "{}: `require:` names {}, which {}",
        restore.name,
        Rung::Complete.name(),
        facts.complete
    );
    Err(Bad::new(Owner::Staging, reason)
        .with_help("name a backup of a format that shows it, or require less"))
}

/// Reads a backup, or says what its last reading showed and when that was, if nobody touched it since.
fn read(
    path: &Path,
    wanted: Wanted,
    memory: Option<Remembered>,
) -> Result<(BackupFacts, Option<Timestamp>), BackupError> {
    let Some(memory) = memory else {
        return inspect_backup(path, wanted).map(|facts| (facts, None));
    };
    if let Some((facts, since)) = memory.get(path, wanted) {
        return Ok((facts, Some(since)));
    }
    let before = stamp(path);
    let facts = inspect_backup(path, wanted)?;
    if let Ok(before) = before {
        // A memory that cannot be written costs the next run a reading, and nothing else.
        let _ = memory.put(&facts, wanted, &before, Timestamp::now());
    }
    Ok((facts, None))
}

pub(super) const fn wanted(method: &Method) -> Wanted {
    match method {
        Method::PostgresDump { .. } => Wanted::PostgresDump,
        Method::PostgresGlobals { .. } => Wanted::PostgresGlobals,
        Method::PostgresBaseBackup { .. } => Wanted::PostgresBase,
        Method::PgBackRest { .. } => Wanted::PgBackRest,
        Method::MariadbDump { .. } => Wanted::MariadbDump,
        Method::MariadbBackup { .. } => Wanted::MariadbBackup,
        Method::RedisRdb => Wanted::RedisRdb,
        Method::RedisAof => Wanted::RedisAof,
        Method::Sqlite { .. } => Wanted::Sqlite,
        Method::Archive => Wanted::Archive,
        Method::Restic(_) => Wanted::Restic,
        Method::Borg(_) => Wanted::Borg,
        Method::Rootfs => Wanted::Rootfs,
        Method::Command { .. } => Wanted::Any,
    }
}

async fn connect(run: &mut Run) -> Result<(), Bad> {
    let engine = Engine::connect(run.order.docker_host.as_deref()).await?;
    let facts = engine.facts().await?;
    let now = Timestamp::now();
    let swept = engine.sweep(now).await?;
    let bases = shelf::sweep(&engine, now).await?;
    if let Some(reports) = run.order.dir.parent() {
        let copies = super::restore::sweep_damaged(reports);
        if copies > 0 {
            run.recorder.emit(EventKind::Note {
                stage: Stage::Preflight,
                text: format!("removed {copies} folders with damaged copies that dead runs left"),
            });
        }
    }
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
    let authority = authority(&run.order.plan, names.run(), now)?;
    run.ground = Some(Ground {
        labels: Labels::new(
            names.staging(),
            &run.order.plan.rehearsal,
            now,
            run.order.expires,
        ),
        plan: Arc::clone(&run.order.plan),
        engine,
        facts: Arc::new(facts),
        names,
        recorder: Arc::clone(&run.recorder),
        mask: Arc::clone(&run.order.mask),
        stage: Arc::new(Mutex::new(Stage::Preflight)),
        addresses: Arc::new(Mutex::new(HashMap::new())),
        refused: tokio::sync::watch::Sender::new(Vec::new()),
        killed: Arc::default(),
        authority,
        checks_health: false,
        filled: None,
    });
    Ok(())
}

/// The authority of the run's emulators, where one of them speaks TLS.
fn authority(plan: &Plan, run: &str, now: Timestamp) -> Result<Option<Arc<Authority>>, Bad> {
    let speaks_tls = plan.emulators.iter().any(|emulator| match &emulator.does {
        Emulates::Http(http) => !http.tls.is_empty(),
        Emulates::Smtp(_) | Emulates::Blackhole { .. } | Emulates::Image(_) => false,
    });
    if !speaks_tls {
        return Ok(None);
    }
    let made = Authority::new(run, now).map_err(|why| {
        Bad::new(
            Owner::Engine,
            format!("cannot make the authority of the emulators: {why}"),
        )
    })?;
    Ok(Some(Arc::new(made)))
}
