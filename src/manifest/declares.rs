//! `declares`: what a package says of its deploy.

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::decode::{Fields, duration, duration_or_zero, some, string, text};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::Node;
use crate::plan::model::Declares;

/// What else than schema changes a package declares, as written.
#[derive(Clone, Debug, Default)]
pub struct DeclaresEntry {
    /// `service.VARIABLE` and `service:/path`.
    pub config: Vec<At<String>>,
    /// The sum of the times in which a target may not be there.
    pub max_downtime: Option<At<Duration>>,
    /// The longest that a table may be locked.
    pub max_lock: Option<At<Duration>>,
    /// The longest that its own way back may take.
    pub max_rollback: Option<At<Duration>>,
}

impl DeclaresEntry {
    /// As the plan has it.
    pub(crate) fn resolved(&self) -> Declares {
        Declares {
            config: self.config.iter().map(|key| key.value.clone()).collect(),
            max_downtime: self.max_downtime.as_ref().map(|at| at.value),
            max_lock: self.max_lock.as_ref().map(|at| at.value),
            max_rollback: self.max_rollback.as_ref().map(|at| at.value),
        }
    }
}

/// The schema objects, and all else.
pub(super) fn decode(node: &Arc<Node>, p: &mut Problems) -> Option<(Vec<String>, DeclaresEntry)> {
    let mut f = Fields::of(node, "`declares`", p)?;
    let limit = |node: &Arc<Node>, p: &mut Problems| {
        let value = duration_or_zero(node, p)?;
        Some(At::new(value, node.head().clone()))
    };
    let schema = f.opt("schema", p, |node, p| some(node, p, string));
    let entry = DeclaresEntry {
        config: f
            .opt("config", p, |node, p| some(node, p, setting))
            .unwrap_or_default(),
        max_downtime: f.opt("max_downtime", p, limit),
        max_lock: f.opt("max_lock", p, limit),
        max_rollback: f.opt("max_rollback", p, |node, p| {
            let value = duration(node, p)?;
            Some(At::new(value, node.head().clone()))
        }),
    };
    if !f.has_keys() {
        p.push(
            f.place
                .problem("`declares` declares nothing")
                .help("write `schema`, `config`, `max_downtime`, `max_lock` or `max_rollback`, or take it out"),
        );
    }
    f.finish(p);
    Some((schema.unwrap_or_default(), entry))
}

/// `app.FEATURE_PAPERS` or `web:/etc/nginx/nginx.conf`.
fn setting(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let written = text(node, p)?;
    let parts = written
        .value
        .split_once(":/")
        .or_else(|| written.value.split_once('.'));
    if parts.is_some_and(|(service, name)| !service.is_empty() && !name.is_empty()) {
        return Some(written);
    }
    p.push(
        written
            .place
            .problem(format!("`{}` is no setting of a service", written.value))
            .help("write a variable as `app.FEATURE_PAPERS` and a file as `web:/etc/nginx/nginx.conf`"),
    );
    None
}
