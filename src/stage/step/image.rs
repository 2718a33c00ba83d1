//! A step that brings an image: from an archive in the package, or built of it without a network.

use std::path::Path;

use super::{Outcome, timed_out, within};
use crate::engine::{BuildNetwork, BuildSpec, EngineError, ImageFacts};
use crate::event::{EventKind, Output, Stage};
use crate::package::dockerfile::{Reference, references};
use crate::package::image_archive;
use crate::plan::model::{Build, ImageSource, Step};
use crate::stage::Bad;
use crate::stage::run::Run;
use crate::staging::Ground;

/// The image of a step inside the step's time, by a name that belongs to this run; else how the step ended.
///
/// # Errors
/// Only where the engine failed.
pub(super) async fn brought(
    run: &Run,
    component: &str,
    step: &Step,
    source: &ImageSource,
) -> Result<Result<(String, ImageFacts), Outcome>, Bad> {
    let ground = run.ground()?;
    let reference = ground.names.image(&format!("{component}/{}", step.name));
    match within(step, bring(run, component, step, source, &reference)).await {
        None => return Ok(Err(timed_out(step))),
        Some(Ok(())) => {}
        Some(Err(error)) if error.is_engines_fault() => return Err(error.into()),
        Some(Err(error)) => return Ok(Err(Outcome::failed(error.to_string()))),
    }
    Ok(match ground.engine.image(&reference).await? {
        Some(facts) => Ok((reference, facts)),
        None => Err(Outcome::failed(format!("image `{reference}` is not there"))),
    })
}

async fn bring(
    run: &Run,
    component: &str,
    step: &Step,
    source: &ImageSource,
    reference: &str,
) -> Result<(), EngineError> {
    let (Some(ground), Some(package)) = (&run.ground, &run.order.plan.package) else {
        return Err(EngineError::new("bring an image", "there is no package"));
    };
    match source {
        ImageSource::Archive(path) => {
            let path = package.root.join(path);
            let shown = path.display().to_string();
            let name = reference.to_owned();
            ground
                .engine
                .load_image(&shown, move |out| {
                    image_archive::retag(&path, &name, out).map_err(std::io::Error::other)
                })
                .await?;
            Ok(())
        }
        ImageSource::Context(path) => {
            let build = Build {
                context: package.root.join(path),
                dockerfile: "Dockerfile".to_owned(),
                args: Default::default(),
                target: None,
            };
            brings_everything(ground, &build).await?;
            let spec = BuildSpec::of(&build, reference, BuildNetwork::None)?;
            let source = format!("{component}/{}", step.name);
            ground
                .engine
                .build_image(&spec, |line| {
                    ground.recorder.emit(EventKind::OutputLine {
                        stage: Stage::Deploy,
                        source: source.clone(),
                        output: Output::Stdout,
                        line,
                    });
                })
                .await
        }
    }
}

/// The engine would fetch what a Dockerfile names and does not bring, from outside staging.
async fn brings_everything(ground: &Ground, build: &Build) -> Result<(), EngineError> {
    let path = build.context.join(&build.dockerfile);
    let refused = |what: String| {
        EngineError::new(format!("build from `{}`", path.display()), what).with_help(
            "bring it along in the package, or build on an image that the stack already has",
        )
    };
    // A link would be followed by the engine from the root of the context, and by us from where it lies.
    let mut at = build.context.clone();
    for part in Path::new(&build.dockerfile).components() {
        at.push(part);
        if at.is_symlink() {
            return Err(refused(format!("`{}` is a symbolic link", at.display())));
        }
    }
    let text = tokio::fs::read_to_string(&path)
        .await
        .map_err(|error| refused(format!("the Dockerfile cannot be read: {error}")))?;
    for reference in references(&text) {
        match reference {
            Reference::Image(image) => {
                let Some(facts) = ground.engine.image(&image).await? else {
                    return Err(refused(format!(
                        "the image `{image}` is not present, and a deploy may not fetch it"
                    )));
                };
                if let Some(why) = unjudged(&image, &facts) {
                    return Err(refused(why).with_help("build on an image that has no `ONBUILD`"));
                }
            }
            Reference::Remote(instruction) => {
                return Err(refused(format!(
                    "`{instruction}` reaches outside, which a deploy may not"
                )));
            }
            Reference::Platform(instruction) => {
                return Err(refused(format!(
                    "`{instruction}` says a platform, for which an engine may fetch an image that is present"
                ))
                .with_help("leave `--platform` out: what is built is for the engine's own"));
            }
            Reference::Heredoc(instruction) => {
                return Err(refused(format!(
                    "`{instruction}` has a here-document, which not every engine reads alike"
                )));
            }
            Reference::Unknown(image) => {
                return Err(refused(format!(
                    "the image `{image}` is not named in the Dockerfile itself"
                )));
            }
        }
    }
    Ok(())
}

/// Why nothing is built on an image that is present: what it adds to a build stands in no Dockerfile of the package, and may
/// fetch as well.
fn unjudged(image: &str, facts: &ImageFacts) -> Option<String> {
    let first = facts.on_build.first()?;
    Some(format!(
        "the image `{image}` adds instructions of its own to what is built on it (`ONBUILD {first}`), which a deploy may not"
    ))
}

#[cfg(test)]
mod tests {
    use super::{ImageFacts, unjudged};

    #[test]
    fn an_image_that_adds_to_a_build_is_named() {
        let mut facts = ImageFacts::default();
        assert_eq!(unjudged("base:1", &facts), None);
        facts.on_build = vec!["ADD http://h/x /x".to_owned()];
        let why = unjudged("base:1", &facts).unwrap();
        assert!(
            why.contains("`base:1`") && why.contains("`ONBUILD ADD http://h/x /x`"),
            "{why}"
        );
    }
}
