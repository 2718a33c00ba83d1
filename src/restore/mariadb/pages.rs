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
    done < /tmp/rehearse-pages\n";

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
    let outcome = tool.run(&command).await?;
    if outcome.exit_code != 0 {
        return Err(tool.failed("innochecksum", &outcome, Owner::Staging));
    }
    tool.close().await?;
    if let Some(trouble) = Trouble::of(&outcome) {
        return Err(trouble.bad(&subject.job.restore.name, "innochecksum", ""));
    }
    Ok(seen(&outcome.stdout))
}

fn seen(stdout: &str) -> Seen {
    if stdout.trim() == "absent" {
        return Seen::Skipped("`innochecksum` is not in the service's image".into());
    }
    let bad: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("bad "))
        .collect();
    if let Some(first) = bad.first() {
        let first: String = first.chars().take(300).collect();
        return Seen::Broken(match bad.len() {
            1 => first,
            files => format!("{files} files, the first: {first}"),
        });
    }
    let files = stdout
        .lines()
        .filter(|line| line.starts_with("page file "))
        .count();
    if files == 0 {
        return Seen::Skipped("there are no files of InnoDB".into());
    }
    Seen::Holds(Some(format!(
        "{files} files of InnoDB; not the system tablespace"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_named_and_no_file_is_no_check() {
        let said = "page file /v/a.ibd\nbad /v/a.ibd: Fail: page::4 invalid\npage file /v/b.ibd\n";
        assert!(matches!(seen(said), Seen::Broken(why) if why.contains("page::4")));
        assert!(matches!(seen("page file /v/a.ibd\n"), Seen::Holds(_)));
        assert!(matches!(seen(""), Seen::Skipped(_)));
        assert!(matches!(seen("absent\n"), Seen::Skipped(_)));
    }
}
