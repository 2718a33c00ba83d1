//! Reading a rehearsal and everything that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::check::Kind;
use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::Problems;
use crate::manifest::rehearsal::{self, Rehearsal};
use crate::manifest::stack::{self, Stack};
use crate::manifest::suggest;
use crate::manifest::testplan::{self, TestPlan};
use crate::manifest::tree::{self, Node};
use crate::plan;

/// Files above this are not written by people: 4 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// A rehearsal, its stack and its test plan, each read without a problem of its own.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The rehearsal.
    pub rehearsal: Rehearsal,
    /// The stack; only missing while there are problems.
    pub stack: Option<Stack>,
    /// The test plan, where one is named.
    pub testplan: Option<TestPlan>,
}

impl Loaded {
    /// The package that the rehearsal names, from the working folder.
    pub fn package_path(&self) -> Option<PathBuf> {
        self.rehearsal.package.as_ref().map(|at| at.value.clone())
    }

    /// Every file that a run depends on, but the package: `rehearsal`, `stack` (with its environment files and
    /// what it mounts), `testplan` (with what it uploads), and each backup under the restore's name. Backups may be missing: whose
    /// fault that is, is for the restore stage to say.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let mut files = vec![("rehearsal".to_owned(), self.rehearsal.file.clone())];
        let mut add = |role: &str, path: &Path| {
            if !files.iter().any(|(r, p)| r == role && p == path) {
                files.push((role.to_owned(), path.to_path_buf()));
            }
        };
        if let Some(stack) = &self.stack {
            add("stack", &stack.file);
            for file in &stack.env_files {
                add("stack", file);
            }
            for entry in &stack.services {
                for mount in entry.service.files.iter().filter(|m| m.source.is_file()) {
                    add("stack", &mount.source);
                }
            }
        }
        if let Some(testplan) = &self.testplan {
            add("testplan", &testplan.file);
            for path in testplan.tests.iter().flat_map(testplan::TestEntry::uploads) {
                add("testplan", &path);
            }
        }
        for path in self.rehearsal.emulators.iter().flat_map(|e| &e.files) {
            add("rehearsal", path);
        }
        for restore in &self.rehearsal.restores {
            add(&restore.name(), &restore.source.value);
            let demands = &restore.demands;
            for path in demands.manifest.iter().chain(&demands.checksum) {
                add("rehearsal", path);
            }
        }
        files
    }
}

/// Reads a rehearsal, its stack with environment files, and its test plan. The caller's environment is never asked.
///
/// # Errors
/// Everything that is wrong in any of the files, and between them.
pub fn load(rehearsal: &Path) -> Result<Loaded, Problems> {
    let mut p = Problems::new();
    let loaded = load_parts(rehearsal, &mut p);
    if let Some(loaded) = &loaded {
        // What does not fit together is as wrong as what is written wrong, and belongs into the same list.
        p.extend(plan::cross_check(loaded, None));
    }
    p.or(loaded)
}

/// As much as can be read.
pub(crate) fn load_parts(rehearsal: &Path, p: &mut Problems) -> Option<Loaded> {
    let source = match read(rehearsal, rehearsal) {
        Ok(source) => source,
        Err(problems) => {
            p.extend(problems);
            return None;
        }
    };
    let root = tree(&source, p)?;
    if let Some(other) = super::check::kind_of(&root).filter(|other| *other != Kind::Rehearsal) {
        let problem = root
            .head()
            .problem(format!("this is {}, not a rehearsal", other.with_article()))
            .help("name the file that begins with `rehearsal:`");
        p.push(problem);
        return None;
    }
    let rehearsal = rehearsal::decode(rehearsal, &root, p)?;
    let stack = rehearsal.stack.as_ref().and_then(|at| {
        let root = named(at, Kind::Stack, p)?;
        stack::decode(&at.value, &root, p)
    });
    let testplan = rehearsal.testplan.as_ref().and_then(|at| {
        let root = named(at, Kind::Testplan, p)?;
        testplan::decode(&at.value, &root, p)
    });
    Some(Loaded {
        rehearsal,
        stack,
        testplan,
    })
}

/// The tree of a file that another file names.
fn named(at: &At<PathBuf>, kind: Kind, p: &mut Problems) -> Option<Arc<Node>> {
    let what = kind.with_article();
    if at.value.is_dir() {
        p.push(
            at.place
                .problem(format!("`{}` is a folder, not {what}", at.value.display())),
        );
        return None;
    }
    let source = match read_text(&at.value) {
        Ok(text) => Arc::new(Source {
            path: at.value.clone(),
            text,
        }),
        Err(error) => {
            p.push(
                at.place
                    .problem(format!("cannot read `{}`: {error}", at.value.display()))
                    .maybe_help(near_file(&at.value)),
            );
            return None;
        }
    };
    let root = tree(&source, p)?;
    if let Some(other) = super::check::kind_of(&root).filter(|other| *other != kind) {
        p.push(at.place.problem(format!(
            "`{}` is {}, not {what}",
            at.value.display(),
            other.with_article()
        )));
        return None;
    }
    Some(root)
}

/// A file of nearly that name in the same folder, or what relative paths start from.
fn near_file(path: &Path) -> Option<String> {
    if path.exists() {
        return None;
    }
    let name = path.file_name()?.to_string_lossy().into_owned();
    let folder = crate::manifest::paths::folder_of(path);
    let names: Vec<String> = std::fs::read_dir(&folder)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match suggest::nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => Some("paths start from the folder of the file they are written in".to_owned()),
    }
}

/// The tree of a source; an empty file is a problem.
pub(crate) fn tree(source: &Arc<Source>, p: &mut Problems) -> Option<Arc<Node>> {
    let before = p.0.len();
    let root = tree::parse(source, p);
    if root.is_none() && p.0.len() == before {
        p.push(Place::top(source).problem("the file is empty"));
    }
    root
}

/// Reads a file that the user named on the command line.
pub(crate) fn read(path: &Path, shown_as: &Path) -> Result<Arc<Source>, Problems> {
    match read_text(path) {
        Ok(text) => Ok(Arc::new(Source {
            path: shown_as.to_path_buf(),
            text,
        })),
        Err(error) => Err(Place::unread(shown_as)
            .problem(format!("cannot read `{}`: {error}", shown_as.display()))
            .maybe_help(near_file(path))
            .into()),
    }
}

/// What could block or never end, and what no person wrote, is not read: the file may be a stranger's.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    let unfit = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(unfit("it is not a regular file"));
    }
    if meta.len() > MAX_BYTES {
        return Err(unfit("it is longer than 4 MiB; is this the right one?"));
    }
    String::from_utf8(std::fs::read(path)?).map_err(|_| unfit("it is not text in UTF-8"))
}
