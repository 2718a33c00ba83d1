//! Build contexts: packed, digested, and the options of a build.

use std::collections::HashMap;
use std::path::Path;

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
        let context = pack(&build.context).map_err(|error| {
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

/// A tar of a folder, the same bytes for the same files: sorted, without times and owners.
fn pack(root: &Path) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let mut folders = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(&path);
        tar.append_path_with_name(&path, name)?;
    }
    tar.into_inner()
}
