//! What the run and its agent say to each other: JSON lines over an attached exec.
//!
//! The run starts one `agent work` in the agent's container and writes one [`Request`] a line to its standard
//! input; the agent works on all of them at once and writes one [`Reply`] a line in the order in which they end.
//! End of input ends the agent.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::availability::{Tally, Target};
use crate::check::model::{Observation, Probe, Received, Unseen};
use crate::plan::model::Route;

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the reply.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// `http`, `tcp` or `sql` of a test plan.
    Probe(Probe),
    /// Tries to connect again and again until it succeeds or `patience` is over.
    AwaitTcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// From now.
        patience: Duration,
    },
    /// Tries once to reach something that should be out of reach.
    Reach(Reach),
    /// The agent's own network, as the kernel sees it.
    Network,
    /// Begins to ask these again and again. The reply comes when each has answered once, or has not within its time; its
    /// id is what the watch is called, and its time is that since the watch began.
    Watch(Watch),
    /// Ends a watch, by its name, after one more round that begins now.
    Watched(u64),
}

/// What is to be asked again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Each at its own pace.
    pub targets: Vec<Target>,
    /// Until then each must have answered once.
    pub patience: Duration,
    /// A target that is away when the watch is to end is asked on until it is there, at most for this long..
    pub linger: Duration,
    /// .. and only while it has been away for no longer than this in all.
    pub allowed: Duration,
    /// The watch ends by itself after this, if nobody ends it.
    pub most: Duration,
}

/// One try to get out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// A TCP connection. Any accepted connection counts, whoever accepted it; what the peer says first is told.
    Tcp {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// For all of it.
        timeout: Duration,
    },
    /// A datagram to this address that wants an answer (for port 53, a DNS question; a beacon answers both). Any
    /// answer counts, and so does the refusal of a host on which nobody listens.
    Udp {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// For all of it.
        timeout: Duration,
    },
    /// A name looked up through the container's own resolver (`/etc/resolv.conf`).
    Name {
        /// The name.
        name: String,
        /// For all of it.
        timeout: Duration,
    },
    /// A name looked up and, where it resolves, a TCP connection to it: a `forbidden:` entry.
    Host {
        /// Name or address.
        host: String,
        /// The ports to try.
        ports: Vec<u16>,
        /// For all of it.
        timeout: Duration,
    },
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// What came of it.
    pub answer: Answer,
    /// How long it took, measured inside.
    pub elapsed: Duration,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To `Probe`.
    Seen(Result<Observation, Unseen>),
    /// To `AwaitTcp`: `Err` is the last try's error.
    Connected(Result<(), String>),
    /// To `Reach`.
    Reached(Reached),
    /// To `Network`.
    Network(NetworkFacts),
    /// To `Watch`: of each target whether it answered, else what was seen at last; then nothing is watched.
    Watching(Vec<Result<(), String>>),
    /// To `Watched`: of each target what its answers add up to.
    Watched(Vec<Tally>),
    /// The request could not be read.
    Refused(String),
}

/// What came of a try to get out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// Something answered: a hole (or, in the control, what it should be). What answered.
    Yes(String),
    /// Nothing answered, and why: `network is unreachable`, `timed out after 1 s`, `no such name`. A refused
    /// connection is `Yes`: a host sent the refusal.
    No(String),
    /// The try itself went wrong, so it shows nothing.
    Inconclusive(String),
}

/// A folder in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// `sha256:<hex>` over sorted paths, kinds, permissions, owners, link targets and contents; `outline sha256:<hex>`
    /// with sizes and times of modification in place of contents.
    pub digest: String,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a folder looks like from outside: all that shows whether it was touched, without reading its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// `sha256:<hex>` over paths, kinds, permissions, owners, sizes, times of modification and change, link targets.
    pub stamp: String,
    /// Files.
    pub files: u64,
    /// Their bytes, as long as they say they are.
    pub bytes: u64,
    /// Bytes on disk, folders included; a file of several names counts once.
    pub disk: u64,
}

/// The agent's own network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// Addresses of all interfaces but the loopback's.
    pub addresses: Vec<IpAddr>,
    /// Gateways of all routes (IPv4 and IPv6).
    pub gateways: Vec<IpAddr>,
    /// True where a default route exists. That is no hole by itself: on engine 20.10 it leads to an address that
    /// nobody has.
    pub default_route: bool,
    /// True where somebody who calls an outside address can be heard to look for the way out ([`CalledOut`]).
    #[serde(default)]
    pub hears_calls: bool,
}

/// A line on the standard output of `agent serve`: a question that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedName {
    /// The name that was asked for, without the final dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV` and so on.
    pub kind: String,
    /// The asking container's address.
    pub asker: IpAddr,
}

/// What an emulator does: the file that is put into its container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emulation {
    /// Answers HTTP.
    Http {
        /// Ports without TLS.
        ports: Vec<u16>,
        /// Ports with TLS.
        tls: Vec<u16>,
        /// Certificates and key in PEM, where there are ports with TLS.
        identity: Option<Identity>,
        /// The first that fits answers. Files are those of the container.
        routes: Vec<Route>,
    },
    /// Takes mail.
    Smtp {
        /// TCP ports.
        ports: Vec<u16>,
        /// How it calls itself.
        host: String,
        /// Who may be written to.
        accept: Vec<String>,
    },
    /// Lets connections hang.
    Blackhole {
        /// TCP ports.
        ports: Vec<u16>,
    },
}

/// What a server of TLS shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its certificate and those above it, in PEM.
    pub certificates: String,
    /// Its key, in PEM.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A line on the standard output of `agent emulate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmulatorLine {
    /// It listens; the first line.
    Listening {
        /// Why it does not hear who calls a port on which it does not listen.
        deaf: Option<String>,
    },
    /// It was asked by SIGUSR1 for how far it has come: everything that was answered before stands above.
    Marked {
        /// From 1.
        mark: u64,
        /// How much it has received so far: so many lines stand above.
        received: u64,
    },
    /// It received something, written before it is answered.
    Received(Box<Received>),
}

/// A line on the standard output of `agent serve`: somebody looked for the way out of the network, and there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledOut {
    /// The address of the way out.
    pub way_out: IpAddr,
    /// The calling container's address.
    pub caller: IpAddr,
}
