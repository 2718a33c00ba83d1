//! The agent's image: our own executable and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::engine::{Engine, EngineError};

/// The executable that becomes the agent.
#[derive(Clone, Debug)]
pub struct AgentBinary {
    path: PathBuf,
    /// The image, once it is known to be present.
    image: Arc<OnceCell<String>>,
}

/// The machine number of an ELF file and the engine's word for it (ELF specification, `e_machine`).
const MACHINES: [(u16, &str); 3] = [(62, "x86_64"), (183, "aarch64"), (243, "riscv64")];

impl AgentBinary {
    /// An executable at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            image: Arc::default(),
        }
    }

    /// Makes sure that the agent's image is present and returns its name, which holds the executable's digest:
    /// two versions of `rehearse` on one engine do not meet.
    ///
    /// # Errors
    /// When the executable is not a static one for the engine's machine.
    pub async fn ensure_image(
        &self,
        engine: &Engine,
        architecture: &str,
    ) -> Result<String, EngineError> {
        let image = self
            .image
            .get_or_try_init(|| self.make_image(engine, architecture));
        image.await.cloned()
    }

    async fn make_image(&self, engine: &Engine, architecture: &str) -> Result<String, EngineError> {
        let path = self.path.clone();
        let operation = format!("make the agent's image from `{}`", path.display());
        let failed = |cause: String| EngineError::new(operation.clone(), cause);
        let content = tokio::task::spawn_blocking(move || std::fs::read(path))
            .await
            .map_err(|panic| failed(panic.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        fits(&content, architecture).map_err(|cause| {
            failed(cause).with_help(
                "build with `cargo build` inside the project (its .cargo/config.toml links statically), \
                 or set REHEARSE_AGENT to such a binary for the engine's machine",
            )
        })?;
        let digest = crate::digest::sha256(&content);
        let reference = format!("rehearse-agent:{}", &digest["sha256:".len()..][..16]);
        if engine.image(&reference).await?.is_some() {
            return Ok(reference);
        }
        let created = Timestamp::now().to_string();
        let changes = vec![
            "LABEL rehearse.purpose=shared".to_owned(),
            format!("LABEL rehearse.created={created}"),
        ];
        engine
            .import_rootfs(&reference, changes, move |out| {
                let mut tar = tar::Builder::new(out);
                for folder in ["tmp/", "from/", "to/", "v/"] {
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    header.set_mode(0o755);
                    tar.append_data(&mut header, folder, std::io::empty())?;
                }
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o755);
                tar.append_data(&mut header, "rehearse", content.as_slice())?;
                tar.finish()
            })
            .await?;
        Ok(reference)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Says why an executable cannot run in an empty image on such a machine. Only the parts of the ELF header that
/// matter are read: the class, the machine, and whether a program header asks for an interpreter.
fn fits(content: &[u8], architecture: &str) -> Result<(), String> {
    let u16_at = |at: usize| -> Option<u16> {
        Some(u16::from_le_bytes(
            content.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let u64_at = |at: usize| -> Option<usize> {
        let value = u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?);
        usize::try_from(value).ok()
    };
    if content.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit Linux executable".to_owned());
    }
    let machine = u16_at(18).unwrap_or(0);
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    if known.is_none_or(|(_, name)| *name != architecture) {
        return Err(format!(
            "it is for {}, the engine runs on {architecture}",
            known.map_or("another machine", |(_, name)| name)
        ));
    }
    const INTERPRETER: u16 = 3;
    let (Some(table), Some(size), Some(count)) = (u64_at(32), u16_at(54), u16_at(56)) else {
        return Err("its header is cut off".to_owned());
    };
    for index in 0..usize::from(count) {
        if u16_at(table + index * usize::from(size)) == Some(INTERPRETER) {
            return Err(
                "it is linked dynamically and would not start in an empty image".to_owned(),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::fits;

    /// The smallest header with one program header of the given kind.
    fn elf(machine: u16, program: u16) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes[64..66].copy_from_slice(&program.to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_static_executable_for_the_engines_machine_fits() {
        assert_eq!(fits(&elf(62, 1), "x86_64"), Ok(()));
        for (bytes, word) in [
            (elf(62, 3), "dynamically"),
            (elf(183, 1), "aarch64"),
            (b"#!/bin/sh".to_vec(), "not a 64-bit Linux executable"),
            (elf(62, 1)[..40].to_vec(), "cut off"),
        ] {
            let said = fits(&bytes, "x86_64").expect_err(word);
            assert!(said.contains(word), "{said}");
        }
    }
}
