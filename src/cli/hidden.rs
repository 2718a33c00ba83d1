//! What must not be shown: the secrets of a plan, read from where the rehearsal says that they are.

use std::process::ExitCode;

use super::{USAGE, say};
use crate::event::Stage;
use crate::mask::{Mask, SHORTEST};
use crate::plan::model::{Plan, Secret};
use crate::secret::Secrets;

/// Reads what the plan's secrets stand for: a password that is not there is found before anything is begun.
pub(super) fn secrets(plan: &Plan) -> Result<Secrets, ExitCode> {
    let mut secrets = Secrets::default();
    for restore in &plan.restores {
        if let Some(secret) = restore.secret() {
            let whose = format!(
                "{}: the secret {secret} of {}",
                restore.location, restore.name
            );
            secrets.insert(secret.clone(), value(secret, &whose)?);
        }
    }
    for (name, secret) in plan.package.iter().flat_map(|package| &package.secrets) {
        let whose = format!(
            "{}: the secret `{name}` of the package",
            plan.file.display()
        );
        let value = value(secret, &whose)?;
        let longest = value.lines().map(|line| line.trim().len()).max();
        if longest.unwrap_or_default() < SHORTEST {
            say::error(
                format!(
                    "{whose} has fewer than {SHORTEST} bytes in a line, so it cannot be kept out of the reports"
                ),
                Some("give the rehearsal a longer one: it need not be production's"),
            );
            return Err(ExitCode::from(USAGE));
        }
        secrets.insert(secret.clone(), value);
    }
    Ok(secrets)
}

/// What a secret stands for, or why that cannot be read.
pub(super) fn read(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Environment(name) => std::env::var(name).map_err(|error| error.to_string()),
        Secret::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
            .map_err(|error| error.to_string()),
    }
}

fn value(secret: &Secret, whose: &str) -> Result<String, ExitCode> {
    let help = match secret {
        Secret::Environment(_) => "set it in the environment of `rehearse`",
        Secret::File(_) => "the path starts from the folder of the rehearsal's file",
    };
    read(secret).map_err(|error| {
        say::error(format!("{whose} cannot be read: {error}"), Some(help));
        ExitCode::from(USAGE)
    })
}

/// Hides the secrets of the package and of the restores. Where that would change what a run is known by, or a word by which
/// it is judged, a secret of the package is refused; one of a restore, which no report shows anyway, is left as it is.
pub(super) fn mask(plan: &Plan, secrets: &Secrets, run: &str) -> Result<Mask, ExitCode> {
    let of_package: Vec<(&str, &str)> = plan
        .package
        .iter()
        .flat_map(|package| &package.secrets)
        .filter_map(|(name, source)| Some((name.as_str(), secrets.get(source)?)))
        .collect();
    hiding(plan, &of_package, secrets, run)
}

/// The same where the package's secrets are known by name and value.
pub(super) fn hiding(
    plan: &Plan,
    of_package: &[(&str, &str)],
    secrets: &Secrets,
    run: &str,
) -> Result<Mask, ExitCode> {
    let mut words: Vec<&str> = VOCABULARY.to_vec();
    words.extend(Stage::ALL.map(Stage::name));
    words.extend([run, &plan.rehearsal]);
    words.extend(plan.stack.services.iter().map(|of| of.name.as_str()));
    words.extend(plan.restores.iter().map(|of| of.name.as_str()));
    let package = plan.package.iter();
    words.extend(
        package
            .clone()
            .flat_map(|of| [of.name.as_str(), &of.digest]),
    );
    words.extend(
        package
            .clone()
            .flat_map(|of| &of.components)
            .map(|of| of.name.as_str()),
    );
    let hides = |value: &str| -> Result<bool, String> {
        let mask = Mask::sparing([value], &words)?;
        Ok(words
            .iter()
            .any(|word| mask.text((*word).to_owned()) != **word))
    };
    let refused = |why: String| {
        say::error(
            why,
            Some("give the rehearsal another one: it need not be production's"),
        );
        ExitCode::from(USAGE)
    };
    let cannot = |why: String| {
        refused(format!(
            "the secrets cannot be kept out of the reports: {why}"
        ))
    };
    for (name, value) in of_package {
        if hides(value).map_err(cannot)? {
            return Err(refused(format!(
                "the secret `{name}` is part of a name or word that every report of this rehearsal needs, so it cannot be kept out of them"
            )));
        }
    }
    let of_package: Vec<&str> = of_package.iter().map(|(_, value)| *value).collect();
    let mut hidden = of_package.clone();
    for restore in &plan.restores {
        let value = restore.secret().and_then(|secret| secrets.get(secret));
        if let Some(value) = value
            && value.len() >= LIKELY
            && !hides(value).map_err(cannot)?
        {
            hidden.push(value);
        }
    }
    let mask = Mask::sparing(hidden, &words).map_err(cannot)?;
    mask.telling(of_package).map_err(cannot)
}

/// A restore's secret is given to its tool alone, which does not show it. One so short may be a word of the tool's own
/// messages, which would be lost.
const LIKELY: usize = 8;

/// Words of the events themselves, and those by which a question to a person is known.
const VOCABULARY: [&str; 65] = [
    "rehearse",
    "backup-check",
    "passed",
    "failed",
    "invalid",
    "skipped",
    "warned",
    "error",
    "stdout",
    "stderr",
    "package",
    "backup",
    "staging",
    "stack",
    "testplan",
    "isolation",
    "engine",
    "event",
    "bad",
    "interrupted",
    "not-reached",
    "proved",
    "stuck",
    "overlay",
    "copy",
    "run-started",
    "run-finished",
    "stage-started",
    "stage-finished",
    "stage-skipped",
    "artefact-digested",
    "package-opened",
    "runbook",
    "engine-found",
    "backup-expected",
    "backup-restored",
    "case-finished",
    "step-started",
    "step-finished",
    "output-line",
    "outside-name",
    "fingerprint",
    "measured",
    "leftover",
    "taken-over",
    "judged",
    "unassisted",
    "bastion",
    "password",
    "passphrase",
    "username",
    "continue",
    "proceed",
    "did not end within its timeout",
    "stdin is not a terminal",
    "paths-planned",
    "path-started",
    "path-ended",
    "on-path",
    "rerun",
    "interrupt",
    "order",
    "subset",
    "again",
    "unfinished",
];
