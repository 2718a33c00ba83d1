//! Build contexts: packed, digested, and the options of a build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::query_parameters::BuildImageOptions;
use sha2::{Digest, Sha256};

use super::error::EngineError;
use crate::plan::model::Build;

/// Carried by images that we built: the digest of what they were built from.
pub(super) const CONTEXT: &str = "rehearse.context";

/// What a build may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The engine's default: the stack's own images are built before staging exists.
    Default,
    /// Nothing: an image that a package carries is part of an unassisted deploy.
    None,
}

/// A build, ready to be sent. The context is held in memory: contexts are small, and the digest needs all of it.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// The name of the image.
    pub reference: String,
    /// `sha256:<hex>` of context and options.
    pub digest: String,
    pub(super) context: Vec<u8>,
    dockerfile: String,
    args: HashMap<String, String>,
    target: String,
    network: Network,
}

impl BuildSpec {
    /// Packs a context.
    ///
    /// # Errors
    /// When a file of the context cannot be read.
    pub fn of(build: &Build, reference: &str, network: Network) -> Result<Self, EngineError> {
        let empty_folders = match network {
            Network::Default => true,
            // What a package's digest does not cover is not deployed.
            Network::None => false,
        };
        let context = pack(&build.context, empty_folders).map_err(|error| {
            EngineError::new(
                format!("pack the build context `{}`", build.context.display()),
                error.to_string(),
            )
        })?;
        let mut hasher = Sha256::new();
        hasher.update(&context);
        for part in [
            build.dockerfile.as_str(),
            build.target.as_deref().unwrap_or(""),
        ]
        .into_iter()
        .chain(
            build
                .args
                .iter()
                .flat_map(|(k, v)| [k.as_str(), v.as_str()]),
        ) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = format!("sha256:{}", crate::digest::hex(&hasher.finalize()));
        Ok(Self {
            reference: reference.to_owned(),
            digest,
            context,
            dockerfile: build.dockerfile.clone(),
            args: build.args.clone().into_iter().collect(),
            target: build.target.clone().unwrap_or_default(),
            network,
        })
    }

    pub(super) fn options(&self) -> BuildImageOptions {
        BuildImageOptions {
            dockerfile: self.dockerfile.clone(),
            t: Some(self.reference.clone()),
            rm: true,
            forcerm: true,
            buildargs: Some(self.args.clone()),
            // A package's image lives only as long as its run: nobody asks what it was built from.
            labels: match self.network {
                Network::Default => {
                    Some(HashMap::from([(CONTEXT.to_owned(), self.digest.clone())]))
                }
                Network::None => None,
            },
            networkmode: match self.network {
                Network::Default => None,
                Network::None => Some("none".to_owned()),
            },
            target: self.target.clone(),
            ..BuildImageOptions::default()
        }
    }
}

/// A tar of a folder, the same bytes for the same files: sorted, without times and owners. Without `empty_folders` those
/// with no file or link below them are left out.
fn pack(root: &Path, empty_folders: bool) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let mut folders = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let is_folder = path.is_dir() && !path.is_symlink();
            if is_folder {
                folders.push(path.clone());
            }
            paths.push((path, is_folder));
        }
    }
    paths.sort();
    let mut packed: Vec<PathBuf> = Vec::new();
    // Backwards: what lies below a folder comes before it.
    for (path, is_folder) in paths.into_iter().rev() {
        let is_empty = is_folder && !packed.last().is_some_and(|last| last.starts_with(&path));
        if empty_folders || !is_empty {
            packed.push(path);
        }
    }
    for path in packed.into_iter().rev() {
        let name = path.strip_prefix(root).unwrap_or(&path);
        tar.append_path_with_name(&path, name)?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_image_is_built_without_the_empty_folders() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for folder in ["a/empty/deeper", "a-empty", "b/c", "links"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("Dockerfile"), "FROM scratch\n").unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        std::fs::write(root.join("b/c/file"), "").unwrap();
        std::os::unix::fs::symlink("../a-empty", root.join("links/nowhere")).unwrap();
        let names = |network| {
            let build = Build {
                context: root.to_owned(),
                dockerfile: "Dockerfile".to_owned(),
                args: Default::default(),
                target: None,
            };
            let spec = BuildSpec::of(&build, "x", network).unwrap();
            let mut archive = tar::Archive::new(spec.context.as_slice());
            let entries = archive.entries().unwrap().map(|entry| {
                let path = entry.unwrap().path().unwrap().into_owned();
                path.to_str().unwrap().trim_end_matches('/').to_owned()
            });
            entries.collect::<Vec<String>>()
        };
        let full = [
            "Dockerfile",
            "a",
            "a/file",
            "b",
            "b/c",
            "b/c/file",
            "links",
            "links/nowhere",
        ];
        assert_eq!(names(Network::None), full);
        let mut all = names(Network::Default);
        all.retain(|name| !full.contains(&name.as_str()));
        assert_eq!(all, ["a/empty", "a/empty/deeper", "a-empty"]);
    }
}
