//! Keys of Compose files that staging does not take, each with its reason and the way out. Nothing is ignored in silence.

use crate::manifest::decode::Fields;
use crate::manifest::problem::Problems;

/// Keys of a service that would open the isolation.
const ISOLATION: &[(&str, &str)] = &[
    (
        "privileged",
        "a privileged container owns the host, and with it every network",
    ),
    (
        "network_mode",
        "staging has one isolated network, and every service is on it",
    ),
    ("pid", "the host's processes must stay out of sight"),
    ("ipc", "shared memory with the host is a way out"),
    ("uts", "staging must not name the host"),
    ("userns_mode", "the host's users must stay out of reach"),
    ("cgroup", "the host's control groups must stay out of reach"),
    (
        "cgroup_parent",
        "the host's control groups must stay out of reach",
    ),
    (
        "devices",
        "a device is a way to the host and around the isolation",
    ),
    (
        "device_cgroup_rules",
        "a device is a way to the host and around the isolation",
    ),
    (
        "gpus",
        "a device is a way to the host and around the isolation",
    ),
    (
        "volumes_from",
        "another container's volumes are not staging's",
    ),
    (
        "external_links",
        "containers outside staging must be out of reach",
    ),
    (
        "extra_hosts",
        "names would lead out of staging; every name is answered by its own resolver",
    ),
    ("dns", "every name is answered by staging's own resolver"),
    (
        "dns_search",
        "every name is answered by staging's own resolver",
    ),
    (
        "dns_opt",
        "every name is answered by staging's own resolver",
    ),
    (
        "sysctls",
        "kernel parameters of the network belong to the isolation",
    ),
    (
        "runtime",
        "another runtime may not isolate as the engine's own does",
    ),
    (
        "use_api_socket",
        "the engine's socket is the door to the host",
    ),
    (
        "credential_spec",
        "the host's credentials must stay out of reach",
    ),
];

/// Keys of a service that are harmless and not supported: why it matters, or what to write instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "extends",
        "write the service out, or share its parts with a YAML anchor and `<<`",
    ),
    (
        "profiles",
        "write a stack file that has just the services of this rehearsal",
    ),
    (
        "logging",
        "remove it: the logs of every service are kept in the run's folder",
    ),
    (
        "links",
        "remove it: every service finds every other by its name",
    ),
    (
        "stdin_open",
        "remove it: nothing in a rehearsal has an input",
    ),
    ("tty", "remove it: nothing in a rehearsal has a terminal"),
    (
        "cap_drop",
        "remove it, and drop the capabilities in the image's entrypoint if they must be missing",
    ),
    ("ulimits", "remove it: services get the engine's limits"),
    (
        "platform",
        "remove it: services run on the engine's platform",
    ),
    (
        "pull_policy",
        "remove it: an image is used where it is present, else pulled, else built",
    ),
    ("scale", "remove it: staging runs one container a service"),
    ("develop", "remove it: a rehearsal runs what is deployed"),
    (
        "pids_limit",
        "remove it: every service has a limit of its own",
    ),
    ("mem_reservation", "remove it and set `mem_limit`"),
    ("memswap_limit", "remove it and set `mem_limit`"),
    ("mem_swappiness", "remove it and set `mem_limit`"),
    ("cpu_count", "write `cpus`"),
    ("cpu_percent", "write `cpus`"),
    ("cpu_period", "write `cpus`"),
    ("cpu_quota", "write `cpus`"),
    ("cpu_shares", "write `cpus`"),
    ("cpuset", "write `cpus`"),
    ("domainname", "write the whole name as a network alias"),
    (
        "mac_address",
        "remove it: addresses are the engine's to give",
    ),
    (
        "group_add",
        "write `user: uid:gid`, or add the group in the image",
    ),
    (
        "post_start",
        "make it a step of its own: a one-shot service that others wait for",
    ),
    ("pre_stop", "handle the stop signal in the service"),
    ("label_file", "write `labels`"),
    ("annotations", "remove it"),
    ("oom_kill_disable", "remove it"),
    ("oom_score_adj", "remove it"),
    ("storage_opt", "remove it"),
    ("blkio_config", "remove it"),
    (
        "volume_driver",
        "remove it: volumes are the engine's local ones",
    ),
    ("attach", "remove it: the logs of every service are kept"),
    ("provider", "run the thing as a service of the stack"),
    ("models", "run the thing as a service of the stack"),
];

/// Top-level keys.
const TOP: &[(&str, &str)] = &[
    ("include", "write one file: staging is what this file says"),
    ("models", "run the thing as a service of the stack"),
];

/// Keys of a service that a stack knows, and that a release does not change.
const STACKS: &[&str] = &[
    "depends_on",
    "networks",
    "ports",
    "expose",
    "hostname",
    "container_name",
    "healthcheck",
    "user",
    "working_dir",
    "tmpfs",
    "mem_limit",
    "cpus",
    "shm_size",
    "deploy",
    "stop_signal",
    "stop_grace_period",
    "init",
    "read_only",
    "cap_add",
    "security_opt",
];

/// What to do about those.
const STACKS_HELP: &str = "remove it, or change it in the stack: a package changes `image`, `build`, `command`, `entrypoint`, `environment`, `env_file`, `volumes`, `configs` and `secrets`";

fn sweep(
    f: &mut Fields<'_>,
    keys: &[(&'static str, &str)],
    reason: &str,
    lead: &str,
    p: &mut Problems,
) {
    for (key, why) in keys {
        let Some(place) = f.key_place(key) else {
            continue;
        };
        let problem = place.problem(format!("`{key}` {reason}"));
        p.push(problem.help(format!("{lead}{why}")));
        // The value is not looked at, but the key is known from now on.
        f.node(key, &mut Problems::new());
    }
}

/// Refuses what a service may not have.
pub(super) fn service(f: &mut Fields<'_>, p: &mut Problems) {
    sweep(
        f,
        ISOLATION,
        "would break the isolation of staging",
        "remove it: ",
        p,
    );
    sweep(f, UNSUPPORTED, "is not supported in a stack", "", p);
}

/// Refuses what a stack may not have at its top.
pub(super) fn top(f: &mut Fields<'_>, p: &mut Problems) {
    sweep(f, TOP, "is not supported in a stack", "", p);
}

/// Refuses what a package may not say of a service.
pub(super) fn package_service(f: &mut Fields<'_>, p: &mut Problems) {
    sweep(
        f,
        ISOLATION,
        "would break the isolation of staging",
        "remove it: ",
        p,
    );
    sweep(f, UNSUPPORTED, "is not supported in a package", "", p);
    for key in STACKS {
        sweep(
            f,
            &[(*key, STACKS_HELP)],
            "of a service is the stack's to say",
            "",
            p,
        );
    }
}

/// Refuses what a package may not say at its top.
pub(super) fn package_top(f: &mut Fields<'_>, p: &mut Problems) {
    sweep(f, TOP, "is not supported in a package", "", p);
    for key in ["volumes", "networks"] {
        sweep(
            f,
            &[(key, "remove it: the services keep those that they have")],
            "is the stack's to say",
            "",
            p,
        );
    }
}
