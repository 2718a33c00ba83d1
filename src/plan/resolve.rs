//! From manifests to the plan: defaults filled in, names resolved, everything in order.

use std::path::PathBuf;

use crate::check::model::{Probe, Test};
use crate::manifest::load::Loaded;
use crate::manifest::package::{PackageManifest, StepEntry};
use crate::manifest::problem::Problems;
use crate::manifest::restore::RestoreEntry;
use crate::manifest::stack::Stack as StackManifest;
use crate::manifest::testplan::{TargetEntry, TestEntry};
use crate::plan::cross::cross_check;
use crate::plan::emulators;
use crate::plan::model::{
    Action, Bastion, Component, Condition, Image, Method, Package, Plan, Restore, Service, Shape,
    Stack, Step, TestPlan,
};
use crate::plan::order;
use crate::plan::overlay;
use crate::plan::settings::{Settings, settings};

/// What is known of a package once it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFacts {
    /// The path as given.
    pub source: PathBuf,
    /// The folder in which its files lie.
    pub root: PathBuf,
    /// `sha256:<hex>` over its sorted file digests.
    pub digest: String,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The plan of a run; without a package, of a backup check.
///
/// # Errors
/// Everything that does not fit together.
pub fn resolve(
    loaded: &Loaded,
    package: Option<(&PackageManifest, PackageFacts)>,
) -> Result<Plan, Problems> {
    let mut problems = cross_check(loaded, package.as_ref().map(|(manifest, _)| *manifest));
    let settings = package
        .as_ref()
        .map(|(manifest, _)| settings(loaded, manifest, &mut problems));
    let rehearsal = &loaded.rehearsal;
    let Some(stack) = &loaded.stack else {
        return problems.or(None);
    };
    let services = services(stack);
    let restores = rehearsal
        .restores
        .iter()
        .map(|r| restore(r, &services))
        .collect();
    let testplan = loaded.testplan.as_ref().map(|testplan| TestPlan {
        name: testplan.name.clone(),
        file: testplan.file.clone(),
        tests: testplan
            .tests
            .iter()
            .map(|t| test(t, stack, &services))
            .collect(),
        availability: testplan
            .availability
            .iter()
            .map(TargetEntry::resolved)
            .collect(),
    });
    let bastion = rehearsal.bastion.as_ref().map(|bastion| Bastion {
        image: Image {
            reference: bastion
                .image
                .clone()
                .unwrap_or_else(|| format!("rehearse-{}-bastion", rehearsal.name)),
            build: bastion.build.clone(),
        },
        environment: bastion.environment.clone(),
    });
    let services_of_steps = services.clone();
    problems.or(Some(Plan {
        rehearsal: rehearsal.name.clone(),
        file: rehearsal.file.clone(),
        stack: Stack {
            file: stack.file.clone(),
            dir: stack.dir.clone(),
            services,
            volumes: stack.volumes.clone(),
        },
        restores,
        package: package.map(|(manifest, facts)| {
            resolved(
                manifest,
                facts,
                settings.unwrap_or_default(),
                &services_of_steps,
                |probe, default_user| {
                    complete(probe, default_user, stack, &services_of_steps);
                },
            )
        }),
        testplan,
        limits: rehearsal.limits.clone(),
        forbidden: rehearsal
            .forbidden
            .iter()
            .map(|at| at.value.clone())
            .collect(),
        bastion,
        emulators: emulators::resolved(loaded),
        what_ifs: rehearsal.what_if.iter().map(|at| at.value).collect(),
        what_ifs_left_out: Vec::new(),
    }))
}

/// The order in which services start, as indices. A cycle is a problem, and then the order is that of the file.
pub(crate) fn start_order(stack: &StackManifest, p: &mut Problems) -> Vec<usize> {
    let nodes: Vec<(&str, Vec<&str>)> = stack
        .services
        .iter()
        .map(|entry| {
            let on = entry.depends_on.iter().map(|(on, _)| on.value.as_str());
            // A service that waits for itself is reported where it says so.
            let on = on.filter(|on| *on != entry.service.name).collect();
            (entry.service.name.as_str(), on)
        })
        .collect();
    order::sort(&nodes).unwrap_or_else(|cycle| {
        let at = stack
            .services
            .iter()
            .find(|s| cycle.first() == Some(&s.service.name));
        if let Some(entry) = at {
            let next = entry
                .depends_on
                .iter()
                .find(|(on, _)| cycle.get(1) == Some(&on.value));
            let place = next.map_or(&entry.place, |(on, _)| &on.place);
            p.push(
                place
                    .problem(format!(
                        "services wait for each other: {}",
                        cycle.join(" -> ")
                    ))
                    .help("remove one `depends_on` of the circle"),
            );
        }
        (0..stack.services.len()).collect()
    })
}

fn services(stack: &StackManifest) -> Vec<Service> {
    start_order(stack, &mut Problems::new())
        .into_iter()
        .filter_map(|index| stack.services.get(index))
        .map(|entry| {
            let mut service = entry.service.clone();
            service.one_shot = stack
                .services
                .iter()
                .flat_map(|other| &other.depends_on)
                .any(|(on, condition)| {
                    on.value == service.name && *condition == Condition::Completed
                });
            service
        })
        .collect()
}

fn variable(services: &[Service], service: &str, name: &str) -> Option<String> {
    services
        .iter()
        .find(|s| s.name == service)
        .and_then(|s| s.environment.get(name).cloned())
}

/// The role that a service's image makes at its first start.
fn role(services: &[Service], service: &str) -> String {
    variable(services, service, "POSTGRES_USER").unwrap_or_else(|| "postgres".to_owned())
}

fn restore(entry: &RestoreEntry, services: &[Service]) -> Restore {
    let mut method = entry.method.clone();
    if entry.default_user
        && let Method::PostgresDump { user, .. }
        | Method::PostgresGlobals { user }
        | Method::PostgresBaseBackup { user }
        | Method::PgBackRest { user, .. } = &mut method
    {
        *user = role(services, &entry.name.value);
    }
    Restore {
        name: entry.name(),
        source: entry.source.value.clone(),
        into: entry.target(),
        method,
        max_age: entry.max_age,
        demands: entry.demands.clone(),
        location: entry.place.location(),
    }
}

/// The password of a service's role, which its image takes from a variable or from a file.
fn password(stack: &StackManifest, service: &str) -> Option<String> {
    let entry = stack.services.iter().find(|s| s.service.name == service)?;
    let variable = entry.service.environment.get("POSTGRES_PASSWORD");
    variable.or(entry.password_file.as_ref()).cloned()
}

fn test(entry: &TestEntry, stack: &StackManifest, services: &[Service]) -> Test {
    let mut test = entry.test.clone();
    complete(&mut test.probe, entry.default_user, stack, services);
    test
}

/// Fills in what the stack says of a database.
fn complete(probe: &mut Probe, default_user: bool, stack: &StackManifest, services: &[Service]) {
    match probe {
        Probe::Sql(sql) => {
            if default_user {
                sql.user = role(services, &sql.service);
            }
            // The service's password belongs to the service's role and to no other.
            if sql.password.is_none() && sql.user == role(services, &sql.service) {
                sql.password = password(stack, &sql.service);
            }
        }
        Probe::Http(_) | Probe::Tcp(_) | Probe::Exec(_) | Probe::File(_) | Probe::Emulator(_) => {}
    }
}

fn resolved(
    manifest: &PackageManifest,
    facts: PackageFacts,
    (parameters, secrets): Settings,
    services: &[Service],
    complete: impl Fn(&mut Probe, bool),
) -> Package {
    let step = |entry: &StepEntry| {
        let mut step = entry.step.clone();
        if let Action::Wait { probe } = &mut step.action {
            complete(probe, entry.default_user);
        }
        step
    };
    let steps = |steps: &[StepEntry]| -> Vec<Step> { steps.iter().map(step).collect() };
    let components: Vec<Component> = manifest
        .components
        .iter()
        .map(|component| Component {
            name: component.name.value.clone(),
            after: component
                .after
                .iter()
                .map(|after| after.value.clone())
                .collect(),
            steps: steps(&component.steps),
        })
        .collect();
    let components = match manifest.shape {
        Shape::Compose => overlay::ordered(components, services),
        Shape::Manifest | Shape::Runbook | Shape::Script => components,
    };
    Package {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        source: facts.source,
        root: facts.root,
        digest: facts.digest,
        files: facts.files,
        bytes: facts.bytes,
        shape: manifest.shape,
        parameters,
        secrets,
        components,
        left_out: Vec::new(),
        manual: manifest
            .manual
            .iter()
            .map(|asked| format!("{}: {}", asked.place.location(), asked.value))
            .collect(),
        rollback: steps(&manifest.rollback),
        document: manifest.document.clone(),
        declares_schema: manifest.declares_schema.clone(),
        declares: manifest.declares.resolved(),
        rollback_leaves: manifest.rollback_leaves.clone(),
    }
}
