//! What a run writes down at its snapshot, so that another one can come back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::next::Next;
use crate::check::model::{BaselineSeen, HttpBody, Probe};
use crate::engine::ImageFacts;
use crate::event::{Artefact, EventKind};
use crate::plan::model::{Emulates, Plan, RouteBody, WhatIf};
use crate::stage::Bad;
use crate::stage::run::{Keep, Run, out_of_order};
use crate::stage::schema::Schemas;
use crate::staging::Names;
use crate::state::{Branching, Frozen};

/// Its file in a run's folder.
const FILE: &str = "staging.json";

/// The version of the file's form.
const VERSION: u32 = 1;

/// What was given on the command line, and from where: a retry has to be given the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The working folder, from which paths start.
    pub folder: PathBuf,
    /// `--set`.
    pub set: Vec<(String, String)>,
    /// `--only`.
    pub only: Vec<String>,
    /// `--deployed`.
    pub deployed: Vec<String>,
    /// `--what-if` or `--no-what-if`; `None` where the file says it.
    #[serde(default)]
    pub what_if: Option<Vec<WhatIf>>,
}

/// A service's image at the snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptImage {
    /// As a container names it.
    pub reference: String,
    /// What it was.
    pub id: String,
    /// What the service's own image says, of which this one may be a commit.
    pub facts: ImageFacts,
}

/// The bastion, as the rehearsal describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptBastion {
    /// Its image.
    pub image: String,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
}

/// A staging that can be come back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptStaging {
    /// The version of this form.
    pub form: u32,
    /// The run in whose folder this lies.
    pub run: String,
    /// The run that made the staging.
    pub staging: String,
    /// What everything of the run in the engine is named after, where that is not the run.
    #[serde(default)]
    pub stem: Option<String>,
    /// The rehearsal's file as given.
    pub rehearsal: PathBuf,
    /// The package as given.
    pub package: PathBuf,
    /// What else was given.
    pub given: Given,
    /// Whether it is left up at the end.
    pub keep: Keep,
    /// How branches are made of it.
    pub branching: Branching,
    /// `sha256:<hex>` of everything that was planned, the package apart.
    pub plan: String,
    /// `sha256:<hex>` of the files that services and tests are given.
    pub inputs: String,
    /// The files and backups that the run depended on, the package apart.
    pub artefacts: Vec<Artefact>,
    /// All volumes at the snapshot.
    pub frozen: BTreeMap<String, Frozen>,
    /// All services' images at the snapshot, in start order.
    pub images: Vec<(String, KeptImage)>,
    /// What the snapshot looked like.
    pub fingerprints: BTreeMap<String, String>,
    /// The objects of each restored database.
    pub schemas: Schemas,
    /// By service: what it had written to its container's own filesystem by then.
    pub written: BTreeMap<String, BTreeSet<String>>,
    /// What the tests saw before the deploy.
    pub baseline_seen: BaselineSeen,
    /// The bastion, where there is one.
    pub bastion: Option<KeptBastion>,
    /// What of the staging belongs to the snapshot, as [`crate::engine::Resource`] prints it; all else came after it.
    pub remain: BTreeSet<String>,
    /// The place that is ready for the next try, where there is one.
    #[serde(default)]
    pub next: Option<Next>,
}

/// Why there is nothing to come back to.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// The run left none: it was not to be kept, or did not get to its snapshot.
    #[error("run {run} wrote down no snapshot to come back to")]
    None {
        /// The run.
        run: String,
    },
    /// The file cannot be read, or is none.
    #[error("cannot read `{}`: {problem}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl KeptStaging {
    /// What the run's resources in the engine are called.
    pub fn names(&self) -> Names {
        let names = Names::of_run(&self.run).within(&self.staging);
        match &self.stem {
            Some(stem) => names.on(stem),
            None => names,
        }
    }

    /// Reads what a run has written down.
    ///
    /// # Errors
    /// When there is nothing, or nothing that this version understands.
    pub fn read(dir: &Path, run: &str) -> Result<Self, Unkept> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Unkept::None {
                    run: run.to_owned(),
                });
            }
            Err(error) => {
                return Err(Unkept::Unreadable {
                    path,
                    problem: error.to_string(),
                });
            }
        };
        let read = serde_json::from_slice::<Self>(&text).map_err(|error| error.to_string());
        let read = read.and_then(|kept| match kept.form {
            VERSION if kept.run == run => Ok(kept),
            VERSION => Err(format!("it is of another run, {}", kept.run)),
            form => Err(format!(
                "it has form {form}; this version knows form {VERSION}"
            )),
        });
        read.map_err(|problem| Unkept::Unreadable { path, problem })
    }

    /// Writes it for whoever may read the backups: it holds rows and pages that the tests saw.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".rehearse-")
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(dir)?;
        serde_json::to_writer(&mut file, self)?;
        file.as_file().sync_all()?;
        file.persist(dir.join(FILE)).map_err(|error| error.error)?;
        std::fs::File::open(dir)?.sync_all()
    }

    /// Everything in the way of trying again by these files: what changed since, one sentence each. Backups are looked at
    /// only as far as that is quick.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn changed(
        &self,
        plan: &Plan,
        files: &[(String, PathBuf)],
    ) -> std::io::Result<Vec<String>> {
        let mut changed = Vec::new();
        for (role, path) in files {
            let digest = crate::digest::sha256(std::fs::read(path)?);
            let before = self.artefacts.iter().find(|artefact| {
                artefact.role == *role && Path::new(&artefact.path) == path.as_path()
            });
            if before.is_none_or(|before| before.digest != digest) {
                changed.push(format!("the {role} `{}` changed", path.display()));
            }
        }
        for restore in &plan.restores {
            let known = self.artefacts.iter().find(|kept| kept.role == restore.name);
            let now = std::fs::metadata(&restore.source);
            let same = match (&now, known) {
                (Ok(now), Some(known)) => !now.is_file() || now.len() == known.size,
                (Err(_), _) | (_, None) => false,
            };
            if !same {
                changed.push(format!("the backup `{}` changed", restore.source.display()));
            }
        }
        if changed.is_empty() && self.plan != digest_of(plan)? {
            changed.push("what the files resolve to changed".to_owned());
        }
        if self.inputs != digest_of_inputs(plan)? {
            changed.push("a file that a service or a test is given changed".to_owned());
        }
        Ok(changed)
    }
}

/// Writes down what another run needs to come back to the snapshot that this one has just made. Where that cannot be
/// done, the run is as good as any; it only cannot be tried again.
pub(in crate::stage) async fn write_down(run: &Run) -> Result<(), Bad> {
    if run.order.keep == Keep::Never {
        return Ok(());
    }
    let ground = run.ground()?;
    let cannot = |why: String| ground.note(format!("this run cannot be retried: {why}"));
    let kept = match collect(run).await? {
        Ok(kept) => kept,
        Err(why) => {
            cannot(why);
            return Ok(());
        }
    };
    // What is masked would not be what the tests saw.
    let text = serde_json::to_string(&kept).unwrap_or_default();
    if ground.mask.holds(&text) {
        cannot("what its tests saw, or its environment, holds a secret".to_owned());
    } else if let Err(error) = kept.write(&run.order.dir) {
        cannot(format!("`{FILE}` cannot be written: {error}"));
    }
    Ok(())
}

async fn collect(run: &Run) -> Result<Result<KeptStaging, String>, Bad> {
    let (plan, staging) = (&run.order.plan, run.staging()?);
    let ground = &staging.ground;
    let snapshot = run.snapshot.as_ref().ok_or_else(out_of_order)?;
    let (Some(package), Ok(digest)) = (&plan.package, digest_of(plan)) else {
        return Ok(Err("it has no package".to_owned()));
    };
    let inputs = match digest_of_inputs(plan) {
        Ok(inputs) => inputs,
        Err(error) => return Ok(Err(format!("a file of the stack cannot be read: {error}"))),
    };
    let mut images = Vec::new();
    for blueprint in &snapshot.blueprints {
        let Some(image) = ground.engine.image(&blueprint.image).await? else {
            return Ok(Err(format!("the image {} is gone", blueprint.image)));
        };
        let kept = KeptImage {
            reference: blueprint.image.clone(),
            id: image.id,
            facts: blueprint.facts.clone(),
        };
        images.push((blueprint.service.name.clone(), kept));
    }
    let standing: BTreeSet<String> = run
        .generation()?
        .branches
        .values()
        .flat_map(crate::state::Branch::volumes)
        .map(|volume| format!("volume {volume}"))
        .collect();
    let all = ground.engine.resources_of(ground.labels.run()).await?;
    let remain = all
        .iter()
        .map(ToString::to_string)
        .filter(|name| name.starts_with("volume ") || name.starts_with("image "))
        .filter(|name| !standing.contains(name))
        .collect();
    Ok(Ok(KeptStaging {
        form: VERSION,
        run: ground.names.run().to_owned(),
        staging: ground.labels.run().to_owned(),
        stem: None,
        rehearsal: plan.file.clone(),
        package: package.source.clone(),
        given: run.order.given.clone(),
        keep: run.order.keep,
        branching: staging.state.branching,
        plan: digest,
        inputs,
        artefacts: artefacts(run),
        frozen: snapshot.frozen.clone(),
        images,
        fingerprints: snapshot.fingerprints.clone(),
        schemas: snapshot.schemas.clone(),
        written: snapshot.written.clone(),
        baseline_seen: run.baseline_seen.clone(),
        bastion: plan.bastion.as_ref().map(|bastion| KeptBastion {
            image: bastion.image.reference.clone(),
            environment: bastion.environment.clone(),
        }),
        remain,
        next: None,
    }))
}

/// The files and backups whose digests preflight has taken, the package apart.
pub(super) fn artefacts(run: &Run) -> Vec<Artefact> {
    let events = run.recorder.events();
    let digested = events.into_iter().filter_map(|event| match event.kind {
        EventKind::ArtefactDigested(artefact) if artefact.role != "package" => Some(artefact),
        _ => None,
    });
    digested.collect()
}

/// Everything that is planned besides the package.
fn digest_of(plan: &Plan) -> std::io::Result<String> {
    let rest = Plan {
        package: None,
        // They are tried after the snapshot.
        what_ifs: Vec::new(),
        what_ifs_left_out: Vec::new(),
        ..plan.clone()
    };
    Ok(crate::digest::sha256(serde_json::to_vec(&rest)?))
}

/// The content of every file that is copied into a service or sent by a test: the plan has only their names.
fn digest_of_inputs(plan: &Plan) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let of_services = plan
        .stack
        .services
        .iter()
        .flat_map(|service| &service.files);
    let mut paths: Vec<&Path> = of_services.map(|file| file.source.as_path()).collect();
    for test in plan.testplan.iter().flat_map(|plan| &plan.tests) {
        match &test.probe {
            Probe::Http(http) => match &http.body {
                HttpBody::Form { files, .. } => {
                    paths.extend(files.iter().map(|file| file.path.as_path()));
                }
                HttpBody::None | HttpBody::Text(_) | HttpBody::Json(_) => {}
            },
            Probe::Tcp(_)
            | Probe::Sql(_)
            | Probe::Exec(_)
            | Probe::File(_)
            | Probe::Emulator(_) => {}
        }
    }
    for emulator in &plan.emulators {
        if let Emulates::Http(http) = &emulator.does {
            paths.extend(http.routes.iter().filter_map(|route| match &route.body {
                RouteBody::File(path) => Some(path.as_path()),
                RouteBody::Empty | RouteBody::Template(_) => None,
            }));
        }
    }
    for path in paths {
        add(&mut digest, path)?;
    }
    let hex: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("sha256:{hex}"))
}

fn add(digest: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    let head = |kind: &str, size: u64| {
        let mode = meta.permissions().mode();
        format!("{kind} {mode:o} {size} {}\0", path.display())
    };
    if meta.is_dir() {
        let mut entries = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        digest.update(head("d", entries.len() as u64));
        return entries.iter().try_for_each(|entry| add(digest, entry));
    }
    if meta.is_symlink() {
        let target = std::fs::read_link(path)?;
        digest.update(head("l", 0));
        digest.update(target.as_os_str().as_encoded_bytes());
        digest.update(b"\0");
        // What is copied is what it leads to.
        return match std::fs::metadata(path) {
            Ok(_) => add(digest, &std::fs::canonicalize(path)?),
            Err(_) => Ok(()),
        };
    }
    digest.update(head("f", meta.len()));
    if meta.is_file() {
        let mut file = std::fs::File::open(path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => digest.update(&buffer[..read]),
            }
        }
    }
    Ok(())
}
