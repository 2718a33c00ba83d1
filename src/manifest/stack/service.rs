//! One service of a stack.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::decode::{
    Fields, any_text, boolean, bytes, container_path, cores, duration, duration_or_zero, list,
    number, one_or_more, only, string, text, word,
};
use crate::manifest::environment::environment;
use crate::manifest::interpolate::{self, Vars};
use crate::manifest::load::read_text;
use crate::manifest::names;
use crate::manifest::paths;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::suggest;
use crate::manifest::tree::{Entry, Kind, Node};
use crate::plan::model::{Condition, Dependency, Healthcheck, Image, Service};

use super::mounts::{self, Mounts};
use super::{Declared, ServiceEntry, build, ports, refuse};

/// Capabilities that every engine gives anyway, and that reach neither network nor host.
const HARMLESS: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
];

/// A service is always read as far as it can be, so that others can name it.
pub(super) fn decode(
    entry: &Entry,
    declared: &Declared<'_>,
    env_files: &mut Vec<PathBuf>,
    p: &mut Problems,
) -> ServiceEntry {
    let name = entry.key.value.clone();
    if !names::is_compose_name(&name) {
        p.push(
            entry
                .key
                .place
                .problem(format!("`{name}` cannot be the name of a service"))
                .help("use letters, digits, `-`, `_` and `.`: the name is its host name on the network"),
        );
    }
    let mut service = empty(&name);
    let mut depends_on = Vec::new();
    let mut password = None;
    if let Some(mut f) = Fields::of(&entry.value, format!("the service `{name}`"), p) {
        f.place = entry.key.place.clone();
        image(&mut f, &mut service, declared, p);
        process(&mut f, &mut service, p);
        variables(&mut f, &mut service, declared, env_files, p);
        mounted(&mut f, &mut service, declared, p);
        writable(&f, &service, p);
        password = password_file(&f, &service, p);
        network(&mut f, &mut service, declared, p);
        limits(&mut f, &mut service, p);
        service.healthcheck = f.opt("healthcheck", p, healthcheck);
        depends_on = f.opt("depends_on", p, dependencies).unwrap_or_default();
        service.depends_on = depends_on
            .iter()
            .map(|(on, condition)| Dependency {
                service: on.value.clone(),
                condition: *condition,
            })
            .collect();
        capabilities(&mut f, p);
        // Accepted without effect, and listed so in the reference.
        f.node("labels", p);
        f.node("restart", p);
        refuse::service(&mut f, p);
        f.forget(|key| key.starts_with("x-"));
        f.finish(p);
    }
    ServiceEntry {
        place: entry.key.place.clone(),
        service,
        depends_on,
        password_file: password,
    }
}

fn empty(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        image: Image {
            reference: String::new(),
            build: None,
        },
        command: None,
        entrypoint: None,
        environment: BTreeMap::new(),
        volumes: Vec::new(),
        files: Vec::new(),
        tmpfs: BTreeMap::new(),
        healthcheck: None,
        depends_on: Vec::new(),
        user: None,
        working_dir: None,
        hostname: None,
        aliases: Vec::new(),
        tcp_ports: Vec::new(),
        memory: None,
        cpus: None,
        shm_size: None,
        stop_signal: None,
        stop_grace_period: Duration::from_secs(10),
        init: false,
        read_only: false,
        one_shot: false,
    }
}

fn image(f: &mut Fields<'_>, service: &mut Service, declared: &Declared<'_>, p: &mut Problems) {
    let image = f.opt("image", p, string);
    service.image.build = f.opt("build", p, |node, p| build::decode(node, declared.dir, p));
    if !f.has("image") && !f.has("build") {
        p.push(f.place.problem(format!(
            "the service `{}` has neither `image` nor `build`",
            service.name
        )));
    }
    service.image.reference = image
        .unwrap_or_else(|| format!("rehearse-{}-{}", declared.stack, service.name).to_lowercase());
}

fn process(f: &mut Fields<'_>, service: &mut Service, p: &mut Problems) {
    service.command = f.opt("command", p, words);
    service.entrypoint = f.opt("entrypoint", p, words);
    service.user = f.opt("user", p, string);
    service.working_dir = f.opt("working_dir", p, container_path);
    service.stop_signal = f.opt("stop_signal", p, string);
    if let Some(grace) = f.opt("stop_grace_period", p, duration_or_zero) {
        service.stop_grace_period = grace;
    }
    service.init = f.opt("init", p, boolean).unwrap_or_default();
    service.read_only = f.opt("read_only", p, boolean).unwrap_or_default();
}

/// A list of words, or one text that is split as a shell would, without a shell.
pub(super) fn words(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<String>> {
    if let Kind::List(_) = node.kind {
        return list(node, p, |item, p| any_text(item, p).map(|at| at.value));
    }
    let written = any_text(node, p)?;
    let split = shlex::split(&written.value);
    if split.is_none() {
        p.push(
            written
                .place
                .problem("the quotes in this command do not match")
                .help("write it as a list of words"),
        );
    }
    split
}

fn variables(
    f: &mut Fields<'_>,
    service: &mut Service,
    declared: &Declared<'_>,
    env_files: &mut Vec<PathBuf>,
    p: &mut Problems,
) {
    let files = f.opt("env_file", p, |node, p| one_or_more(node, p, env_file));
    for (file, required) in files.unwrap_or_default() {
        let path = paths::join(declared.dir, &file.value);
        if !path.exists() && !required {
            continue;
        }
        let mut known: Vars = declared.vars.clone();
        known.extend(service.environment.clone());
        match interpolate::read_env(&path, &path, &known, p) {
            Ok(read) => service.environment.extend(read),
            Err(error) => p.push(
                file.place
                    .problem(format!("cannot read `{}`: {error}", path.display())),
            ),
        }
        env_files.push(path);
    }
    let own = f.opt("environment", p, environment);
    service.environment.extend(own.unwrap_or_default());
}

fn env_file(node: &Arc<Node>, p: &mut Problems) -> Option<(At<String>, bool)> {
    if let Kind::Map(_) = node.kind {
        let mut f = Fields::of(node, "an env file", p)?;
        let path = f.req("path", p, text);
        let required = f.opt("required", p, boolean).unwrap_or(true);
        f.finish(p);
        return Some((path?, required));
    }
    Some((text(node, p)?, true))
}

fn mounted(f: &mut Fields<'_>, service: &mut Service, declared: &Declared<'_>, p: &mut Problems) {
    let mut all = Mounts::default();
    f.opt("volumes", p, |node, p| {
        mounts::decode(node, declared, &mut all, p);
        Some(())
    });
    f.opt("tmpfs", p, |node, p| {
        one_or_more(node, p, |item, p| {
            let written = text(item, p)?;
            let (path, options) = written
                .value
                .split_once(':')
                .unwrap_or((&written.value, ""));
            mounts::add_tmpfs(path, options.to_owned(), &written.place, &mut all, p);
            Some(())
        })
    });
    f.opt("secrets", p, |node, p| {
        mounts::shared_files(
            node,
            "secrets",
            &declared.secrets,
            "/run/secrets/",
            &mut all,
            p,
        );
        Some(())
    });
    f.opt("configs", p, |node, p| {
        mounts::shared_files(node, "configs", &declared.configs, "/", &mut all, p);
        Some(())
    });
    service.volumes = all.volumes;
    service.files = all.files;
    service.tmpfs = all.tmpfs;
}

/// What the official image reads at its first start, where it names a file that is mounted. A file that the image or
/// a volume brings along is out of sight, and the test has to say the password.
fn password_file(f: &Fields<'_>, service: &Service, p: &mut Problems) -> Option<String> {
    let target = service.environment.get("POSTGRES_PASSWORD_FILE")?;
    let mount = service.files.iter().find(|file| file.target == *target)?;
    // A mistake in the mount itself is already reported.
    if !mount.source.is_file() {
        return None;
    }
    match read_text(&mount.source) {
        Ok(text) => Some(text.trim_end_matches('\n').to_owned()),
        Err(error) => {
            p.push(f.place.problem(format!(
                "cannot read the password in `{}`: {error}",
                mount.source.display()
            )));
            None
        }
    }
}

/// Files are copied into the container before it starts, which no engine does where it cannot be written to.
fn writable(f: &Fields<'_>, service: &Service, p: &mut Problems) {
    if let Some(file) = service.files.first()
        && service.read_only
        && let Some(place) = f.key_place("read_only")
    {
        p.push(
            place
                .problem(format!(
                    "`read_only` cannot be carried out where files are mounted, here at `{}`",
                    file.target
                ))
                .help("drop `read_only` in staging's stack, or bake the file into the image: files, secrets and configs are copied in, and the engine refuses that in a read-only container"),
        );
    }
}

fn network(f: &mut Fields<'_>, service: &mut Service, declared: &Declared<'_>, p: &mut Problems) {
    service.hostname = f.opt("hostname", p, string);
    for key in ["ports", "expose"] {
        f.opt(key, p, |node, p| {
            ports::decode(node, &mut service.tcp_ports, p);
            Some(())
        });
    }
    let aliases = f.opt("networks", p, |node, p| networks(node, declared, p));
    service.aliases = aliases.unwrap_or_default();
    // Docker answers a container's name as it answers an alias, and files rely on it.
    service.aliases.extend(f.opt("container_name", p, string));
    let mut seen = vec![service.name.clone()];
    service.aliases.retain(|alias| {
        let new = !seen.contains(alias);
        seen.push(alias.clone());
        new
    });
}

/// The aliases that a service has on its networks.
fn networks(node: &Arc<Node>, declared: &Declared<'_>, p: &mut Problems) -> Option<Vec<String>> {
    let known = |name: &At<String>, p: &mut Problems| {
        let all = || {
            declared
                .networks
                .iter()
                .map(String::as_str)
                .chain(["default"])
        };
        if !all().any(|network| network == name.value) {
            p.push(
                name.place
                    .problem(format!("the network `{}` is not declared", name.value))
                    .maybe_help(suggest::help(
                        &name.value,
                        all().collect::<Vec<_>>(),
                        "declared",
                    )),
            );
        }
    };
    let mut aliases = Vec::new();
    if let Kind::List(_) = node.kind {
        for name in list(node, p, text)? {
            known(&name, p);
        }
        return Some(aliases);
    }
    for entry in crate::manifest::decode::entries(node, p)? {
        known(&entry.key, p);
        if let Kind::Empty | Kind::Null = entry.value.kind {
            continue;
        }
        let Some(mut f) = Fields::of(
            &entry.value,
            format!("the network `{}`", entry.key.value),
            p,
        ) else {
            continue;
        };
        aliases.extend(
            f.opt("aliases", p, |node, p| list(node, p, string))
                .unwrap_or_default(),
        );
        for key in [
            "ipv4_address",
            "ipv6_address",
            "link_local_ips",
            "mac_address",
        ] {
            if let Some(place) = f.key_place(key) {
                p.push(
                    place
                        .problem(format!("`{key}` is not supported in a stack"))
                        .help("remove it: addresses are the engine's to give; use names"),
                );
                f.node(key, &mut Problems::new());
            }
        }
        f.node("priority", p);
        f.finish(p);
    }
    Some(aliases)
}

fn limits(f: &mut Fields<'_>, service: &mut Service, p: &mut Problems) {
    service.memory = f.opt("mem_limit", p, bytes);
    service.cpus = f.opt("cpus", p, cores);
    service.shm_size = f.opt("shm_size", p, bytes);
    f.opt("deploy", p, |node, p| {
        let mut f = Fields::of(node, "`deploy`", p)?;
        f.opt("resources", p, |node, p| {
            let mut f = Fields::of(node, "`deploy.resources`", p)?;
            f.opt("limits", p, |node, p| {
                let mut f = Fields::of(node, "`deploy.resources.limits`", p)?;
                let memory = f.opt("memory", p, bytes);
                let cpus = f.opt("cpus", p, cores);
                service.memory = service.memory.or(memory);
                service.cpus = service.cpus.or(cpus);
                f.finish(p);
                Some(())
            });
            f.finish(p);
            Some(())
        });
        if let Some(place) = f.key_place("replicas").cloned() {
            let replicas = f.opt("replicas", p, number::<u32>);
            if replicas.is_some_and(|n| n != 1) {
                p.push(
                    place
                        .problem("`deploy.replicas` is not supported in a stack")
                        .help("remove it: staging runs one container a service"),
                );
            }
        }
        f.finish(p);
        Some(())
    });
}

fn healthcheck(node: &Arc<Node>, p: &mut Problems) -> Option<Healthcheck> {
    let mut f = Fields::of(node, "`healthcheck`", p)?;
    let place = f.place.clone();
    let disable = f.opt("disable", p, boolean).unwrap_or_default();
    let has_test = f.has("test");
    let test = f.opt("test", p, |node, p| {
        let Kind::List(_) = node.kind else {
            return Some(vec!["CMD-SHELL".to_owned(), text(node, p)?.value]);
        };
        let test = list(node, p, |item, p| any_text(item, p).map(|at| at.value))?;
        let fits = match test.first().map(String::as_str) {
            Some("NONE") => test.len() == 1,
            Some("CMD-SHELL") => test.len() == 2,
            Some("CMD") => test.len() > 1,
            _ => false,
        };
        if !fits {
            p.push(
                node.head()
                    .problem("a health check's list begins with `CMD`, `CMD-SHELL` or `NONE`")
                    .help("write `[\"CMD\", \"pg_isready\"]`, or the command as one text"),
            );
        }
        Some(test)
    });
    let check = Healthcheck {
        test: if disable {
            vec!["NONE".to_owned()]
        } else {
            test.unwrap_or_default()
        },
        interval: f.opt("interval", p, duration),
        timeout: f.opt("timeout", p, duration),
        retries: f.opt("retries", p, number),
        start_period: f.opt("start_period", p, duration_or_zero),
    };
    if disable && has_test {
        p.push(place.problem("a health check that is disabled has no `test`"));
    }
    if let Some(place) = f.key_place("start_interval") {
        p.push(
            place
                .problem("`start_interval` is not supported in a stack")
                .help("remove it: engines before 25 do not know it; shorten `interval`"),
        );
        f.node("start_interval", &mut Problems::new());
    }
    f.finish(p);
    Some(check)
}

fn dependencies(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(At<String>, Condition)>> {
    if let Kind::List(_) = node.kind {
        let names = list(node, p, text)?;
        return Some(
            names
                .into_iter()
                .map(|name| (name, Condition::Started))
                .collect(),
        );
    }
    let mut dependencies = Vec::new();
    for entry in crate::manifest::decode::entries(node, p)? {
        let what = format!("the dependency `{}`", entry.key.value);
        let Some(mut f) = Fields::of(&entry.value, what, p) else {
            continue;
        };
        let condition = f.req("condition", p, |node, p| {
            word(
                node,
                p,
                &[
                    ("service_started", Condition::Started),
                    ("service_healthy", Condition::Healthy),
                    ("service_completed_successfully", Condition::Completed),
                ],
            )
        });
        f.node("restart", p);
        only(
            &mut f,
            "required",
            true,
            "remove it: every dependency is needed",
            p,
        );
        f.finish(p);
        dependencies.push((entry.key.clone(), condition.unwrap_or(Condition::Started)));
    }
    Some(dependencies)
}

fn capabilities(f: &mut Fields<'_>, p: &mut Problems) {
    f.opt("cap_add", p, |node, p| {
        list(node, p, |item, p| {
            let written = text(item, p)?;
            let name = written.value.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            if !HARMLESS.contains(&name) {
                p.push(
                    written
                        .place
                        .problem(format!(
                            "the capability `{}` would break the isolation of staging",
                            written.value
                        ))
                        .help(format!("remove it; accepted are {}", HARMLESS.join(", "))),
                );
            }
            Some(())
        })
    });
    f.opt("security_opt", p, |node, p| {
        list(node, p, |item, p| {
            let written = text(item, p)?;
            if !matches!(written.value.as_str(), "no-new-privileges" | "no-new-privileges:true") {
                p.push(
                    written
                        .place
                        .problem(format!("`security_opt: {}` would break the isolation of staging", written.value))
                        .help("remove it; only `no-new-privileges:true` is accepted, and every service has it"),
                );
            }
            Some(())
        })
    });
}
