//! The other ways a deploy could go: what-ifs, and the paths that each of them tries from the one snapshot.

use serde::{Deserialize, Serialize};

/// A question about a deploy that a rehearsal asks beside the happy path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhatIf {
    /// Does the package's own rollback lead back?
    Rollback,
    /// Does a second deploy succeed, and change nothing?
    Rerun,
    /// Does it end well after it was killed half-way?
    Interrupt,
    /// Which orders of the components pass?
    Order,
    /// What does a part of the components do?
    Subset,
    /// Does the same deploy always end the same way?
    Again,
}

impl WhatIf {
    /// Every what-if, in the order in which they are tried and shown.
    pub const ALL: [Self; 6] = [
        Self::Rollback,
        Self::Rerun,
        Self::Interrupt,
        Self::Order,
        Self::Subset,
        Self::Again,
    ];

    /// The name used in files, suites and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Rerun => "rerun",
            Self::Interrupt => "interrupt",
            Self::Order => "order",
            Self::Subset => "subset",
            Self::Again => "again",
        }
    }
}

/// A what-if as a rehearsal asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Which.
    pub what_if: WhatIf,
    /// True where its outcome is told, and does not decide the verdict.
    pub advisory: bool,
    /// How many deploys `again` makes; 1 for the others.
    pub times: u32,
}

impl Asked {
    /// How many deploys `again` makes where nobody says.
    pub const TIMES: u32 = 3;

    /// As it is asked for by its name alone: required.
    pub const fn of(what_if: WhatIf) -> Self {
        let times = match what_if {
            WhatIf::Again => Self::TIMES,
            WhatIf::Rollback
            | WhatIf::Rerun
            | WhatIf::Interrupt
            | WhatIf::Order
            | WhatIf::Subset => 1,
        };
        Self {
            what_if,
            advisory: false,
            times,
        }
    }
}

/// One way from the snapshot: a branch of it and a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployPath {
    /// Unique in a run: `interrupt during backend / migrate the schema`.
    pub name: String,
    /// The what-if that it is part of.
    pub what_if: WhatIf,
    /// True where its outcome does not decide the verdict: the what-if is advisory, or the path is tried only to learn
    /// something (an order that the package forbids).
    pub advisory: bool,
    /// What happens on it.
    pub course: Course,
}

/// What happens on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "course", rename_all = "kebab-case")]
pub enum Course {
    /// The whole deploy, then the package's own rollback.
    Rollback,
    /// The whole deploy, twice.
    Rerun,
    /// The whole deploy, killed at one step; then what it says to do next.
    Interrupted {
        /// The component.
        component: String,
        /// Its step.
        step: String,
        /// When.
        moment: Moment,
    },
    /// All components, in another order.
    Ordered {
        /// That order.
        components: Vec<String>,
        /// What is to be learnt.
        why: Why,
    },
    /// Some of the components.
    Subset {
        /// In deploy order.
        components: Vec<String>,
        /// The components that one of these says it comes after, and that are not among them.
        missing: Vec<String>,
    },
    /// The same deploy once more.
    Again {
        /// From 2: the first is the deploy stage.
        number: u32,
    },
}

/// When a deploy is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Before the step began. After the step before it is the same moment.
    Before,
    /// While it ran.
    During,
    /// After it ended.
    After,
}

/// Why an order is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "lowercase")]
pub enum Why {
    /// The declared dependencies allow it: it has to pass.
    Allowed {
        /// Pairs that come the other way round than in the deploy: if the order fails, one of these matters and is not
        /// declared. Each is (now earlier, now later).
        swapped: Vec<(String, String)>,
    },
    /// They forbid it: it shows whether a declared dependency is a real one.
    Forbidden {
        /// The component that says it comes after the other.
        component: String,
        /// The one that it says it comes after.
        after: String,
    },
}
