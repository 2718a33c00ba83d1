//! Prepares the writable half of a copy-on-write branch.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::copy::attributes;
use super::lines;
use super::tree::cannot;

/// What was made.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Layer<'a> {
    lower: &'a Path,
    upper: PathBuf,
    work: PathBuf,
}

/// Prints one line a pair.
pub(super) fn layer(folders: &[PathBuf]) -> Result<(), String> {
    let (pairs, rest) = folders.as_chunks::<2>();
    if let [lonely] = rest {
        return Err(format!(
            "`{}` has no layer: folders come in pairs",
            lonely.display()
        ));
    }
    pairs
        .iter()
        .try_for_each(|[lower, layer]| lines::print(&make(lower, layer)?))
}

/// Makes `upper` and `work`. The root of the merged file system has the attributes of `upper`, so they must be
/// those of `lower`: a database refuses a data folder that is not its own.
///
/// # Errors
/// `layer` has something in it: it may be a branch in use.
fn make<'a>(lower: &'a Path, layer: &Path) -> Result<Layer<'a>, String> {
    let metadata = fs::metadata(lower).map_err(|error| cannot("read", lower, &error))?;
    if !metadata.is_dir() {
        return Err(format!("`{}` is not a folder", lower.display()));
    }
    fs::create_dir_all(layer).map_err(|error| cannot("make", layer, &error))?;
    let mut entries = fs::read_dir(layer).map_err(|error| cannot("read", layer, &error))?;
    if entries.next().is_some() {
        return Err(format!(
            "cannot make a layer in `{}`: it is not empty\nhelp: give each branch a new volume",
            layer.display()
        ));
    }
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir(folder).map_err(|error| cannot("make", folder, &error))?;
    }
    attributes(lower, &metadata, &upper)?;
    Ok(Layer { lower, upper, work })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn upper_is_like_lower_and_a_used_layer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (lower, layer) = (folder.path().join("lower"), folder.path().join("layer"));
        fs::create_dir(&lower).unwrap();
        fs::set_permissions(&lower, fs::Permissions::from_mode(0o2750)).unwrap();
        let made = make(&lower, &layer).unwrap();
        let (a, b) = (
            fs::metadata(&lower).unwrap(),
            fs::metadata(&made.upper).unwrap(),
        );
        assert_eq!((a.mode(), a.uid(), a.gid()), (b.mode(), b.uid(), b.gid()));
        assert!(made.work.is_dir());
        let refused = make(&lower, &layer).unwrap_err();
        assert!(refused.contains("it is not empty"), "{refused}");
    }

    #[test]
    fn a_folder_without_its_pair_is_refused() {
        assert!(layer(&[PathBuf::from("/a")]).is_err());
    }
}
