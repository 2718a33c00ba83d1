//! Which settings of services a deploy changed: variables, and files that it fills or says it changes. Values are
//! compared by digest, and none is ever shown.

use std::collections::BTreeSet;
use std::io::Read as _;

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::check::config::{Settings, diff, idle, undeclared};
use crate::event::{Case, CaseStatus, Mismatch, Stage};
use crate::plan::model::{Action, Package};
use crate::staging::Blueprint;

/// The suite's name.
const SUITE: &str = "config";

/// More of a file than this is not read.
const FILE_LIMIT: usize = 64 * 1024 * 1024;

/// In place of the digest of a file that is longer.
const TOO_LARGE: &str = "too large";

/// The settings before the deploy.
pub(super) struct Before {
    files: BTreeSet<(String, String)>,
    settings: Settings,
}

impl Before {
    /// Reads them.
    pub(super) async fn read(run: &Run, package: &Package) -> Result<Self, Bad> {
        let files = files(run, package);
        let settings = settings(run, &files).await?;
        Ok(Self { files, settings })
    }

    /// Compares with what they are now, and reports a case where the package changes or declares any.
    pub(super) async fn judge(self, run: &Run, package: &Package, whole: bool) -> Result<(), Bad> {
        const NAME: &str = "every changed setting is declared";
        let after = settings(run, &self.files).await?;
        let too_large: Vec<&str> = self
            .settings
            .iter()
            .chain(&after)
            .filter(|(_, digest)| *digest == TOO_LARGE)
            .map(|(key, _)| key.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !too_large.is_empty() {
            let why = format!(
                "{} cannot be compared: more than {} MiB",
                too_large.join(", "),
                FILE_LIMIT >> 20
            );
            let case = not_passed(Stage::Deploy, NAME, CaseStatus::Error, 0.0, why);
            run.case(
                Stage::Deploy,
                Case {
                    suite: SUITE.to_owned(),
                    ..case
                },
            );
            return Ok(());
        }
        let changes = diff(&self.settings, &after);
        let declared = &package.declares.config;
        if changes.is_empty() && declared.is_empty() {
            return Ok(());
        }
        let hidden = undeclared(&changes, declared);
        let idle = idle(&changes, declared);
        let figure = format!("{} settings changed, all declared", changes.len());
        let mut case = passed(Stage::Deploy, NAME, 0.0, Some(figure));
        if !hidden.is_empty() {
            let names: Vec<&str> = hidden.iter().map(|change| change.key.as_str()).collect();
            let status = match declared.is_empty() {
                true => CaseStatus::Warned,
                false => CaseStatus::Failed,
            };
            let why = format!(
                "{} of {} changed settings are not declared: {}",
                hidden.len(),
                changes.len(),
                names.join(", ")
            );
            case = not_passed(Stage::Deploy, NAME, status, 0.0, why);
            case.mismatches = hidden
                .iter()
                .map(|change| Mismatch {
                    what: change.key.clone(),
                    expected: "declared in declares.config, or as it was".to_owned(),
                    seen: change.how.to_owned(),
                })
                .collect();
        } else if !idle.is_empty() && whole {
            let why = format!("declared, and not changed: {}", idle.join(", "));
            case = not_passed(Stage::Deploy, NAME, CaseStatus::Warned, 0.0, why);
        }
        run.case(
            Stage::Deploy,
            Case {
                suite: SUITE.to_owned(),
                ..case
            },
        );
        Ok(())
    }
}

/// Service and path of every file that counts: what the package fills from templates, and what it declares.
fn files(run: &Run, package: &Package) -> BTreeSet<(String, String)> {
    let mut files = BTreeSet::new();
    let steps = package.components.iter().flat_map(|of| &of.steps);
    for step in steps {
        match &step.action {
            Action::Files {
                service,
                files: filled,
            } => files.extend(filled.iter().map(|file| (service.clone(), file.to.clone()))),
            Action::Run { .. }
            | Action::Copy { .. }
            | Action::Image { .. }
            | Action::Env { .. }
            | Action::Restart { .. }
            | Action::Wait { .. }
            // A Compose file has no place in which it could declare what it brings along.
            | Action::Override(_) => {}
        }
    }
    let names = run.order.plan.stack.services.iter().map(|of| &of.name);
    for name in names {
        let declared = package.declares.config.iter();
        let of_it = declared.filter_map(|key| key.strip_prefix(name.as_str())?.strip_prefix(':'));
        files.extend(of_it.map(|path| (name.clone(), path.to_owned())));
    }
    files
}

/// All settings of the live generation.
async fn settings(run: &Run, files: &BTreeSet<(String, String)>) -> Result<Settings, Bad> {
    let mut settings = Settings::new();
    let generation = run.generation()?;
    for running in &generation.services {
        let service = &running.blueprint.service.name;
        for (variable, value) in environment(&running.blueprint) {
            let digest = crate::digest::sha256(value.as_bytes());
            settings.insert(format!("{service}.{variable}"), digest);
        }
        for (_, path) in files.iter().filter(|(of, _)| of == service) {
            let engine = &run.ground()?.engine;
            let digest = match engine.download(&running.container, path, FILE_LIMIT).await {
                Ok(tar) => digest_of(&tar),
                Err(error) if error.is_not_found() => continue,
                Err(error) if error.is_too_large() => TOO_LARGE.to_owned(),
                Err(error) => return Err(error.into()),
            };
            settings.insert(format!("{service}:{path}"), digest);
        }
    }
    Ok(settings)
}

/// What a container made from a blueprint has: the image's variables, and over them the service's.
pub(super) fn environment(blueprint: &Blueprint) -> std::collections::BTreeMap<String, String> {
    let image = blueprint.facts.environment.iter();
    let image = image
        .map(|pair| pair.split_once('=').unwrap_or((pair.as_str(), "")))
        .filter(|(variable, _)| !blueprint.unset.contains(*variable))
        .map(|(variable, value)| (variable.to_owned(), value.to_owned()));
    let own = blueprint.service.environment.clone();
    image.chain(own).collect()
}

/// Contents, kinds, link targets and permissions of what the engine sends of a path, without times.
fn digest_of(tar: &[u8]) -> String {
    let mut seen = Vec::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().into_iter().flatten() {
        // What cannot be read differs from all that can.
        let Ok(mut entry) = entry else {
            seen.extend_from_slice(b"unreadable");
            break;
        };
        let header = entry.header().clone();
        seen.extend_from_slice(&entry.path_bytes());
        seen.push(header.entry_type().as_byte());
        seen.extend_from_slice(&entry.link_name_bytes().unwrap_or_default());
        seen.push(0);
        let numbers = [
            u64::from(header.mode().unwrap_or_default()),
            header.uid().unwrap_or_default(),
            header.gid().unwrap_or_default(),
        ];
        seen.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        let _ = entry.read_to_end(&mut seen);
    }
    crate::digest::sha256(&seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(to: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_link(&mut header, "current", to).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_link_to_something_else_is_a_changed_setting() {
        assert_eq!(digest_of(&link("/a")), digest_of(&link("/a")));
        assert_ne!(digest_of(&link("/a")), digest_of(&link("/b")));
    }
}
