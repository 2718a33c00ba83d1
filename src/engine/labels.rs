//! The labels that every resource carries from its first moment.

use std::collections::HashMap;

use jiff::Timestamp;

/// Everything of ours carries this, with the purpose as its value.
pub(super) const PURPOSE: &str = "rehearse.purpose";
/// The run that made it.
pub const RUN: &str = "rehearse.run";
/// The rehearsal for which it was made.
pub const REHEARSAL: &str = "rehearse.rehearsal";
pub(super) const OWNER: &str = "rehearse.owner";
/// The run that is at work on, or has made, a base.
pub const BASE_RUN: &str = "rehearse.base.run";
pub(super) const CREATED: &str = "rehearse.created";
pub(super) const EXPIRES: &str = "rehearse.expires";
/// On what belongs to one part of a run that ends before the run does: which.
pub(super) const PART: &str = "rehearse.part";
/// On one small volume of a run that was kept on purpose: until when. Labels cannot be changed later, so being
/// kept is a resource of its own.
pub(super) const KEPT: &str = "rehearse.kept";
/// Beside [`KEPT`]: the run whose deploy stands in a kept staging, where that is not the run that made it.
pub(super) const TENANT: &str = "rehearse.tenant";
/// On one small volume of a kept staging: the run in which a person had a shell.
pub(super) const ASSISTED: &str = "rehearse.assisted";
/// On the container that says that somebody is at work in a kept staging: who.
pub(super) const BUSY: &str = "rehearse.busy";

/// What a resource is for, which decides when it may be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Part of one run: swept when the run is dead or expired.
    Run,
    /// A finished base: kept until it is swept as a cache.
    Base,
    /// The agent's image, or the empty volume: kept and shared.
    Shared,
}

impl Purpose {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Base => "base",
            Self::Shared => "shared",
        }
    }
}

/// A process on a machine. A process id alone is reused; with its start time it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerId {
    host: String,
    pid: u32,
    started: u64,
}

impl OwnerId {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            host: machine(),
            pid,
            started: start_time(pid).unwrap_or(0),
        }
    }

    /// Reads what [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let started = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let host = parts.next()?.to_owned();
        Some(Self { host, pid, started })
    }

    /// `Some(false)` when the process is known to be gone; `None` when it lived on another machine, where only
    /// its expiry can tell.
    pub fn is_alive(&self) -> Option<bool> {
        (self.host == machine()).then(|| start_time(self.pid) == Some(self.started))
    }
}

/// Part of the name of a folder that only one process uses, so that it is marked in the moment in which it is made.
impl OwnerId {
    /// Letters, digits and two hyphens.
    pub fn in_a_name(&self) -> String {
        let host = crate::digest::sha256(&self.host);
        let host: String = host
            .trim_start_matches("sha256:")
            .chars()
            .take(16)
            .collect();
        format!("{host}-{}-{}", self.pid, self.started)
    }

    /// True where the process that a name was made for is known to be gone. What may have lived on another machine, or
    /// on this one before it was started anew, is not known here.
    pub fn is_gone_by_name(name: &str) -> bool {
        let mut parts = name.splitn(3, '-');
        let (Some(_), Some(pid), Some(started)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let (Ok(pid), Ok(started)) = (pid.parse(), started.parse()) else {
            return false;
        };
        let owner = Self {
            host: machine(),
            pid,
            started,
        };
        owner.in_a_name() == name && owner.is_alive() == Some(false)
    }
}

impl std::fmt::Display for OwnerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.host, self.pid, self.started)
    }
}

/// The boot id and the process-id namespace: two containers on one machine do not see each other's processes,
/// and after a reboot every process is gone.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let digits: String = namespace.chars().filter(char::is_ascii_digit).collect();
    format!("{}/{}/{digits}", host.trim(), boot.trim())
}

/// Field 22 of `/proc/PID/stat`, in clock ticks after boot (proc(5)). The second field may hold spaces and
/// brackets, so fields are counted from its last bracket.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // A zombie has ended: what it owned is nobody's.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The labels of one run.
#[derive(Clone, Debug)]
pub struct Labels {
    run: String,
    part: Option<String>,
    rehearsal: String,
    owner: String,
    created: Timestamp,
    expires: Timestamp,
}

impl Labels {
    /// For a run owned by this process.
    pub fn new(run: &str, rehearsal: &str, created: Timestamp, expires: Timestamp) -> Self {
        Self {
            run: run.to_owned(),
            part: None,
            rehearsal: rehearsal.to_owned(),
            owner: OwnerId::current().to_string(),
            created,
            expires,
        }
    }

    /// For one part of the same run, which can be removed by itself.
    pub fn part(&self, part: &str) -> Self {
        Self {
            part: Some(part.to_owned()),
            ..self.clone()
        }
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// As the engine wants them.
    pub fn of(&self, purpose: Purpose) -> HashMap<String, String> {
        let mut labels = HashMap::from([
            (PURPOSE.to_owned(), purpose.name().to_owned()),
            (REHEARSAL.to_owned(), self.rehearsal.clone()),
            (CREATED.to_owned(), self.created.to_string()),
        ]);
        match purpose {
            Purpose::Run => {
                labels.insert(RUN.to_owned(), self.run.clone());
                if let Some(part) = &self.part {
                    labels.insert(PART.to_owned(), part.clone());
                }
                labels.insert(OWNER.to_owned(), self.owner.clone());
                labels.insert(EXPIRES.to_owned(), self.expires.to_string());
            }
            // A base outlives its run, but until it is sealed somebody must be known to be at work on it.
            Purpose::Base => {
                labels.insert(BASE_RUN.to_owned(), self.run.clone());
                labels.insert(OWNER.to_owned(), self.owner.clone());
                labels.insert(EXPIRES.to_owned(), self.expires.to_string());
            }
            Purpose::Shared => {}
        }
        labels
    }
}

/// True where whoever made a resource is known to be gone, or had until a time that is over.
pub fn is_dead(labels: &HashMap<String, String>, now: Timestamp) -> bool {
    let expired = labels
        .get(EXPIRES)
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_none_or(|expires| expires < now);
    let owner_gone = labels
        .get(OWNER)
        .and_then(|text| OwnerId::parse(text))
        .and_then(|owner| owner.is_alive())
        == Some(false);
    expired || owner_gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_later_namesake_is_not_it() {
        let me = OwnerId::current();
        let read = OwnerId::parse(&me.to_string()).expect("what was written can be read");
        assert_eq!(read, me);
        assert_eq!(read.is_alive(), Some(true));
        let namesake = OwnerId {
            started: me.started + 1,
            ..me
        };
        assert_eq!(namesake.is_alive(), Some(false));
    }

    #[test]
    fn a_name_tells_whether_its_process_is_gone() {
        let me = OwnerId::current();
        let gone = OwnerId {
            started: me.started + 1,
            ..me.clone()
        };
        let elsewhere = OwnerId {
            host: "elsewhere/boot/1".to_owned(),
            ..gone.clone()
        };
        for (name, expected) in [
            (me.in_a_name(), false),
            (gone.in_a_name(), true),
            (elsewhere.in_a_name(), false),
            ("x".to_owned(), false),
            (format!("{}-x", gone.in_a_name()), false),
        ] {
            assert_eq!(OwnerId::is_gone_by_name(&name), expected, "{name}");
        }
    }

    #[test]
    fn dead_is_only_what_is_known_to_be() {
        let labels = |owner: &OwnerId, expires: &str| {
            HashMap::from([
                (OWNER.to_owned(), owner.to_string()),
                (EXPIRES.to_owned(), expires.to_owned()),
            ])
        };
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let me = OwnerId::current();
        let gone = OwnerId::parse(&format!("{me}9")).expect("well formed");
        let elsewhere = OwnerId::parse("elsewhere/boot/1:2:3").expect("well formed");
        let later = "2026-01-03T00:00:00Z";
        let earlier = "2026-01-01T00:00:00Z";
        for (owner, expires, dead) in [
            (&me, later, false),
            (&me, earlier, true),
            (&gone, later, true),
            (&elsewhere, later, false),
            (&elsewhere, earlier, true),
            (&elsewhere, "nonsense", true),
        ] {
            assert_eq!(
                is_dead(&labels(owner, expires), now),
                dead,
                "{owner} {expires}"
            );
        }
    }

    #[test]
    fn a_process_of_another_machine_is_unknown() {
        let other = OwnerId::parse("elsewhere/boot/1:12:34").expect("well formed");
        assert_eq!(other.is_alive(), None);
        assert_eq!(OwnerId::parse("12:34"), None);
        assert_eq!(OwnerId::parse("host:x:34"), None);
    }
}
