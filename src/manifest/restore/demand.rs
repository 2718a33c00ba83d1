//! What has to be true of a restore: `expect`, `manifest`, `tolerate`, `require`, `invariants`, `files`, `checksum`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::method::inside;
use crate::check::ladder::Rung;
use crate::manifest::decode::{Fields, bytes, entries, number, some, string, text, word};
use crate::manifest::paths;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::Node;
use crate::plan::model::{Demands, FilesNamed, Invariant, RowCount, Tolerated};

/// The demands, and the volume that `files:` names, with its place.
pub(super) fn decode(
    f: &mut Fields<'_>,
    dir: &Path,
    p: &mut Problems,
) -> (Demands, Option<At<String>>) {
    let file =
        |node: &Arc<Node>, p: &mut Problems| text(node, p).map(|at| paths::join(dir, &at.value));
    let rungs: Vec<(&'static str, Rung)> =
        Rung::ALL.iter().map(|rung| (rung.name(), *rung)).collect();
    let tolerate = f.opt("tolerate", p, |node, p| some(node, p, tolerated));
    let require = f.opt("require", p, |node, p| {
        some(node, p, |node, p| word(node, p, &rungs))
    });
    let rows = f.opt("expect", p, |node, p| {
        let mut f = Fields::of(node, "`expect`", p)?;
        let rows = f.req("rows", p, rows);
        f.finish(p);
        rows
    });
    let manifest = f.opt("manifest", p, file);
    let checksum = f.opt("checksum", p, file);
    let min_size = f.opt("min_size", p, bytes);
    let invariants = f.opt("invariants", p, |node, p| some(node, p, invariant));
    let files = f.opt("files", p, |node, p| {
        let mut f = Fields::of(node, "`files`", p)?;
        let query = f.req("query", p, string);
        let volume = f.req("volume", p, text);
        let below = f.opt("below", p, inside);
        f.finish(p);
        let volume = volume?;
        let named = FilesNamed {
            query: query?,
            volume: volume.value.clone(),
            below: below.unwrap_or_default(),
        };
        Some((named, volume))
    });
    let (files, volume) = files.map_or((None, None), |(named, at)| (Some(named), Some(at)));
    let demands = Demands {
        data_as_of: None,
        database: None,
        tolerate: tolerate.unwrap_or_default(),
        require: require.unwrap_or_default(),
        rows: rows.unwrap_or_default(),
        manifest,
        checksum,
        min_size,
        invariants: invariants.unwrap_or_default(),
        files,
    };
    (demands, volume)
}

fn tolerated(node: &Arc<Node>, p: &mut Problems) -> Option<Tolerated> {
    let mut f = Fields::of(node, "a tolerated message", p)?;
    let message = f.req("message", p, string);
    let count = f.req("count", p, number::<u64>);
    let place = f.place.clone();
    f.finish(p);
    let (message, count) = (message?, count?);
    if count == 0 {
        p.push(
            place
                .problem("a message that is tolerated 0 times is not tolerated")
                .help("remove it: every message that is not listed fails the restore"),
        );
        return None;
    }
    Some(Tolerated { message, count })
}

fn invariant(node: &Arc<Node>, p: &mut Problems) -> Option<Invariant> {
    let mut f = Fields::of(node, "an invariant", p)?;
    let name = f.req("name", p, string);
    let query = f.req("query", p, string);
    f.finish(p);
    Some(Invariant {
        name: name?,
        query: query?,
    })
}

/// From table to `412` or `">= 412"`.
fn rows(node: &Arc<Node>, p: &mut Problems) -> Option<BTreeMap<String, RowCount>> {
    let mut rows = BTreeMap::new();
    for entry in entries(node, p)? {
        let Some(written) = text(&entry.value, p) else {
            continue;
        };
        let count = match written.value.strip_prefix(">=") {
            Some(rest) => rest.trim().parse().ok().map(RowCount::AtLeast),
            None => written.value.trim().parse().ok().map(RowCount::Exactly),
        };
        match count {
            // A table may always have no row at all: that is no expectation.
            Some(RowCount::AtLeast(0)) => p.push(
                written
                    .place
                    .problem("every table has at least 0 rows: this asserts nothing"),
            ),
            Some(count) => {
                rows.insert(entry.key.value.clone(), count);
            }
            None => p.push(
                written
                    .place
                    .problem(format!("`{}` is no number of rows", written.value))
                    .help("write `412`, or `\">= 412\"`"),
            ),
        }
    }
    Some(rows)
}
