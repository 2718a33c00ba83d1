//! Whether files that a database names are in the volume where they have to be.

use crate::check::ladder::Seen;
use crate::engine::VolumeAt;
use crate::event::Owner;
use crate::plan::model::FilesNamed;
use crate::staging::Bad;

use super::{Deadline, Subject, Toolbox};

const VOLUME: &str = "/rehearse-files";
const LIST: &str = "rehearse-files.list";

/// One path a line; the first that are not there are written, and at last how many were looked at and are not there.
const LOOK: &str = r#"looked=0
missing=0
while IFS= read -r path; do
    looked=$((looked + 1))
    if [ ! -e "$1/$path" ]; then
        missing=$((missing + 1))
        if [ "$missing" -le 5 ]; then printf 'missing %s\n' "$path"; fi
    fi
done <"$2"
echo "looked $looked $missing"
"#;

/// What is not there: how many files, and the first of them.
#[derive(Debug, Default)]
struct Missing {
    count: usize,
    first: Vec<String>,
}

/// What the paths that a database names are, before any is looked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    paths: Vec<String>,
    /// They leave the folder: the data is wrong.
    escaping: Vec<String>,
    /// They cannot be asked for in this way: the query is wrong.
    refused: Vec<String>,
}

fn sort(paths: Vec<String>) -> Sorted {
    let mut sorted = Sorted::default();
    for path in paths {
        if path.split('/').any(|part| part == "..") {
            sorted.escaping.push(path);
        } else if path.is_empty() || path.starts_with('/') || path.contains(['\n', '\0']) {
            sorted.refused.push(path);
        } else {
            sorted.paths.push(path);
        }
    }
    sorted
}

/// Paths that a database gave in hexadecimal, one a line: no client can escape anything in them.
///
/// # Errors
/// When a line is something else.
pub(super) fn from_hex(text: &str) -> Result<Vec<String>, Bad> {
    text.split('\n')
        .filter(|_| !text.is_empty())
        .map(|line| {
            unhex(line).ok_or_else(|| {
                Bad::new(
                    Owner::Staging,
                    format!("the server gave `{line}` instead of a path"),
                )
            })
        })
        .collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits: Vec<u32> = text
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect();
    String::from_utf8(bytes?).ok()
}

/// Looks for each path below a folder of the branch of a volume. `image` needs a shell.
///
/// # Errors
/// When the looking itself went wrong; never because a file is missing.
pub(super) async fn look_for(
    subject: Subject<'_>,
    image: &str,
    deadline: Deadline,
    named: &FilesNamed,
    paths: Vec<String>,
) -> Result<Seen, Bad> {
    if paths.is_empty() {
        return Ok(Seen::Skipped(
            "the query of `files:` names no file, so none could be missing".to_owned(),
        ));
    }
    let Sorted {
        paths,
        escaping,
        refused,
    } = sort(paths);
    if let Some(first) = escaping.first() {
        return Ok(Seen::Broken(format!(
            "{} of the paths in the database leave the folder by `..`, the first is {first:?}",
            escaping.len()
        )));
    }
    if let Some(first) = refused.first() {
        return Ok(Seen::Unknown(
            format!(
                "{} of the paths that the query of `files:` gives cannot be looked for, the first is {first:?}",
                refused.len()
            ),
            Some("let it give relative paths without line breaks, and leave out rows that name no file".to_owned()),
        ));
    }
    let Some(branch) = subject.branches.get(&named.volume) else {
        return Ok(Seen::Unknown(
            format!("the volume `{}` was not restored", named.volume),
            None,
        ));
    };
    let looked = paths.len();
    let volume = VolumeAt {
        volume: branch.volume.clone(),
        target: VOLUME.to_owned(),
        read_only: true,
    };
    let missing = missing(subject, image, deadline, volume, &named.below, paths).await?;
    let Missing { count, first } = missing;
    if count == 0 {
        return Ok(Seen::Holds(Some(format!("{looked} files"))));
    }
    Ok(Seen::Broken(format!(
        "{count} of {looked} files that the database names are not in `{}`: {}{}",
        named.volume,
        first.join(", "),
        if count > first.len() { ", …" } else { "" }
    )))
}

async fn missing(
    subject: Subject<'_>,
    image: &str,
    deadline: Deadline,
    volume: VolumeAt,
    below: &str,
    paths: Vec<String>,
) -> Result<Missing, Bad> {
    let staging = subject.site.staging;
    let restore = &subject.job.restore.name;
    let name = crate::state::slug(&format!("files-{restore}"));
    let source = format!("examine {restore}");
    let tool = Toolbox::open(staging, &name, image, vec![volume], source, deadline).await?;
    let looked = paths.len();
    let answer = async {
        let mut list = paths.join("\n");
        list.push('\n');
        staging
            .ground
            .engine
            .upload_tar(&tool.container, "/", move |out| -> std::io::Result<()> {
                let mut header = tar::Header::new_gnu();
                header.set_size(list.len() as u64);
                header.set_mode(0o644);
                header.set_mtime(0);
                let mut tar = tar::Builder::new(out);
                tar.append_data(&mut header, LIST, list.as_bytes())?;
                tar.finish()
            })
            .await?;
        let root = format!("{VOLUME}/{below}");
        let list = format!("/{LIST}");
        let mut missing = Missing::default();
        let mut counted = None;
        let command = [
            "/bin/sh",
            "-e",
            "-c",
            LOOK,
            "look",
            root.as_str(),
            list.as_str(),
        ];
        let outcome = tool
            .seen(&command, None, |_, line| {
                if let Some(path) = line.strip_prefix("missing ") {
                    missing.first.push(path.to_owned());
                } else if let Some((looked, count)) = line
                    .strip_prefix("looked ")
                    .and_then(|counts| counts.split_once(' '))
                {
                    counted = looked.parse::<usize>().ok();
                    missing.count = count.parse().unwrap_or(usize::MAX);
                }
            })
            .await?;
        if outcome.exit_code != 0 || counted != Some(looked) {
            return Err(Bad::new(
                Owner::Staging,
                format!(
                    "{}: {looked} files were to be looked for, and {} were: {}",
                    tool.source,
                    counted.map_or_else(|| "none".to_owned(), |n| n.to_string()),
                    outcome.last_words()
                ),
            ));
        }
        Ok(missing)
    }
    .await;
    let closed = tool.close().await;
    let missing = answer?;
    closed?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_as_they_were() {
        assert_eq!(unhex("612FC3BC0A").as_deref(), Some("a/ü\n"));
        assert_eq!(unhex("").as_deref(), Some(""));
        assert_eq!(unhex("6"), None);
        assert_eq!(unhex("zz"), None);
        assert!(from_hex("").is_ok_and(|paths| paths.is_empty()));
        assert!(from_hex("61\nx").is_err());
    }

    #[test]
    fn paths_that_leave_the_folder_are_told_from_those_that_cannot_be_asked_for() {
        let paths = [
            "a/b.txt",
            "a..b",
            "../x",
            "a/../../x",
            "/etc/x",
            "",
            "two\nlines",
        ];
        let sorted = sort(paths.map(str::to_owned).to_vec());
        assert_eq!(sorted.paths, ["a/b.txt", "a..b"]);
        assert_eq!(sorted.escaping, ["../x", "a/../../x"]);
        assert_eq!(sorted.refused, ["/etc/x", "", "two\nlines"]);
    }
}
