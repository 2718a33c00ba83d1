//! `rehearse package`: looks at what was handed over, without an engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{USAGE, say};
use crate::manifest::{PackageManifest, load_package};
use crate::package::{OpenLimits, OpenedPackage, open};
use crate::plan::advice::{Advice, advise};
use crate::plan::model::{Action, Shape};

/// The shell makes SHA256SUMS before `find` runs, so it is left out; one in a folder of the package is a file like any
/// other. Names are passed on with NULs, because they may have blanks in them.
const MAKE_SUMS: &str = "write one, so that a file that was lost or added on the way is refused: `find . -xtype f ! -path ./SHA256SUMS -print0 | xargs -0 sha256sum > SHA256SUMS`";

/// Look at a package without an engine: what it would do, what to mend in it, its digest.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a package and say what will be regretted: prompts, calls outside, hidden errors.
    #[command(after_long_help = "\
Errors are what `rehearse run` would refuse (exit code 64). Warnings are advice (exit code 0; with --deny-warnings 1).
Services and hosts are checked by `rehearse check` with a rehearsal that names the package.

Examples:
  rehearse package lint site-2.4.tar.gz
  rehearse package lint packages/site-2.4 --deny-warnings --format json")]
    Lint {
        /// A folder, .tar, .tar.gz, .tar.zst or .zip
        package: PathBuf,
        /// Exit with 1 where there is a warning
        #[arg(long)]
        deny_warnings: bool,
        /// How to say it
        #[arg(long, value_enum, default_value_t = Form::Human)]
        format: Form,
    },
    /// Print the digest to which a verdict is bound: the same for a folder and any archive of it.
    #[command(after_long_help = "\
Prints `sha256:...`, two spaces and the path, one line each, as sha256sum does. `rehearse gate` asks for this digest.

Examples:
  rehearse package digest site-2.4.tar.gz packages/site-2.4")]
    Digest {
        /// Folders, .tar, .tar.gz, .tar.zst or .zip files
        #[arg(required = true, value_name = "PACKAGE")]
        packages: Vec<PathBuf>,
    },
}

/// How to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For a person.
    Human,
    /// One JSON document.
    Json,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.command {
        Command::Lint {
            package,
            deny_warnings,
            format,
        } => lint(package, *deny_warnings, *format),
        Command::Digest { packages } => digests(packages),
    };
    done.unwrap_or_else(|code| code)
}

fn opened(package: &Path) -> Result<OpenedPackage, ExitCode> {
    open(package, &OpenLimits::default()).map_err(|error| {
        say::error(error.to_string(), Some(error.help()));
        ExitCode::from(USAGE)
    })
}

fn digests(packages: &[PathBuf]) -> Result<ExitCode, ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for package in packages {
        match opened(package) {
            Ok(opened) => say::line(format!("{}  {}", opened.digest, package.display())),
            Err(wrong) => code = wrong,
        }
    }
    Ok(code)
}

fn lint(package: &Path, deny_warnings: bool, format: Form) -> Result<ExitCode, ExitCode> {
    let opened = opened(package)?;
    let manifest =
        load_package(&opened.root, package).map_err(|problems| say::problems(&problems))?;
    let mut advice = advise(&manifest);
    if !opened.listing.iter().any(|file| file.path == "SHA256SUMS") {
        advice.push(Advice {
            location: None,
            text: "the package has no `SHA256SUMS`".to_owned(),
            help: MAKE_SUMS,
        });
    }
    advice.extend(assisted(&manifest));
    advice.extend(beside(&opened, &manifest));
    match format {
        Form::Json => say::line(document(package, &opened, &manifest, &advice)),
        Form::Human => show(package, &opened, &manifest, &advice),
    }
    Ok(if deny_warnings && !advice.is_empty() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// What the package leaves to people: with it a run is marked assisted, and fails.
fn assisted(manifest: &PackageManifest) -> Vec<Advice> {
    manifest
        .manual
        .iter()
        .map(|asked| Advice {
            location: Some(asked.place.location()),
            text: format!("the package leaves something to a person: {}", asked.value),
            help: "write a step that does it; a run with a person in it is marked assisted, and fails",
        })
        .collect()
}

/// Files that look as if they counted, and do not.
fn beside(opened: &OpenedPackage, manifest: &PackageManifest) -> Vec<Advice> {
    let has = |name: &str| opened.listing.iter().any(|file| file.path == name);
    let counts = manifest.shape.file();
    let mut advice: Vec<Advice> = Shape::ALL
        .into_iter()
        .map(Shape::file)
        .filter(|file| *file != counts && has(file))
        .map(|file| Advice {
            location: None,
            text: format!(
                "the package has a `{file}` beside its `{counts}`, and only `{counts}` counts"
            ),
            help: "take the other one out, or call it otherwise if a step uses it",
        })
        .collect();
    if manifest.shape == Shape::Manifest && manifest.rollback.is_empty() && has("rollback.sh") {
        advice.push(Advice {
            location: None,
            text: "the package has a `rollback.sh`, and its `deploy.yaml` does not say that it is the way back"
                .to_owned(),
            help: "add `rollback: { steps: [{ name: go back, run: sh ./rollback.sh }] }`",
        });
    }
    advice
}

fn show(package: &Path, opened: &OpenedPackage, manifest: &PackageManifest, advice: &[Advice]) {
    let version = manifest
        .version
        .as_deref()
        .map(|version| format!(" {version}"));
    say::line(format!(
        "{}{}: {}, {} files, {}",
        manifest.name,
        version.unwrap_or_default(),
        manifest.shape.file(),
        opened.files,
        opened.digest
    ));
    for component in &manifest.components {
        let after: Vec<&str> = component
            .after
            .iter()
            .map(|after| after.value.as_str())
            .collect();
        let after = if after.is_empty() {
            String::new()
        } else {
            format!(" (after {})", after.join(", "))
        };
        say::line(format!("  {}{after}", component.name.value));
        for entry in &component.steps {
            say::line(format!(
                "    {}: {}",
                entry.step.name,
                doing(&entry.step.action)
            ));
        }
    }
    for entry in &manifest.rollback {
        say::line(format!(
            "  back: {}: {}",
            entry.step.name,
            doing(&entry.step.action)
        ));
    }
    for parameter in &manifest.parameters {
        let default = parameter
            .default
            .as_ref()
            .map(|value| format!(", else `{value}`"));
        let about = parameter.about.as_ref().map(|about| format!(": {about}"));
        say::line(format!(
            "  wants {}{}{}",
            parameter.name.value,
            default.unwrap_or_default(),
            about.unwrap_or_default()
        ));
    }
    for secret in &manifest.secrets {
        say::line(format!("  wants the secret {}", secret.value));
    }
    for advice in advice {
        let at = match &advice.location {
            Some(location) => location.to_string(),
            None => package.display().to_string(),
        };
        say::warning(format!("{at}: {}\n  help: {}", advice.text, advice.help));
    }
}

/// In one word or two, what an action does and where.
fn doing(action: &Action) -> String {
    match action {
        Action::Run { service: None, .. } => "runs in the bastion".to_owned(),
        Action::Run {
            service: Some(service),
            ..
        } => format!("runs in {service}"),
        Action::Copy { service, to, .. } => format!("copies to {service}:{to}"),
        Action::Image { service, .. } => format!("a new image for {service}"),
        Action::Env { service, .. } => format!("variables of {service}"),
        Action::Files { service, .. } => format!("files for {service}"),
        Action::Override(changes) => format!("recreates {}", changes.service),
        Action::Restart { service } => format!("restarts {service}"),
        Action::Wait { .. } => "waits".to_owned(),
    }
}

fn document(
    package: &Path,
    opened: &OpenedPackage,
    manifest: &PackageManifest,
    advice: &[Advice],
) -> String {
    let components: Vec<_> = manifest
        .components
        .iter()
        .map(|component| {
            let after: Vec<&str> = component.after.iter().map(|at| at.value.as_str()).collect();
            let steps: Vec<&str> = component
                .steps
                .iter()
                .map(|entry| entry.step.name.as_str())
                .collect();
            json!({ "name": component.name.value, "after": after, "steps": steps })
        })
        .collect();
    let warnings: Vec<_> = advice
        .iter()
        .map(|advice| {
            json!({
                "location": advice.location.as_ref().map(ToString::to_string),
                "text": advice.text,
                "help": advice.help,
            })
        })
        .collect();
    let parameters: Vec<&str> = manifest
        .parameters
        .iter()
        .map(|of| of.name.value.as_str())
        .collect();
    let secrets: Vec<&str> = manifest
        .secrets
        .iter()
        .map(|name| name.value.as_str())
        .collect();
    json!({
        "package": manifest.name,
        "version": manifest.version,
        "path": package.display().to_string(),
        "shape": manifest.shape.file(),
        "digest": opened.digest,
        "files": opened.files,
        "bytes": opened.bytes,
        "components": components,
        "parameters": parameters,
        "secrets": secrets,
        "warnings": warnings,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With names that a shell, or a list of lines, would take for something else.
    #[test]
    fn what_is_advised_makes_sums_that_hold() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("sub")).unwrap();
        for name in [
            "deploy.sh",
            "two words",
            "it's \"quoted\"",
            "-n",
            "#1",
            "a\\nb",
            "two\nlines",
            "sub/SHA256SUMS",
        ] {
            std::fs::write(temp.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("../deploy.sh", temp.path().join("sub/link")).unwrap();
        let command = MAKE_SUMS.split('`').nth(1).unwrap();
        let made = std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(temp.path())
            .status()
            .unwrap();
        assert!(made.success());
        let opened = open(temp.path(), &OpenLimits::default());
        let opened = opened.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(opened.files, 10);
        // They are enforced, that of the nested file too.
        std::fs::write(temp.path().join("sub/SHA256SUMS"), "other").unwrap();
        let error = open(temp.path(), &OpenLimits::default()).unwrap_err();
        assert!(
            error.to_string().contains("`sub/SHA256SUMS` has changed"),
            "{error}"
        );
    }

    #[test]
    fn what_is_left_to_a_person_is_warned_of_with_its_words_and_its_line() {
        let temp = tempfile::tempdir().unwrap();
        let text = "```sh\ntrue\n```\n\n<!-- rehearse:manual tell\nthe warehouse -->\n";
        std::fs::write(temp.path().join("DEPLOY.md"), text).unwrap();
        let manifest = load_package(temp.path(), Path::new("site")).unwrap();
        let warned = assisted(&manifest);
        let [one] = warned.as_slice() else {
            panic!("{warned:?}")
        };
        let at = one.location.as_ref().map(ToString::to_string);
        assert_eq!(at.as_deref(), Some("site/DEPLOY.md:5:1"));
        assert!(one.text.ends_with(": tell the warehouse"), "{one:?}");
    }
}
