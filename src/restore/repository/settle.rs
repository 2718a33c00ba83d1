//! From the folder into which a tool restored to the root of the volume.

use super::{STAGE, TARGET};
use crate::event::Owner;
use crate::restore::Toolbox;
use crate::staging::Bad;

/// What was restored.
pub(super) struct Count {
    files: u64,
    others: u64,
    bytes: u64,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} files and {} folders and links, {} bytes",
            self.files, self.others, self.bytes
        )
    }
}

/// The exit code of [`SCRIPT`] where the folder is not there.
const MISSING: i64 = 3;

/// Moves the content of a folder to the root of the volume, which gets its owner, mode and time. Written for GNU and
/// BusyBox alike: the tools' own images are Alpine's. A folder below a link is not one that was backed up there.
const SCRIPT: &str = r#"
stage=$1; target=$2; from=$stage${3:+/$3}
if [ ! -d "$from" ] || [ "$(realpath "$from")" != "$from" ]; then exit 3; fi
find "$from" -mindepth 1 -exec stat -c %F:%s {} + | awk -F: '
  { n++ } /^regular/ { f++; b += $2 } END { printf "%.0f %.0f %.0f\n", f, n - f, b }'
if [ -n "$3" ]; then
  touch -r "$from" /tmp/rehearse-root
  owner=$(stat -c %u:%g "$from"); mode=$(stat -c %a "$from")
fi
find "$from" -mindepth 1 -maxdepth 1 -exec sh -ec '
  target=$0
  for one; do
    to=$target/${one##*/}
    if [ -e "$to" ] || [ -L "$to" ]; then
      cp -afl "$one" "$target/"; rm -rf "$one"
    else
      mv "$one" "$target/"
    fi
  done' "$target" {} +
rmdir "$from"
rm -rf "$stage"
if [ -n "$3" ]; then
  chown "$owner" "$target"; chmod "$mode" "$target"; touch -r /tmp/rehearse-root "$target"
fi
"#;

/// Settles what lies below `path` of the stage.
///
/// # Errors
/// Where the folder is not there or holds nothing, the backup is at fault.
pub(super) async fn settle(tool: &Toolbox<'_>, name: &str, path: &str) -> Result<Count, Bad> {
    let command = ["/bin/sh", "-ec", SCRIPT, "settle", STAGE, TARGET, path];
    let outcome = tool.run(&command).await?;
    if outcome.exit_code == MISSING {
        return Err(Bad::new(
            Owner::Backup,
            format!("{name}: there is no folder `/{path}` in the snapshot"),
        )
        .with_help("correct `path:`, or look at what the backup job was told to back up"));
    }
    if outcome.exit_code != 0 {
        return Err(tool.failed("mv", &outcome, Owner::Engine));
    }
    let count = parse(&outcome.stdout).ok_or_else(|| {
        Bad::new(
            Owner::Engine,
            format!(
                "{name}: what was restored could not be counted: {}",
                outcome.last_words()
            ),
        )
    })?;
    if count.files + count.others == 0 {
        return Err(Bad::new(
            Owner::Backup,
            format!("{name}: the restore ended without an error, but restored nothing"),
        )
        .with_help("look at what the backup job was told to back up"));
    }
    Ok(count)
}

fn parse(text: &str) -> Option<Count> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(Count {
        files: next()?,
        others: next()?,
        bytes: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_count_is_three_numbers() {
        let count = parse("51 4 996094\n").expect("three numbers");
        assert_eq!(
            count.to_string(),
            "51 files and 4 folders and links, 996094 bytes"
        );
        assert!(parse("51 4\n").is_none());
        assert!(parse("").is_none());
    }
}
