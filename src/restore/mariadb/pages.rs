//! The checksums of InnoDB's pages, after a clean stop, by `innochecksum` of the service's own image.
//!
//! The system tablespace is left out: its doublewrite buffer holds old copies of other files' pages, which `innochecksum`
//! takes for damage. Its tables are read by the server (`CHECK TABLE`).

use crate::check::ladder::Seen;
use crate::engine::VolumeAt;
use crate::event::Owner;
use crate::restore::{Deadline, Subject, Toolbox, Trouble};
use crate::staging::{Bad, Running};

/// Checks the file of every table below the folders `$@`; says how many, and each that is bad.
const CHECK: &str = "command -v innochecksum >/dev/null || { echo absent; exit 0; }\n\
    find \"$@\" -type f \\( -name '*.ibd' -o -name 'undo[0-9][0-9][0-9]' \\) -size +0 > /tmp/rehearse-pages\n\
    while IFS= read -r file; do\n\
    echo \"page file $file\"\n\
    if ! said=$(innochecksum \"$file\" 2>&1); then echo \"bad $file: $(printf '%s' \"$said\" | tr '\\n' ' ')\"; fi\n\
    done < /tmp/rehearse-pages\n\
    echo \"pages $(wc -l < /tmp/rehearse-pages)\"\n";

/// Looks at the branches of the service's volumes.
pub(super) async fn judge(
    subject: Subject<'_>,
    running: &Running,
    deadline: Deadline,
) -> Result<Seen, Bad> {
    let staging = subject.site.staging;
    let blueprint = &running.blueprint;
    let at: Vec<VolumeAt> = blueprint
        .service
        .volumes_with(&blueprint.facts)
        .into_iter()
        .filter_map(|(name, at)| {
            let branch = subject.branches.get(&name)?;
            Some(VolumeAt {
                volume: branch.volume.clone(),
                read_only: true,
                ..at
            })
        })
        .collect();
    let folders: Vec<String> = at.iter().map(|at| at.target.clone()).collect();
    if folders.is_empty() {
        return Ok(Seen::Skipped("the service has no volume".into()));
    }
    let tool = Toolbox::open(
        staging,
        &format!("pages-{}", subject.job.restore.name),
        &blueprint.image,
        at,
        format!("examine {}", subject.job.restore.name),
        deadline,
    )
    .await?;
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let mut command = vec!["/bin/sh", "-c", CHECK, "innochecksum"];
    command.extend(&folders);
    let mut pages = Pages::default();
    // Line by line: of many files only the end of the output would be kept.
    let ran = tool
        .seen(&command, None, |_, line| pages.hear(line))
        .await
        .and_then(|outcome| {
            if outcome.exit_code == 0 {
                return Ok(outcome);
            }
            Err(tool.failed("innochecksum", &outcome, Owner::Staging))
        });
    tool.close().await?;
    if let Some(trouble) = Trouble::of(&ran?) {
        return Err(trouble.bad(&subject.job.restore.name, "innochecksum", ""));
    }
    pages.seen()
}

/// What was said of files.
#[derive(Debug, Default)]
struct Pages {
    absent: bool,
    files: u64,
    bad: u64,
    first: Option<String>,
    /// How many there were to be looked at: it is said last.
    listed: Option<u64>,
}

impl Pages {
    fn hear(&mut self, line: &str) {
        if line == "absent" {
            self.absent = true;
        } else if line.starts_with("page file ") {
            self.files += 1;
        } else if let Some(bad) = line.strip_prefix("bad ") {
            self.bad += 1;
            self.first
                .get_or_insert_with(|| bad.chars().take(300).collect());
        } else if let Some(listed) = line.strip_prefix("pages ") {
            self.listed = listed.trim().parse().ok();
        }
    }

    fn seen(self) -> Result<Seen, Bad> {
        if let Some(first) = self.first {
            return Ok(Seen::Broken(match self.bad {
                1 => first,
                files => format!("{files} files, the first: {first}"),
            }));
        }
        if self.absent {
            return Ok(Seen::Skipped(
                "`innochecksum` is not in the service's image".into(),
            ));
        }
        if self.listed != Some(self.files) {
            return Err(Bad::new(
                Owner::Staging,
                format!(
                    "`innochecksum` was to look at {} files, and {} were looked at",
                    self.listed
                        .map_or_else(|| "some".to_owned(), |n| n.to_string()),
                    self.files
                ),
            ));
        }
        if self.files == 0 {
            return Ok(Seen::Skipped("there are no files of InnoDB".into()));
        }
        Ok(Seen::Holds(Some(format!(
            "{} files of InnoDB; not the system tablespace",
            self.files
        ))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Seen, Bad> {
        let mut pages = Pages::default();
        lines.into_iter().for_each(|line| pages.hear(line));
        pages.seen()
    }

    #[test]
    fn a_bad_file_is_named_and_no_file_is_no_check() {
        let said =
            "page file /v/a.ibd\nbad /v/a.ibd: Fail: page::4 invalid\npage file /v/b.ibd\npages 2";
        assert!(matches!(seen(said.lines()), Ok(Seen::Broken(why)) if why.contains("page::4")));
        assert!(matches!(
            seen(["page file /v/a.ibd", "pages 1"]),
            Ok(Seen::Holds(_))
        ));
        assert!(matches!(seen(["pages 0"]), Ok(Seen::Skipped(_))));
        assert!(matches!(seen(["absent"]), Ok(Seen::Skipped(_))));
        // It ended before its end.
        for said in [&["page file /v/a.ibd"][..], &["pages 2"], &[]] {
            let bad = seen(said.iter().copied()).expect_err("nothing is known");
            assert_eq!(bad.owner, Owner::Staging, "{said:?}");
        }
    }

    #[test]
    fn a_bad_file_before_a_hundred_thousand_good_ones_is_seen() {
        let good = std::iter::repeat_n("page file /var/lib/mysql/site/orders.ibd", 100_000);
        let bad = ["page file /v/a.ibd", "bad /v/a.ibd: Fail: page::4 invalid"];
        let said = bad.into_iter().chain(good).chain(["pages 100001"]);
        assert!(matches!(seen(said), Ok(Seen::Broken(why)) if why.contains("page::4")));
    }
}
