//! What a container wrote to its own filesystem, read off the layer that the engine keeps for it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::{lines, tree};

/// Prints one line a layer: a JSON list of the absolute paths that it adds, changes or hides. A folder that is there
/// only because something in it changed is not named; an empty one is, since it may be new.
pub(super) fn changes(layers: &[PathBuf]) -> Result<(), String> {
    layers
        .iter()
        .try_for_each(|layer| lines::print(&paths(layer)?))
}

fn paths(layer: &std::path::Path) -> Result<Vec<String>, String> {
    // Markers of the overlay say how a folder is to be read, and are nothing that a container wrote.
    let entries: Vec<tree::Entry> = tree::walk(layer)?
        .into_iter()
        .filter(|entry| {
            let name = entry.path.file_name().unwrap_or_default();
            // The second is what fuse-overlayfs leaves in a mount point that was made before the container started.
            !(name.as_bytes().starts_with(b".wh..wh.") || name == ".wh..opq")
        })
        .collect();
    let mut paths = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        // Sorted by bytes: what a folder holds comes after it, perhaps behind a namesake with a longer name.
        let holds_something = || {
            entries[index + 1..]
                .iter()
                .take_while(|next| {
                    let (name, folder) = (next.path.as_os_str(), entry.path.as_os_str());
                    name.as_bytes().starts_with(folder.as_bytes())
                })
                .any(|next| next.path.starts_with(&entry.path))
        };
        if entry.path.as_os_str().is_empty() || (entry.metadata.is_dir() && holds_something()) {
            continue;
        }
        let path = String::from_utf8_lossy(entry.path.as_os_str().as_bytes());
        paths.push(format!("/{path}"));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::paths;

    #[test]
    fn only_what_is_at_an_end_is_named() {
        let layer = tempfile::tempdir().expect("a folder");
        let at = |path: &str| layer.path().join(path);
        std::fs::create_dir_all(at("etc/app")).expect("made");
        std::fs::create_dir_all(at("var/empty")).expect("made");
        // Sorted by bytes, `etc-old` stands between `etc` and `etc/app`.
        std::fs::write(at("etc-old"), "").expect("written");
        std::fs::write(at("etc/app/conf"), "").expect("written");
        std::fs::write(at("var/empty/.wh..wh..opq"), "").expect("written");
        std::fs::write(at("var/empty/.wh..opq"), "").expect("written");
        let mut found = paths(layer.path()).expect("readable");
        found.sort();
        assert_eq!(found, ["/etc-old", "/etc/app/conf", "/var/empty"]);
    }

    #[test]
    fn a_layer_that_is_not_there_is_an_error() {
        assert!(paths(std::path::Path::new("/nowhere/at/all")).is_err());
    }
}
