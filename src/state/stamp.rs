//! Whether a base is still what its restore left.

use std::collections::BTreeMap;

use super::agent;
use crate::agent::protocol::Stamp;
use crate::engine::{Attach, ContainerSpec, Engine, EngineError, Labels, VolumeAt, VolumeFacts};

/// Why a base is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// As the stack calls it.
    pub volume: String,
    /// What differs, as the end of a sentence.
    pub what: String,
}

/// What volumes look like, in their order, by one helper container that mounts them read-only.
pub(super) async fn stamps(
    engine: &Engine,
    labels: &Labels,
    agent_image: &str,
    name: String,
    volumes: &[&VolumeFacts],
) -> Result<Vec<Result<Stamp, String>>, EngineError> {
    let mut command = agent(&["stamp"]);
    let mut spec = ContainerSpec::new(name, agent_image, Attach::None);
    for (index, volume) in volumes.iter().enumerate() {
        let target = format!("/v/{index}");
        command.push(target.clone());
        spec.volumes.push(VolumeAt {
            volume: volume.name.clone(),
            target,
            read_only: true,
        });
    }
    spec.command = Some(command);
    let output = engine.run_once(&spec, labels).await?;
    let stamps: Vec<Result<Stamp, String>> = output
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error.to_string()))?;
    match stamps.len() == volumes.len() {
        true => Ok(stamps),
        // An answer that is missing must not pass for one that agrees.
        false => Err(unreadable(&format!(
            "{} answers for {} volumes",
            stamps.len(),
            volumes.len()
        ))),
    }
}

fn unreadable(cause: &str) -> EngineError {
    EngineError::new("read what the agent says of volumes", cause)
}

/// The first volume that is not as it was sealed; what a person would see first is said first.
pub(super) fn difference(
    sealed: &BTreeMap<String, Stamp>,
    seen: &BTreeMap<String, Result<Stamp, String>>,
) -> Option<Broken> {
    let broken = |volume: &String, what: String| {
        Some(Broken {
            volume: volume.clone(),
            what,
        })
    };
    for volume in sealed.keys() {
        if !seen.contains_key(volume) {
            return broken(volume, "the engine has it no more".to_owned());
        }
    }
    for (volume, seen) in seen {
        let Some(was) = sealed.get(volume) else {
            return broken(
                volume,
                "its seal does not say what it looked like".to_owned(),
            );
        };
        match seen {
            Err(reason) => return broken(volume, reason.clone()),
            Ok(is) if is.files != was.files => {
                return broken(
                    volume,
                    format!("it held {} files, now {}", was.files, is.files),
                );
            }
            Ok(is) if is.bytes != was.bytes => {
                return broken(
                    volume,
                    format!("it held {} bytes, now {}", was.bytes, is.bytes),
                );
            }
            Ok(is) if is.stamp != was.stamp => {
                return broken(
                    volume,
                    "as many files and bytes as before, but something was written or changed"
                        .to_owned(),
                );
            }
            Ok(_) => {}
        }
    }
    // Nothing sealed and nothing seen would agree with anything.
    seen.is_empty().then(|| Broken {
        volume: "none".to_owned(),
        what: "its seal names no volume".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(stamp: &str, files: u64, bytes: u64, disk: u64) -> Stamp {
        Stamp {
            stamp: stamp.to_owned(),
            files,
            bytes,
            disk,
        }
    }

    #[test]
    fn only_what_is_as_it_was_is_intact() {
        let sealed = BTreeMap::from([("data".to_owned(), stamp("a", 2, 10, 512))]);
        let one = |seen: Result<Stamp, String>| BTreeMap::from([("data".to_owned(), seen)]);
        for (seen, words) in [
            (one(Ok(stamp("a", 2, 10, 512))), None),
            // Where a file system keeps its blocks is its own affair.
            (one(Ok(stamp("a", 2, 10, 1024))), None),
            (one(Ok(stamp("b", 3, 10, 512))), Some("2 files, now 3")),
            (one(Ok(stamp("b", 2, 11, 512))), Some("10 bytes, now 11")),
            (
                one(Ok(stamp("b", 2, 10, 512))),
                Some("something was written"),
            ),
            (one(Err("cannot read".to_owned())), Some("cannot read")),
            (BTreeMap::new(), Some("no more")),
        ] {
            let found = difference(&sealed, &seen);
            match words {
                None => assert_eq!(found, None),
                Some(words) => {
                    let what = found.expect("it differs").what;
                    assert!(what.contains(words), "{what}");
                }
            }
        }
        let seen = one(Ok(stamp("a", 2, 10, 512)));
        assert!(difference(&BTreeMap::new(), &seen).is_some(), "no stamp");
        assert!(difference(&BTreeMap::new(), &BTreeMap::new()).is_some());
    }
}
