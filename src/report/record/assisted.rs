//! The mark that a person had a shell in a run's staging: a file of its own beside the record, which stays for ever.
//!
//! The record says it too, but a record can be written again; the mark is there before the shell is.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FILE as RECORD, Record, write_atomically};

/// The mark's file in a run's folder.
pub const FILE: &str = "assisted.json";

/// One shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// The run.
    pub run: String,
    /// When it was opened.
    pub at: Timestamp,
    /// The service, or `bastion`.
    pub service: String,
    /// What was run.
    pub command: Vec<String>,
}

/// Why a run could not be marked.
#[derive(Debug, thiserror::Error)]
#[error("cannot mark the run as assisted in `{}`", .path.display())]
pub struct Unmarked {
    /// Which file.
    path: PathBuf,
    /// The system's words.
    #[source]
    source: io::Error,
}

/// True where a person had a shell. A mark that cannot be looked at counts as one.
pub fn is_marked(dir: &Path) -> bool {
    match fs::symlink_metadata(dir.join(FILE)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The shells that were opened, as far as the mark can be read.
pub fn shells(dir: &Path) -> Vec<Shell> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Marks a run: first the file of its own, made sure of on disk, then the record where there is one.
///
/// # Errors
/// When either cannot be written. The shell must not be opened then.
pub fn mark(dir: &Path, shell: &Shell) -> Result<(), Unmarked> {
    let path = dir.join(FILE);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Unmarked { path, source }
    };
    append(&path, shell).map_err(at(&path))?;
    fs::File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(at(dir))?;
    let record = dir.join(RECORD);
    amend(&record).map_err(at(&record))
}

fn append(path: &Path, shell: &Shell) -> io::Result<()> {
    let mut line = serde_json::to_vec(shell)?;
    line.push(b'\n');
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(&line)?;
    file.sync_all()
}

/// Says it in the record too, whatever else that holds. A run that died has none, and one that nobody can read says
/// nothing: then the mark alone has to.
fn amend(path: &Path) -> io::Result<()> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return Ok(());
    };
    if !record.is_object() {
        return Ok(());
    }
    record["assisted"] = true.into();
    if let Some(verdict) = record
        .get_mut("verdict")
        .and_then(serde_json::Value::as_object_mut)
    {
        verdict.insert("assisted".to_owned(), true.into());
    }
    let text = serde_json::to_string_pretty(&record)?;
    write_atomically(path, format!("{text}\n").as_bytes())
}

impl Record {
    /// The record as the folder's mark makes it.
    #[must_use]
    pub fn marked_by(mut self, dir: &Path) -> Self {
        if is_marked(dir) {
            self.assisted = true;
            self.verdict.assisted = true;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Shell {
        Shell {
            run: "site-1".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            service: "web".to_owned(),
            command: vec!["sh".to_owned()],
        }
    }

    #[test]
    fn the_mark_stays_and_the_record_says_it_too() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(!is_marked(dir.path()));
        mark(dir.path(), &shell()).expect("without a record");
        assert!(is_marked(dir.path()));
        let record = dir.path().join(RECORD);
        fs::write(
            &record,
            r#"{"record": 1, "of_a_later_version": [1], "assisted": false, "verdict": {"assisted": false}}"#,
        )
        .expect("written");
        mark(dir.path(), &shell()).expect("with one");
        let text = fs::read_to_string(&record).expect("there");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["assisted"], true);
        assert_eq!(read["verdict"]["assisted"], true);
        assert_eq!(read["of_a_later_version"][0], 1, "the rest is left alone");
        assert_eq!(shells(dir.path()), [shell(), shell()]);
    }

    #[test]
    fn what_cannot_be_marked_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = mark(&dir.path().join("gone"), &shell()).expect_err("no folder");
        assert!(error.to_string().contains("assisted.json"), "{error}");
        // A mark that is something else is a mark all the same.
        fs::create_dir(dir.path().join(FILE)).expect("a folder");
        assert!(is_marked(dir.path()));
        mark(dir.path(), &shell()).expect_err("it cannot be written");
    }
}
