//! `docker save` archives, rewritten so that loading one creates exactly one tag, and that one ours.
//!
//! Loading an archive moves every tag it names, and a package could so replace an image that this host uses. What
//! names tags is therefore written anew from what was understood, not edited: `manifest.json` (read by engines with
//! the classic image store), `index.json` (read by engines with the containerd store), and the old `repositories`,
//! which is left out. All other entries are content that is found by its hash.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{OpenError, OpenLimits};
use crate::archive::source::hex;
use crate::archive::tar_out::TarOut;
use crate::archive::{self, ArchiveError, Container, Content, Entry, Kind};

const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
const REPOSITORIES: &str = "repositories";
/// What names images; a real one has a few hundred bytes a layer.
const MAX_JSON: u64 = 4 << 20;

/// What an image archive says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArchiveFacts {
    /// The tags it would have created, sorted.
    pub tags: Vec<String>,
    /// `sha256:<hex>` of the image's configuration, which is the image's id in the classic image store.
    pub config_digest: String,
    /// How many layers.
    pub layers: u64,
}

/// Why an image archive is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageArchiveError {
    /// It cannot be read as an archive.
    #[error(transparent)]
    Archive(#[from] OpenError),
    /// It is an archive, but not of one image.
    #[error("cannot use image archive `{}`: {what}", path.display())]
    NotOneImage {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The tag that was asked for is none.
    #[error("cannot tag an image as `{0}`: expected `name:tag`")]
    Tag(String),
    /// Nobody takes the rewritten archive.
    #[error("cannot write the rewritten image archive: {0}")]
    Write(std::io::Error),
}

impl ImageArchiveError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Archive(error) => error.help(),
            Self::NotOneImage { .. } => "make it with `docker save NAME:TAG`, one image an archive",
            Self::Tag(_) => "this is a defect of rehearse; please report it",
            Self::Write(_) => "the engine ended the upload; see its log",
        }
    }
}

/// An image of `manifest.json`. Keys that are not here are dropped: Go reads keys without regard to case, so an
/// unknown `repotags` would count for the engine.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What the first pass finds.
struct Understood {
    facts: ImageArchiveFacts,
    image: Image,
    index: Option<Descriptor>,
}

/// Reads the archive at `path` (tar, tar.gz or tar.zst) and says what it would load.
///
/// # Errors
/// As [`retag`].
pub fn inspect(path: &Path) -> Result<ImageArchiveFacts, ImageArchiveError> {
    understand(path, container(path)?).map(|understood| understood.facts)
}

/// Writes the archive at `path` to `out` as a plain tar whose loading creates the tag `tag` and no other.
///
/// The archive is read twice: nothing is written before all of it was understood.
///
/// # Errors
/// See [`ImageArchiveError`]; exactly one image is required, and all files that it names must be there.
pub fn retag(
    path: &Path,
    tag: &str,
    out: impl Write,
) -> Result<ImageArchiveFacts, ImageArchiveError> {
    let (name, version) = split(tag).ok_or_else(|| ImageArchiveError::Tag(tag.to_owned()))?;
    let container = container(path)?;
    let Understood {
        facts,
        mut image,
        index,
    } = understand(path, container)?;
    image.repo_tags = Some(vec![tag.to_owned()]);
    let manifest = json(&vec![image]);
    let index = index.map(|descriptor| rename(descriptor, &full_name(name), version));
    let mut tar = TarOut::new(out);
    archive::walk(
        path,
        container,
        &OpenLimits::default().bounds(),
        &mut |entry, content| {
            let replaced = match entry.path.as_slice() {
                path if path == REPOSITORIES.as_bytes() => return Ok(()),
                path if path == MANIFEST.as_bytes() => Some(&manifest),
                path if path == INDEX.as_bytes() => index.as_ref(),
                _ => None,
            };
            match replaced {
                Some(bytes) => {
                    let entry = Entry {
                        size: bytes.len() as u64,
                        ..entry.clone()
                    };
                    tar.bytes(&entry, bytes).map_err(ArchiveError::Write)
                }
                None => tar.copy(entry, content),
            }
        },
    )
    .map_err(|error| failed(path, error))?;
    tar.finish().map_err(ImageArchiveError::Write)?;
    Ok(facts)
}

fn failed(path: &Path, error: ArchiveError) -> ImageArchiveError {
    match error {
        ArchiveError::Write(error) => ImageArchiveError::Write(error),
        error @ (ArchiveError::Refused { .. }
        | ArchiveError::Truncated(_)
        | ArchiveError::Damaged(_)
        | ArchiveError::Unsupported(_)
        | ArchiveError::TooBig(_)
        | ArchiveError::Read(_)) => OpenError::from_archive(path, error).into(),
    }
}

fn container(path: &Path) -> Result<Container, ImageArchiveError> {
    match archive::recognise(path).map_err(|error| failed(path, error))? {
        Some(container @ Container::Tar(_)) => Ok(container),
        Some(Container::Zip) | None => {
            Err(not_one(path, "it is no tar, as `docker save` writes one"))
        }
    }
}

fn not_one(path: &Path, what: impl Into<String>) -> ImageArchiveError {
    ImageArchiveError::NotOneImage {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn understand(path: &Path, container: Container) -> Result<Understood, ImageArchiveError> {
    let mut named: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    // Every file and link, with the digest of those small enough to be a configuration.
    let mut there: BTreeMap<Vec<u8>, Option<String>> = BTreeMap::new();
    archive::walk(
        path,
        container,
        &OpenLimits::default().bounds(),
        &mut |entry, content| {
            let text = String::from_utf8_lossy(&entry.path).into_owned();
            let names_tags = [MANIFEST, INDEX, REPOSITORIES].contains(&text.as_str());
            if names_tags && entry.kind != Kind::File {
                return Err(ArchiveError::refused(&entry.path, "must be a file"));
            }
            let digest = if entry.kind == Kind::File && entry.size <= MAX_JSON {
                let bytes = all(content)?;
                let digest = hex(&Sha256::digest(&bytes));
                if names_tags {
                    named.insert(text, bytes);
                }
                Some(digest)
            } else if names_tags {
                return Err(ArchiveError::refused(&entry.path, "is too large"));
            } else {
                None
            };
            if entry.kind != Kind::Directory {
                there.insert(entry.path.clone(), digest);
            }
            Ok(())
        },
    )
    .map_err(|error| failed(path, error))?;

    let Some(manifest) = named.get(MANIFEST) else {
        let what = if named.contains_key(INDEX) {
            "it is an OCI layout without `manifest.json`"
        } else {
            "it has no `manifest.json`"
        };
        return Err(not_one(path, what));
    };
    let images: Vec<Image> = serde_json::from_slice(manifest)
        .map_err(|error| not_one(path, format!("its `manifest.json` cannot be read: {error}")))?;
    let count = images.len();
    let [image] = <[Image; 1]>::try_from(images).map_err(|_| {
        not_one(
            path,
            format!("it holds {count} images, and exactly one is expected"),
        )
    })?;
    let missing = |file: &String| !there.contains_key(file.as_bytes());
    if let Some(file) = std::iter::once(&image.config)
        .chain(&image.layers)
        .find(|file| missing(file))
    {
        return Err(not_one(
            path,
            format!("its `manifest.json` names `{file}`, which is not in it"),
        ));
    }
    let Some(config) = there.get(image.config.as_bytes()).cloned().flatten() else {
        return Err(not_one(
            path,
            format!("its configuration `{}` is no small file", image.config),
        ));
    };
    let index = named
        .get(INDEX)
        .map(|bytes| one_descriptor(path, bytes))
        .transpose()?;
    let mut tags = image.repo_tags.clone().unwrap_or_default();
    if let Some((_, names)) = &index {
        tags.extend(names.iter().cloned());
    }
    tags.sort();
    tags.dedup();
    let facts = ImageArchiveFacts {
        tags,
        config_digest: format!("sha256:{config}"),
        layers: image.layers.len() as u64,
    };
    Ok(Understood {
        facts,
        image,
        index: index.map(|(descriptor, _)| descriptor),
    })
}

fn all(content: &mut Content<'_>) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    content.copy_to(&mut bytes)?;
    Ok(bytes)
}

/// The one image of an index, which may list it once for each of its names, and those names.
fn one_descriptor(
    path: &Path,
    bytes: &[u8],
) -> Result<(Descriptor, Vec<String>), ImageArchiveError> {
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|error| not_one(path, format!("its `index.json` cannot be read: {error}")))?;
    let Some(first) = index.manifests.first() else {
        return Err(not_one(path, "its `index.json` lists no image"));
    };
    if index
        .manifests
        .iter()
        .any(|other| other.digest != first.digest)
    {
        return Err(not_one(
            path,
            "its `index.json` lists several images, and exactly one is expected",
        ));
    }
    let names = index
        .manifests
        .iter()
        .filter_map(|one| one.annotations.get("io.containerd.image.name").cloned());
    Ok((first.clone(), names.collect()))
}

fn rename(descriptor: Descriptor, name: &str, version: &str) -> Vec<u8> {
    let annotations = BTreeMap::from([
        (
            "io.containerd.image.name".to_owned(),
            format!("{name}:{version}"),
        ),
        (
            "org.opencontainers.image.ref.name".to_owned(),
            version.to_owned(),
        ),
    ]);
    json(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [Descriptor { annotations, ..descriptor }],
    }))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Maps with text keys, lists, text and numbers: nothing that JSON cannot hold.
    serde_json::to_vec(value).unwrap_or_default()
}

fn split(tag: &str) -> Option<(&str, &str)> {
    let (name, version) = tag.rsplit_once(':')?;
    let usable = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (usable(name, "._-/:") && usable(version, "._-")).then_some((name, version))
}

/// The name as the containerd store writes it: with a registry, and `library` for names without a folder.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

#[cfg(test)]
mod tests;
