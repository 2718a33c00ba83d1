//! `SHA256SUMS`, as coreutils' `sha256sum` writes it, enforced.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::folder::Scanned;
use super::{FileEntry, OpenError};
use crate::archive::names;
use crate::archive::source::open_regular;

const FILE: &str = "SHA256SUMS";
/// Its signatures are made after it, and cannot stand in it.
const UNLISTED: [&str; 5] = [
    FILE,
    "SHA256SUMS.asc",
    "SHA256SUMS.gpg",
    "SHA256SUMS.minisig",
    "SHA256SUMS.sig",
];
const MAX_BYTES: u64 = 64 << 20;

/// Compares a package with the sums in its root, where there are any.
///
/// Every file must be listed and every listed file be there, a symbolic link to a file as well: of it the content counts
/// that is read under its name, as `sha256sum` has it.
pub(super) fn enforce(package: &Path, scanned: &Scanned) -> Result<(), OpenError> {
    if !scanned.listing.iter().any(|file| file.path == FILE) {
        return Ok(());
    }
    let path = scanned.root.join(FILE);
    let unreadable = |source| OpenError::Unreadable {
        path: path.clone(),
        source,
    };
    let mut data = Vec::new();
    open_regular(&path)
        .map_err(unreadable)?
        .take(MAX_BYTES)
        .read_to_end(&mut data)
        .map_err(unreadable)?;
    let problems = problems(&String::from_utf8_lossy(&data), scanned);
    if problems.is_empty() {
        return Ok(());
    }
    Err(OpenError::Sums {
        path: package.to_owned(),
        problems,
    })
}

fn problems(text: &str, scanned: &Scanned) -> Vec<String> {
    let mut problems = Vec::new();
    let mut sums: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        match parse(line) {
            Some((path, sum)) => {
                if sums.insert(path.clone(), sum).is_some() {
                    problems.push(format!("`{path}` is listed twice"));
                }
            }
            None => problems.push(format!(
                "line {} is not `<sha256>  <file>`, as `sha256sum` writes it without `--tag`",
                number + 1
            )),
        }
    }
    let files: BTreeMap<&str, &FileEntry> = scanned
        .listing
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    for (path, sum) in &sums {
        match files
            .get(path.as_str())
            .map(|file| content_of(file, scanned, &files))
        {
            None => problems.push(format!("`{path}` is listed but missing")),
            Some(Some(seen)) if seen.eq_ignore_ascii_case(sum) => {}
            Some(Some(seen)) => {
                problems.push(format!("`{path}` has changed: {seen} instead of {sum}"))
            }
            Some(None) => problems.push(format!("`{path}` is a link to no file of the package")),
        }
    }
    for file in &scanned.listing {
        // `sha256sum` can list no link to a folder.
        let leads_nowhere = file.link.is_some() && content_of(file, scanned, &files).is_none();
        if !leads_nowhere
            && !sums.contains_key(&file.path)
            && !UNLISTED.contains(&file.path.as_str())
        {
            problems.push(format!(
                "`{}` is not listed",
                names::shown(file.path.as_bytes())
            ));
        }
    }
    problems.sort();
    problems
}

/// The sum of the file that is read under this name.
fn content_of<'a>(
    file: &'a FileEntry,
    scanned: &Scanned,
    files: &BTreeMap<&str, &'a FileEntry>,
) -> Option<&'a str> {
    if file.link.is_none() {
        return Some(&file.sha256);
    }
    let root = scanned.root.canonicalize().ok()?;
    let real = scanned.root.join(&file.path).canonicalize().ok()?;
    let inside = real.strip_prefix(root).ok()?.to_str()?;
    files.get(inside).map(|target| target.sha256.as_str())
}

/// `<hex>  <path>`, `<hex> *<path>`, or with a leading backslash and escapes in the path.
fn parse(line: &str) -> Option<(String, String)> {
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (sum, rest) = line.split_at_checked(64)?;
    if !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let path = rest
        .strip_prefix("  ")
        .or_else(|| rest.strip_prefix(" *"))?;
    let path = if escaped {
        unescaped(path)?
    } else {
        path.to_owned()
    };
    let clean = names::clean(path.as_bytes()).ok()?;
    Some((String::from_utf8(clean).ok()?, sum.to_ascii_lowercase()))
}

/// `\\n`, `\\r` and `\\` as what they stand for.
fn unescaped(path: &str) -> Option<String> {
    let mut plain = String::new();
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn escapes_are_read_from_left_to_right() {
        let sum = "0".repeat(64);
        let path = |line: String| parse(&line).map(|(path, _)| path);
        assert_eq!(path(format!("\\{sum}  a\\\\nb")).as_deref(), Some("a\\nb"));
        assert_eq!(path(format!("{sum} *a\\nb")).as_deref(), Some("a\\nb"));
        assert_eq!(path(format!("\\{sum}  a\\xb")), None);
        assert_eq!(path(format!("SHA256 (a) = {sum}")), None);
    }
}
