//! Limits of a deploy that somebody promised: one that nothing measures would be kept whatever happens.

use crate::manifest::load::Loaded;
use crate::manifest::package::PackageManifest;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::restore::RestoreInto;
use crate::manifest::stack::Stack;
use crate::manifest::suggest;
use crate::plan::model::{Family, Method};

/// Whether each limit is measured by something.
pub(super) fn promises(
    loaded: &Loaded,
    package: Option<&PackageManifest>,
    stack: &Stack,
    p: &mut Problems,
) {
    // What is wrong with the test plan itself is said already.
    let unread = loaded.testplan.is_none() && loaded.rehearsal.testplan.is_some();
    let watched = unread
        || loaded
            .testplan
            .iter()
            .any(|plan| !plan.availability.is_empty());
    let declares = package.map(|package| &package.declares);
    let downtime = declares.and_then(|declares| declares.max_downtime.as_ref());
    let limits = [
        (loaded.rehearsal.downtime.as_ref(), "limits.downtime"),
        (downtime.map(|at| &at.place), "declares.max_downtime"),
    ];
    for (place, name) in limits {
        if let (Some(place), false) = (place, watched) {
            p.push(
                place
                    .problem(format!("nothing measures `{name}`"))
                    .help("add `availability: [{ name: front page, http: { url: http://web/ } }]` to the test plan"),
            );
        }
    }
    let Some(declares) = declares else {
        return;
    };
    if let Some(limit) = &declares.max_lock {
        lock(loaded, limit, p);
    }
    for key in &declares.config {
        setting(key, stack, p);
    }
}

/// Locks are looked at in PostgreSQL alone.
fn lock<T>(loaded: &Loaded, limit: &At<T>, p: &mut Problems) {
    let databases = |family: Family| {
        let restores = loaded.rehearsal.restores.iter();
        restores.filter(move |restore| {
            restore.into == RestoreInto::Service
                && restore.method.family() == family
                && !matches!(restore.method, Method::PostgresGlobals { .. })
        })
    };
    let problem = match databases(Family::Mariadb).next() {
        Some(other) => format!(
            "`declares.max_lock` cannot be measured in `{}`, which is not PostgreSQL",
            other.name()
        ),
        None if databases(Family::Postgres).next().is_none() => {
            "nothing measures `declares.max_lock`: no PostgreSQL database is restored".to_owned()
        }
        None => return,
    };
    p.push(
        limit
            .place
            .problem(problem)
            .help("take it out of the package: a limit that nobody measures is worse than none"),
    );
}

/// The service of a setting is one of the stack's.
fn setting(key: &At<String>, stack: &Stack, p: &mut Problems) {
    let names = || {
        stack
            .services
            .iter()
            .map(|entry| entry.service.name.as_str())
    };
    let known = names().any(|name| {
        let rest = key.value.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.') || rest.starts_with(":/"))
    });
    if !known {
        let service = key.value.split([':', '.']).next().unwrap_or_default();
        p.push(
            key.place
                .problem(format!("`{}` names no service of the stack", key.value))
                .maybe_help(suggest::help(
                    service,
                    names().collect::<Vec<_>>(),
                    "its services",
                )),
        );
    }
}
