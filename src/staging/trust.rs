//! Puts the run's authority into the trust of a container, before it is started.

use std::collections::BTreeSet;
use std::io::Read as _;

use super::Ground;
use crate::engine::EngineError;

/// Where distributions keep the certificates that every program trusts: Debian, Arch and Alpine; Red Hat; OpenSSL's own.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Where links among them lead to, on Red Hat.
const BEHIND: &str = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";

/// The certificate alone, where `update-ca-certificates` and programs with a setting of their own find it.
const ALONE: &str = "/usr/local/share/ca-certificates/rehearse.crt";

/// A bundle is a few hundred kilobytes.
const MOST: usize = 16 << 20;

/// A chain of links that is longer leads in a circle.
const LINKS: usize = 8;

/// True for what is put into each container that trusts, and for the folders above it: no change of its own.
pub fn is_put_there(path: &str) -> bool {
    let below = |folder: &str| ALONE.starts_with(&format!("{folder}/"));
    BUNDLES.contains(&path) || path == BEHIND || path == ALONE || below(path)
}

/// A file as it is in a container.
struct Bundle {
    path: String,
    content: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
}

impl Ground {
    /// Adds the authority's certificate to the bundles that the container has, where the service (or `bastion`) is to
    /// trust it. A bundle that has it already, as that of an image made from such a container, stays as it is.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn put_trust(&self, service: &str, container: &str) -> Result<(), EngineError> {
        let Some(authority) = self
            .authority
            .as_ref()
            .filter(|_| self.plan.trusted_by(service))
        else {
            return Ok(());
        };
        let pem = authority.pem().as_bytes();
        let mut known = BTreeSet::new();
        for path in BUNDLES {
            let Some(mut bundle) = self.bundle(container, path).await? else {
                continue;
            };
            let has = bundle.content.windows(pem.len()).any(|part| part == pem);
            if has || !known.insert(bundle.path.clone()) {
                known.insert(bundle.path);
                continue;
            }
            if !bundle.content.ends_with(b"\n") {
                bundle.content.push(b'\n');
            }
            bundle.content.extend_from_slice(pem);
            self.write(container, bundle).await?;
        }
        if known.is_empty() {
            self.note(format!(
                "`{service}` has no bundle of certificates to which the emulators' authority could be added: it is in {ALONE} alone"
            ));
        }
        let alone = Bundle {
            path: ALONE.to_owned(),
            content: pem.to_vec(),
            mode: 0o644,
            owner: (0, 0),
        };
        self.write(container, alone).await
    }

    /// The file at a path, behind all links.
    async fn bundle(&self, container: &str, path: &str) -> Result<Option<Bundle>, EngineError> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let tar = match self.engine.download(container, &path, MOST).await {
                Ok(tar) => tar,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
            match first(&tar, &path) {
                Ok(Found::File(bundle)) => return Ok(Some(bundle)),
                Ok(Found::Link(target)) => path = target,
                Ok(Found::Other) => return Ok(None),
                Err(error) => {
                    return Err(EngineError::new(
                        format!("read `{path}` of container `{container}`"),
                        error.to_string(),
                    ));
                }
            }
        }
        Ok(None)
    }

    async fn write(&self, container: &str, bundle: Bundle) -> Result<(), EngineError> {
        // The folder is looked up by the engine, links and all; one that is not there is made from the root on.
        let (folder, name) = match bundle.path.rsplit_once('/') {
            Some((folder, name)) if bundle.path != ALONE => (format!("{folder}/"), name.to_owned()),
            _ => (
                "/".to_owned(),
                bundle.path.trim_start_matches('/').to_owned(),
            ),
        };
        self.engine
            .upload_tar(container, &folder, move |out| {
                let mut tar = tar::Builder::new(out);
                let mut header = tar::Header::new_gnu();
                header.set_size(bundle.content.len() as u64);
                header.set_mode(bundle.mode);
                header.set_uid(bundle.owner.0);
                header.set_gid(bundle.owner.1);
                tar.append_data(&mut header, name, bundle.content.as_slice())?;
                tar.finish()
            })
            .await
    }
}

enum Found {
    File(Bundle),
    Link(String),
    Other,
}

/// What the engine says of a path: the first entry of the tar that it sends.
fn first(tar: &[u8], path: &str) -> std::io::Result<Found> {
    let mut archive = tar::Archive::new(tar);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(Found::Other);
    };
    let mut entry = entry?;
    match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            let (mode, owner) = {
                let header = entry.header();
                (header.mode()? & 0o7777, (header.uid()?, header.gid()?))
            };
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            Ok(Found::File(Bundle {
                path: path.to_owned(),
                content,
                mode,
                owner,
            }))
        }
        tar::EntryType::Symlink => {
            let target = entry
                .link_name()?
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok(match path.rsplit_once('/') {
                _ if target.is_empty() => Found::Other,
                _ if target.starts_with('/') => Found::Link(target),
                Some((folder, _)) => Found::Link(format!("{folder}/{target}")),
                None => Found::Other,
            })
        }
        _ => Ok(Found::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::is_put_there;

    #[test]
    fn what_is_put_into_a_container_is_no_change_of_its_own() {
        for (path, put) in [
            ("/etc/ssl/certs/ca-certificates.crt", true),
            ("/usr/local/share/ca-certificates/rehearse.crt", true),
            ("/usr/local/share/ca-certificates", true),
            ("/usr/local", true),
            ("/usr/local/share/ca-certificates/other.crt", false),
            ("/etc/ssl/certs/other.pem", false),
            ("/usr/lo", false),
        ] {
            assert_eq!(is_put_there(path), put, "{path}");
        }
    }
}
