//! Paths in files: relative to the file they are written in, and kept inside where they must be.

use std::path::{Component, Path, PathBuf};

/// The folder that relative paths of a file start from.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// `written`, seen from `dir`, in its shortest form: `rehearsals/../docker/x` becomes `docker/x` unless a symbolic
/// link makes these two different places.
pub(crate) fn join(dir: &Path, written: &str) -> PathBuf {
    let joined = dir.join(written);
    let short = shorten(&joined);
    // Compared as text: paths that differ by a `.` are equal as paths.
    if short.as_os_str() == joined.as_os_str() {
        return joined;
    }
    match (joined.canonicalize(), short.canonicalize()) {
        (Ok(a), Ok(b)) if a != b => joined,
        _ => short,
    }
}

/// Resolves `.` and `..` by the text alone.
pub(crate) fn shorten(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir) => {}
                _ => out.push(".."),
            },
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => out.push(part),
        }
    }
    if out.as_os_str().is_empty() {
        out.push(".");
    }
    out
}

/// Why a path is not a path inside a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// There is nothing.
    Missing,
    /// It is elsewhere by its text, or through a symbolic link that is named.
    Outside(PathBuf),
    /// The folder below it holds this link to elsewhere.
    Link(PathBuf),
}

/// Checks that `path` exists and that neither it nor anything below it leaves `dir`.
pub(crate) fn inside(dir: &Path, path: &Path) -> Result<(), Stray> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let lexical = shorten(&absolute(path));
    let (Ok(real_dir), real) = (dir.canonicalize(), path.canonicalize()) else {
        return Err(Stray::Missing);
    };
    let Ok(real) = real else {
        let escapes = !lexical.starts_with(shorten(&absolute(dir)));
        return Err(if escapes {
            Stray::Outside(lexical)
        } else {
            Stray::Missing
        });
    };
    if !real.starts_with(&real_dir) {
        return Err(Stray::Outside(real));
    }
    if real.is_dir()
        && let Some(link) = stray_link(&real_dir, &real)
    {
        return Err(Stray::Link(link));
    }
    Ok(())
}

/// The first symbolic link below `folder` that leads out of `dir`. Links that lead nowhere lead nowhere.
pub(crate) fn stray_link(dir: &Path, folder: &Path) -> Option<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).ok()?.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            if kind.is_symlink() {
                if path.canonicalize().is_ok_and(|to| !to.starts_with(dir)) {
                    return Some(path);
                }
            } else if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    None
}

/// True for a file, and for a folder with a file or link below it. What cannot be read counts as if it were there: the
/// reason is said where it is used.
pub(crate) fn holds_files(path: &Path) -> bool {
    if !path.is_dir() {
        return true;
    }
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return true;
        };
        for entry in entries {
            let Ok(entry) = entry else { return true };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) | Err(_) => return true,
            }
        }
    }
    false
}

/// What to do where a package names a folder without files, see [`holds_files`].
pub(crate) const EMPTY_HELP: &str = "a package's digest covers no empty folders, so they are not deployed: put a file into it, or let the deploy make it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved() {
        for (path, expected) in [
            ("a/../b", "b"),
            ("./a/./b", "a/b"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(shorten(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_folder_of_nothing_but_folders_holds_no_files() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        for folder in ["hollow/a/b", "hollow/c", "file/a/b", "link"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("file/a/b/x"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", at("link/x")).unwrap();
        for (path, holds) in [
            ("hollow", false),
            ("hollow/a", false),
            ("file", true),
            ("file/a/b/x", true),
            ("link", true),
        ] {
            assert_eq!(holds_files(&at(path)), holds, "{path}");
        }
    }

    #[test]
    fn nothing_leaves_its_folder() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("in");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        std::fs::write(temp.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink("../secret", dir.join("link")).unwrap();
        std::os::unix::fs::symlink("file", dir.join("fine")).unwrap();
        std::os::unix::fs::symlink("../../secret", dir.join("sub/link")).unwrap();
        let secret = temp.path().canonicalize().unwrap().join("secret");
        for (path, expected) in [
            ("file", Ok(())),
            ("fine", Ok(())),
            ("sub/../file", Ok(())),
            ("nothing", Err(Stray::Missing)),
            ("link", Err(Stray::Outside(secret.clone()))),
            ("../secret", Err(Stray::Outside(secret.clone()))),
            (
                "sub",
                Err(Stray::Link(dir.canonicalize().unwrap().join("sub/link"))),
            ),
        ] {
            assert_eq!(inside(&dir, &dir.join(path)), expected, "{path}");
        }
    }
}
