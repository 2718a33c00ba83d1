//! What was handed over, and what its steps do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Declares, FileMount, Location, Secret};
use crate::check::model::Probe;
use crate::event::Part;

/// What was handed over.
#[derive(Clone, Debug, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// The path as given.
    pub source: PathBuf,
    /// The folder in which its files lie, unpacked if it was an archive.
    pub root: PathBuf,
    /// `sha256:<hex>` over its sorted file digests: the same for a folder and its archives.
    pub digest: String,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How it says what to do.
    pub shape: Shape,
    /// What it leaves open, with the value for this place: each is a variable of every `run` step.
    pub parameters: BTreeMap<String, String>,
    /// What it must not bring along, by name: each is a variable of every `run` step.
    pub secrets: BTreeMap<String, Secret>,
    /// In deploy order: each after everything it names in `after`, ties by listing.
    pub components: Vec<Component>,
    /// Components that are not to be deployed this time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What its document asks a person to do, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manual: Vec<String>,
    /// The package's own way back.
    pub rollback: Vec<Step>,
    /// A runbook's document: what stands between its steps, and blocks that are shown and not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub document: Vec<Part>,
    /// Schema objects that the package says it changes.
    pub declares_schema: Vec<String>,
    /// What else it declares.
    pub declares: Declares,
    /// What the package says that its own way back leaves as the deploy made it: `table x`, `column x.y`, `file /path`,
    /// `volume x`, `image x`, `variable x of y`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollback_leaves: Vec<String>,
}

#[cfg(test)]
impl Package {
    /// A package of which only the components matter.
    pub(crate) fn of(components: Vec<Component>) -> Self {
        Self {
            name: "site".to_owned(),
            version: None,
            source: "site".into(),
            root: "site".into(),
            digest: String::new(),
            files: 0,
            bytes: 0,
            shape: Shape::Manifest,
            parameters: BTreeMap::new(),
            secrets: BTreeMap::new(),
            components,
            left_out: Vec::new(),
            manual: Vec::new(),
            rollback: Vec::new(),
            document: Vec::new(),
            declares_schema: Vec::new(),
            declares: Declares::default(),
            rollback_leaves: Vec::new(),
        }
    }
}

/// How a package says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Shape {
    /// `deploy.yaml`
    Manifest,
    /// `DEPLOY.md`
    Runbook,
    /// `deploy.sh`
    Script,
    /// `compose.yaml`
    Compose,
}

impl Shape {
    /// Every shape; where a package has several of these files, the first one here counts.
    pub const ALL: [Self; 4] = [Self::Manifest, Self::Runbook, Self::Script, Self::Compose];

    /// The file that makes a package this shape.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Manifest => "deploy.yaml",
            Self::Runbook => "DEPLOY.md",
            Self::Script => "deploy.sh",
            Self::Compose => "compose.yaml",
        }
    }
}

/// A part of a package.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// The components that must be deployed before it.
    pub after: Vec<String>,
    /// Its steps in order.
    pub steps: Vec<Step>,
}

/// One thing to do.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its name, unique in its component.
    pub name: String,
    /// What to do.
    pub action: Action,
    /// After this the whole step is killed and has failed.
    pub timeout: Duration,
    /// The exit code that counts as success of a `run` step.
    pub expect_exit: i64,
    /// How often a `run` step that ended with another one is run again.
    pub retries: u8,
    /// Where it is written.
    pub location: Location,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// Runs a script with `/bin/sh -e -c`, without input and without a terminal.
    Run {
        /// The script.
        script: String,
        /// `None` is the bastion, with `/package` as working folder; else a service.
        service: Option<String>,
        /// The user in the container; default the container's.
        user: Option<String>,
    },
    /// Copies a file or a folder's contents into a service.
    Copy {
        /// The service.
        service: String,
        /// Inside the package.
        from: PathBuf,
        /// Absolute path in the container.
        to: String,
        /// Numeric owner and group of what is copied.
        owner: (u64, u64),
    },
    /// Recreates a service from an image that the package carries.
    Image {
        /// The service.
        service: String,
        /// Where the image is.
        source: ImageSource,
    },
    /// Recreates a service with a changed environment; `None` removes a variable.
    Env {
        /// The service.
        service: String,
        /// The changes.
        set: BTreeMap<String, Option<Setting>>,
    },
    /// Fills templates of the package with parameters and secrets, and copies them into a service.
    Files {
        /// The service.
        service: String,
        /// In listing order.
        files: Vec<Template>,
    },
    /// Recreates a service with all that a Compose file of the package says of it, at once.
    Override(Override),
    /// Restarts a service and waits until it is ready.
    Restart {
        /// The service.
        service: String,
    },
    /// Asks from inside the network, again and again, until there is an answer: an HTTP status below 400, an accepted
    /// connection, a query without an error.
    Wait {
        /// `http`, `tcp` or `sql`.
        probe: Probe,
    },
}

/// What a Compose file of a package changes of a service; what it does not say stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Override {
    /// The service.
    pub service: String,
    /// Its new image.
    pub image: Option<ImageSource>,
    /// Replaces its command.
    pub command: Option<Vec<String>>,
    /// Replaces its entrypoint, and like in Compose the image's command with it.
    pub entrypoint: Option<Vec<String>>,
    /// Variables that it gets beside those that it has.
    pub environment: BTreeMap<String, String>,
    /// Files and folders that are copied in before it starts. `source` is inside the package.
    pub files: Vec<FileMount>,
}

/// A value in a package that is not the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Setting {
    /// As written.
    Text(String),
    /// The value of a parameter.
    Parameter(String),
    /// The value of a secret.
    Secret(String),
}

/// A file that is made from a template of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Template {
    /// Inside the package, in the language of Jinja.
    pub template: PathBuf,
    /// Absolute path in the container.
    pub to: String,
    /// Permission bits; default 0644.
    pub mode: u32,
    /// Numeric owner and group.
    pub owner: (u64, u64),
}

/// An image inside a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ImageSource {
    /// A `docker save` archive inside the package.
    Archive(PathBuf),
    /// A folder inside the package with a Dockerfile; built without network.
    Context(PathBuf),
}
