//! What is mounted into a service: named volumes, files of the stack's folder, memory, secrets and configs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::manifest::decode::{Fields, boolean, bytes, list, mode, number, text, word};
use crate::manifest::names;
use crate::manifest::paths::{self, Stray};
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::suggest;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{FileMount, VolumeMount};

use super::Declared;

/// All that a service has mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) volumes: Vec<VolumeMount>,
    pub(super) files: Vec<FileMount>,
    pub(super) tmpfs: BTreeMap<String, String>,
}

/// What a file that mounts something belongs to, and so what it may mount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// The folder, for messages.
    folder: &'static str,
    /// Volumes belong to it.
    volumes: bool,
    /// Empty folders are part of it.
    empty_folders: bool,
}

pub(super) const STACK: Home = Home {
    folder: "the stack's folder",
    volumes: true,
    empty_folders: true,
};

pub(super) const PACKAGE: Home = Home {
    folder: "the package",
    volumes: false,
    empty_folders: false,
};

#[derive(Clone, Copy)]
enum Type {
    Volume,
    Bind,
    Tmpfs,
}

/// The service's `volumes`.
pub(super) fn decode(
    node: &Arc<Node>,
    declared: &Declared<'_>,
    mounts: &mut Mounts,
    p: &mut Problems,
) {
    list(node, p, |item, p| match &item.kind {
        Kind::Scalar { .. } => short(item, declared, mounts, p),
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => long(item, declared, mounts, p),
    });
}

fn short(
    node: &Arc<Node>,
    declared: &Declared<'_>,
    mounts: &mut Mounts,
    p: &mut Problems,
) -> Option<()> {
    let written = text(node, p)?;
    let mut parts = written.value.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        p.push(
            written
                .place
                .problem(format!("`{source}` is a volume without a name"))
                .help(format!("name it (`name:{source}`) so that it can be restored and rolled back, or write `tmpfs: {source}`")),
        );
        return None;
    };
    let mut read_only = false;
    for option in parts
        .next()
        .into_iter()
        .flat_map(|options| options.split(','))
    {
        match option {
            "ro" => read_only = true,
            // Labels for SELinux and a hint about image contents change nothing that a rehearsal could see.
            "rw" | "z" | "Z" | "nocopy" => {}
            other => p.push(
                written
                    .place
                    .problem(format!("the mount option `{other}` is not supported"))
                    .help("`ro` and `rw` are"),
            ),
        }
    }
    let is_path = source.starts_with(['.', '/', '~']) || source.contains('/');
    mount(
        if is_path { Type::Bind } else { Type::Volume },
        &At::new(source.to_owned(), written.place.clone()),
        target,
        read_only,
        declared,
        mounts,
        p,
    );
    Some(())
}

fn long(
    node: &Arc<Node>,
    declared: &Declared<'_>,
    mounts: &mut Mounts,
    p: &mut Problems,
) -> Option<()> {
    let mut f = Fields::of(node, "a volume", p)?;
    let place = f.place.clone();
    let kind = f.req("type", p, |node, p| {
        word(
            node,
            p,
            &[
                ("volume", Type::Volume),
                ("bind", Type::Bind),
                ("tmpfs", Type::Tmpfs),
            ],
        )
    });
    let source = f.opt("source", p, text);
    let target = f.req("target", p, text);
    let read_only = f.opt("read_only", p, boolean).unwrap_or_default();
    f.opt("volume", p, |node, p| {
        let mut f = Fields::of(node, "`volume`", p)?;
        f.opt("nocopy", p, boolean);
        f.finish(p);
        Some(())
    });
    f.opt("bind", p, |node, p| {
        let mut f = Fields::of(node, "`bind`", p)?;
        f.opt("create_host_path", p, boolean);
        f.finish(p);
        Some(())
    });
    let memory = f.opt("tmpfs", p, |node, p| {
        let mut f = Fields::of(node, "`tmpfs`", p)?;
        let size = f.opt("size", p, bytes).map(|size| format!("size={size}"));
        let mode = f.opt("mode", p, mode).map(|mode| format!("mode={mode:o}"));
        f.finish(p);
        Some(
            [size, mode]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(","),
        )
    });
    f.finish(p);
    let (kind, target) = (kind?, target?);
    if let Type::Tmpfs = kind {
        add_tmpfs(
            &target.value,
            memory.unwrap_or_default(),
            &target.place,
            mounts,
            p,
        );
        return Some(());
    }
    let Some(source) = source else {
        p.push(
            place
                .problem("a volume without a `source`")
                .help("name it so that it can be restored and rolled back, or use `type: tmpfs`"),
        );
        return None;
    };
    mount(kind, &source, &target.value, read_only, declared, mounts, p);
    Some(())
}

fn mount(
    kind: Type,
    source: &At<String>,
    target: &str,
    read_only: bool,
    declared: &Declared<'_>,
    mounts: &mut Mounts,
    p: &mut Problems,
) {
    if !free_target(target, &source.place, mounts, p) {
        return;
    }
    match kind {
        Type::Tmpfs => {}
        Type::Volume if !declared.home.volumes => p.push(
            source
                .place
                .problem(format!("the volume `{}` is the stack's to say", source.value))
                .help("a package brings files (`./nginx.conf:/etc/nginx/nginx.conf:ro`), and a step with `run:` changes what is in a volume"),
        ),
        Type::Volume => {
            if !declared.volumes.contains(&source.value) {
                p.push(
                    source
                        .place
                        .problem(format!("the volume `{}` is not declared", source.value))
                        .help(
                            suggest::nearest(
                                &source.value,
                                declared.volumes.iter().map(String::as_str),
                            )
                            .map_or_else(
                                || {
                                    format!(
                                        "add `volumes: {{ {}: {{}} }}` at the top level",
                                        source.value
                                    )
                                },
                                |near| format!("did you mean `{near}`?"),
                            ),
                        ),
                );
            }
            mounts.volumes.push(VolumeMount {
                volume: source.value.clone(),
                target: target.to_owned(),
                read_only,
            });
        }
        Type::Bind => {
            if let Some(file) = bind(source, target, read_only, declared, p) {
                mounts.files.push(file);
            }
        }
    }
}

/// True where nothing else is mounted at `target` and it can be mounted at.
fn free_target(target: &str, place: &Place, mounts: &Mounts, p: &mut Problems) -> bool {
    if !target.starts_with('/') || target.trim_end_matches('/').is_empty() {
        p.push(place.problem(format!(
            "`{target}` is not an absolute path in the container below `/`"
        )));
        return false;
    }
    let taken = mounts.volumes.iter().any(|v| v.target == target)
        || mounts.files.iter().any(|f| f.target == target)
        || mounts.tmpfs.contains_key(target);
    if taken {
        p.push(place.problem(format!("something else is already mounted at `{target}`")));
    }
    !taken
}

pub(super) fn add_tmpfs(
    target: &str,
    options: String,
    place: &Place,
    mounts: &mut Mounts,
    p: &mut Problems,
) {
    if free_target(target, place, mounts, p) {
        mounts.tmpfs.insert(target.to_owned(), options);
    }
}

/// A file or folder of the stack's folder, which is copied in.
fn bind(
    source: &At<String>,
    target: &str,
    read_only: bool,
    declared: &Declared<'_>,
    p: &mut Problems,
) -> Option<FileMount> {
    let written = &source.value;
    let is_socket = |path: &str| {
        [
            "docker.sock",
            "podman.sock",
            "containerd.sock",
            "crio.sock",
            "docker.pid",
        ]
        .iter()
        .any(|name| path.ends_with(name))
    };
    if is_socket(written) {
        p.push(
            source
                .place
                .problem(format!(
                    "`{written}` is the engine's socket: it would break the isolation of staging"
                ))
                .help("remove it: who holds the socket owns the host"),
        );
        return None;
    }
    let path = in_home(source, "mounts", declared.dir, declared.home, p)?;
    if !read_only {
        p.push(
            source
                .place
                .problem(format!("`{written}` would be writable"))
                .help(format!(
                    "write `{written}:{target}:ro`; data that a service writes belongs into a named volume, which can be rolled back"
                )),
        );
    }
    Some(FileMount {
        source: path,
        target: target.to_owned(),
        mode: None,
        uid: 0,
        gid: 0,
    })
}

/// The path, if it is in the folder of the stack or the package.
pub(super) fn in_home(
    source: &At<String>,
    verb: &str,
    dir: &Path,
    home: Home,
    p: &mut Problems,
) -> Option<std::path::PathBuf> {
    let written = &source.value;
    let path = paths::join(dir, written);
    let outside = |message: String, p: &mut Problems| {
        p.push(source.place.problem(message).help(format!(
            "copy it into {}: a service gets nothing else of this machine",
            home.folder
        )));
    };
    if written.starts_with('~') {
        outside(format!("`{written}` {verb} a file of somebody's home"), p);
        return None;
    }
    match paths::inside(dir, &path) {
        Ok(()) if home.empty_folders || paths::holds_files(&path) => Some(path),
        Ok(()) => {
            p.push(
                source
                    .place
                    .problem(format!("the folder `{written}` has no file in it"))
                    .help(paths::EMPTY_HELP),
            );
            None
        }
        Err(Stray::Missing) => {
            p.push(
                source
                    .place
                    .problem(format!("there is no `{}`", path.display())),
            );
            None
        }
        Err(Stray::Outside(_)) => {
            outside(
                format!("`{written}` {verb} something outside {}", home.folder),
                p,
            );
            None
        }
        Err(Stray::Link(link)) => {
            let name = link
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            outside(
                format!(
                    "`{written}` {verb} something outside {} through the link `{name}` in it",
                    home.folder
                ),
                p,
            );
            None
        }
    }
}

/// A service's `secrets` or `configs`: `default` makes the target from the name.
pub(super) fn shared_files(
    node: &Arc<Node>,
    kind: &'static str,
    sources: &BTreeMap<String, std::path::PathBuf>,
    default: &str,
    mounts: &mut Mounts,
    p: &mut Problems,
) {
    list(node, p, |item, p| {
        // World-readable unless the file says otherwise, as in Compose.
        let (mut bits, mut uid, mut gid, mut target) = (0o444, 0, 0, None);
        let name = if let Kind::Map(_) = item.kind {
            let mut f = Fields::of(item, format!("an item of `{kind}`"), p)?;
            let name = f.req("source", p, text);
            target = f.opt("target", p, text).map(|at| at.value);
            bits = f.opt("mode", p, mode).unwrap_or(bits);
            uid = f.opt("uid", p, number).unwrap_or(uid);
            gid = f.opt("gid", p, number).unwrap_or(gid);
            f.finish(p);
            name?
        } else {
            text(item, p)?
        };
        let Some(source) = sources.get(&name.value) else {
            p.push(
                name.place
                    .problem(format!(
                        "`{}` is not declared in the top-level `{kind}`",
                        name.value
                    ))
                    .maybe_help(suggest::help(
                        &name.value,
                        sources.keys().map(String::as_str),
                        "declared",
                    )),
            );
            return None;
        };
        let target = match target {
            Some(target) if target.starts_with('/') => target,
            Some(target) => format!("{default}{target}"),
            None => format!("{default}{}", name.value),
        };
        if free_target(&target, &name.place, mounts, p) {
            mounts.files.push(FileMount {
                source: source.clone(),
                target,
                mode: Some(bits),
                uid,
                gid,
            });
        }
        Some(())
    });
}

/// The top-level `volumes`: names with nothing that would bind them to a place of the host.
pub(super) fn declared_volume(entry: &crate::manifest::tree::Entry, p: &mut Problems) -> String {
    let name = &entry.key.value;
    if !names::is_compose_name(name) {
        p.push(
            entry
                .key
                .place
                .problem(format!("`{name}` cannot be the name of a volume")),
        );
    }
    if let Kind::Map(_) = entry.value.kind
        && let Some(mut f) = Fields::of(&entry.value, format!("the volume `{name}`"), p)
    {
        for (key, help) in [
            (
                "external",
                "remove it: staging's volumes are its own, filled by `restore` in the rehearsal",
            ),
            (
                "driver_opts",
                "remove it: a volume with options may be a folder of the host or a remote disk",
            ),
            ("name", "remove it: staging names its volumes itself"),
        ] {
            if let Some(place) = f.key_place(key) {
                p.push(
                    place
                        .problem(format!("`{key}` of a volume is not supported"))
                        .help(help),
                );
                f.node(key, &mut Problems::new());
            }
        }
        f.opt("driver", p, |node, p| word(node, p, &[("local", ())]));
        f.node("labels", p);
        f.finish(p);
    } else if let Kind::Scalar { .. } | Kind::List(_) = entry.value.kind {
        p.push(
            entry
                .value
                .place
                .problem(format!("the volume `{name}` must be a mapping or empty")),
        );
    }
    name.clone()
}
