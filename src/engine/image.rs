//! Images: present, else pulled, else built; loaded from a package; committed from a container.

use std::io::Write;
use std::time::Duration;

use bollard::models::{ContainerConfig, HealthConfig};
use bollard::query_parameters::{
    CommitContainerOptions, CreateImageOptions, ImportImageOptions, RemoveImageOptions,
    TagImageOptions,
};
use bollard::{body_full, body_try_stream};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::body;
use super::error::{Doing, EngineError};
use super::{BuildNetwork, BuildSpec, Engine, Labels, Purpose};
use crate::plan::model::{Healthcheck, Image};

/// How an image came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obtained {
    /// It was there.
    Present,
    /// It was pulled.
    Pulled,
    /// It was built.
    Built,
}

/// What a container of an image would be like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageFacts {
    /// `sha256:<hex>`.
    pub id: String,
    /// The paths that it declares as volumes.
    pub volumes: Vec<String>,
    /// Its own environment, as `KEY=value`.
    pub environment: Vec<String>,
    /// Its own health check, where it has one.
    pub healthcheck: Option<Healthcheck>,
    /// TCP ports that it exposes.
    pub tcp_ports: Vec<u16>,
    /// The digest of the build context that we built it from, if we did.
    pub built_from: Option<String>,
    /// The instructions that are carried out when another image is built on it, as `ADD .. ..`.
    #[serde(default)]
    pub on_build: Vec<String>,
}

/// As an image says it; to the engine a zero is something that is not said.
fn health_check(check: HealthConfig) -> Option<Healthcheck> {
    let said = |nanos: Option<i64>| {
        let nanos = u64::try_from(nanos?).ok().filter(|nanos| *nanos > 0)?;
        Some(Duration::from_nanos(nanos))
    };
    let test = check.test?;
    let retries = check.retries.and_then(|times| u32::try_from(times).ok());
    test.first()
        .is_some_and(|kind| kind != "NONE")
        .then_some(Healthcheck {
            interval: said(check.interval),
            timeout: said(check.timeout),
            retries: retries.filter(|times| *times > 0),
            start_period: said(check.start_period),
            test,
        })
}

impl Engine {
    /// What is known of an image; `None` when it is not present.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError> {
        let seen = self
            .docker
            .inspect_image(reference)
            .await
            .doing(|| format!("inspect image `{reference}`"));
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let config = seen.config.unwrap_or_default();
        let tcp_ports = config
            .exposed_ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| match port.split_once('/') {
                Some((number, "tcp")) => number.parse().ok(),
                Some(_) => None,
                None => port.parse().ok(),
            })
            .collect();
        let mut volumes = config.volumes.unwrap_or_default();
        volumes.sort();
        Ok(Some(ImageFacts {
            id: seen.id.unwrap_or_default(),
            volumes,
            environment: config.env.unwrap_or_default(),
            healthcheck: config.healthcheck.and_then(health_check),
            tcp_ports,
            built_from: config
                .labels
                .and_then(|labels| labels.get(super::build::CONTEXT).cloned()),
            on_build: config.on_build.unwrap_or_default(),
        }))
    }

    /// Makes sure that an image is present: found, else pulled, else built. An image that we built from other
    /// files than those there now is built again. Each line of a pull or a build goes to `line`.
    ///
    /// # Errors
    /// When it is nowhere to be had; the error holds what the pull and the build said.
    pub async fn ensure_image(
        &self,
        image: &Image,
        mut line: impl FnMut(String) + Send,
    ) -> Result<(ImageFacts, Obtained), EngineError> {
        let reference = &image.reference;
        let spec = match &image.build {
            Some(build) => Some(BuildSpec::of(build, reference, BuildNetwork::Default)?),
            None => None,
        };
        if let Some(facts) = self.image(reference).await? {
            let stale = match (&facts.built_from, &spec) {
                (Some(was), Some(spec)) => *was != spec.digest,
                (_, _) => false,
            };
            if !stale {
                return Ok((facts, Obtained::Present));
            }
            line(format!("the build context of {reference} has changed"));
        } else {
            line(format!("pull {reference}"));
            match self.pull(reference, &mut line).await {
                Ok(()) => return Ok((self.present(reference).await?, Obtained::Pulled)),
                Err(error) if spec.is_none() => {
                    return Err(error.with_help(
                        "give the service a `build:` context, or load the image into the engine first",
                    ));
                }
                Err(error) => line(format!("not pulled: {}", error.cause)),
            }
        }
        let Some(spec) = spec else {
            return Err(EngineError::new(
                format!("get image `{reference}`"),
                "it was removed while it was looked at",
            ));
        };
        self.build_image(&spec, &mut line).await?;
        Ok((self.present(reference).await?, Obtained::Built))
    }

    async fn present(&self, reference: &str) -> Result<ImageFacts, EngineError> {
        self.image(reference).await?.ok_or_else(|| {
            EngineError::new(
                format!("inspect image `{reference}`"),
                "it is not there although it was just made",
            )
        })
    }

    /// Pulls an image.
    ///
    /// # Errors
    /// When no registry answers, or none has it.
    pub async fn pull(
        &self,
        reference: &str,
        mut line: impl FnMut(String) + Send,
    ) -> Result<(), EngineError> {
        let operation = || format!("pull image `{reference}`");
        let (name, tag) = name_and_tag(reference);
        let options = CreateImageOptions {
            from_image: Some(name.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let mut stream = self.docker.create_image(Some(options), None, None);
        let mut last = String::new();
        while let Some(info) = stream.next().await {
            let info = info.doing(operation)?;
            let status = info.status.unwrap_or_default();
            if !status.is_empty() && status != last {
                line(status.clone());
                last = status;
            }
        }
        Ok(())
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// When the image is not present.
    pub async fn tag(&self, reference: &str, as_reference: &str) -> Result<(), EngineError> {
        let (repo, tag) = name_and_tag(as_reference);
        let options = TagImageOptions {
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
        };
        self.docker
            .tag_image(reference, Some(options))
            .await
            .doing(|| format!("name image `{reference}` `{as_reference}`"))
    }

    /// Makes an image from a root filesystem tar written by `write`.
    ///
    /// # Errors
    /// The writer's or the engine's.
    pub async fn import_rootfs(
        &self,
        reference: &str,
        changes: Vec<String>,
        write: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), EngineError> {
        let operation = || format!("import image `{reference}`");
        let (repo, tag) = name_and_tag(reference);
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            changes,
            ..CreateImageOptions::default()
        };
        let (stream, writer) = body::written(write);
        let mut answers =
            self.docker
                .create_image(Some(options), Some(body_try_stream(stream)), None);
        while let Some(answer) = answers.next().await {
            answer.doing(operation)?;
        }
        drop(answers);
        match writer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(EngineError::new(operation(), error.to_string())),
            Err(panic) => Err(EngineError::new(operation(), panic.to_string())),
        }
    }

    /// Loads a `docker save` archive written by `write`.
    ///
    /// # Errors
    /// The writer's or the engine's.
    pub async fn load_image<T, E>(
        &self,
        what: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, E> + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        E: std::fmt::Display + From<std::io::Error> + Send + 'static,
    {
        let operation = || format!("load image `{what}`");
        let (stream, writer) = body::written(write);
        let mut answers =
            self.docker
                .import_image(ImportImageOptions::default(), body_try_stream(stream), None);
        let mut refused = None;
        while let Some(answer) = answers.next().await {
            if let Err(error) = answer.doing(operation) {
                refused = Some(error);
                break;
            }
        }
        drop(answers);
        match (writer.await, refused) {
            (Ok(Err(error)), _) => Err(EngineError::new(operation(), error.to_string())),
            (Err(panic), _) => Err(EngineError::new(operation(), panic.to_string())),
            (Ok(Ok(_)), Some(error)) => Err(error),
            (Ok(Ok(value)), None) => Ok(value),
        }
    }

    /// Freezes a container's own filesystem as an image. Volumes are not part of it.
    ///
    /// # Errors
    /// When the container does not exist.
    pub async fn commit(
        &self,
        container: &str,
        reference: &str,
        labels: &Labels,
    ) -> Result<(), EngineError> {
        let (repo, tag) = name_and_tag(reference);
        let options = CommitContainerOptions {
            container: Some(container.to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            pause: true,
            ..CommitContainerOptions::default()
        };
        let config = ContainerConfig {
            labels: Some(labels.of(Purpose::Run)),
            ..ContainerConfig::default()
        };
        let docker = self.docker.clone();
        self.make(
            async move { docker.commit_container(options, config).await },
            || format!("commit container `{container}`"),
        )
        .await?;
        Ok(())
    }

    /// Removes an image's name, and the image where it was the last. One that is gone is fine.
    ///
    /// # Errors
    /// When a container still uses it.
    pub async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptions {
            force: false,
            ..RemoveImageOptions::default()
        };
        let removed = self
            .docker
            .remove_image(reference, Some(options), None)
            .await
            .doing(|| format!("remove image `{reference}`"));
        match removed {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Builds an image; each line goes to `line`.
    ///
    /// # Errors
    /// With the last lines of the build.
    pub async fn build_image(
        &self,
        spec: &BuildSpec,
        mut line: impl FnMut(String) + Send,
    ) -> Result<(), EngineError> {
        let operation = || format!("build image `{}`", spec.reference);
        let mut stream = self.docker.build_image(
            spec.options(),
            None,
            Some(body_full(spec.context.clone().into())),
        );
        let mut last: Vec<String> = Vec::new();
        while let Some(info) = stream.next().await {
            let info = match info.doing(operation) {
                Ok(info) => info,
                Err(mut error) => {
                    if !last.is_empty() {
                        error.cause = format!("{} (after: {})", error.cause, last.join(" | "));
                    }
                    return Err(error.with_help(
                        "the build's whole output is in the run's logs; a base image that no registry \
                         gives must be in the engine before",
                    ));
                }
            };
            if let Some(detail) = info.error_detail {
                let cause = detail.message.unwrap_or_default();
                return Err(EngineError::new(
                    operation(),
                    format!("{} (after: {})", cause.trim(), last.join(" | ")),
                ));
            }
            for text in info.stream.unwrap_or_default().lines() {
                let text = anstream::adapter::strip_str(text.trim_end()).to_string();
                if !text.trim().is_empty() {
                    if last.len() == 3 {
                        last.remove(0);
                    }
                    last.push(text.clone());
                    line(text);
                }
            }
        }
        Ok(())
    }
}

/// `name:tag` in two parts; a digest counts as a tag, as the engine's API wants it.
fn name_and_tag(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        // A colon before a slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_tag;

    #[test]
    fn references_are_taken_apart_as_the_engine_wants_them() {
        for (reference, expected) in [
            ("postgres", ("postgres", "latest")),
            ("postgres:15", ("postgres", "15")),
            ("host:5000/a/b", ("host:5000/a/b", "latest")),
            ("host:5000/a/b:1", ("host:5000/a/b", "1")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            assert_eq!(name_and_tag(reference), expected);
        }
    }
}
