//! What runs inside the staging network: checks, resolver, traffic, and what is done to volumes.
//!
//! It is this very program, started as `rehearse agent <verb>` in an image in which there is nothing else: no
//! shell, no `/etc/passwd`, no certificates. So nothing here may depend on a file of a distribution. It may be
//! PID 1, for which the kernel has no default actions: SIGTERM ends every verb because [`run`] asks for it.

mod beacon;
mod changes;
mod copy;
mod emulate;
mod fault;
mod fingerprint;
mod layer;
mod lines;
mod names;
mod network;
mod probe;
pub mod protocol;
mod reach;
mod serve;
mod size;
mod stamp;
mod tree;
mod watch;
mod way_out;
mod work;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use protocol::Reach;

/// The exit code for arguments that make no sense.
const USAGE: u8 = 64;
/// The exit code of work that a signal broke off: 128 and SIGTERM's number, as a shell would say it.
const BROKEN_OFF: u8 = 143;

/// The verbs of `rehearse agent`.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentCommand {
    /// Answer every DNS question with a refusal and print it: the agent's main process.
    ///
    /// Listens on UDP and TCP port 53 of all addresses; says so in one line on standard error, then prints one
    /// `RefusedName` a line for each question.
    Serve,
    /// Answer requests, one JSON document a line, until the input ends.
    Work,
    /// Answer whoever gets through: the positive control of the isolate stage.
    ///
    /// Prints one line with what it listens on as soon as it does.
    Beacon {
        /// A TCP port; may be given again.
        #[arg(long)]
        tcp: Vec<u16>,
        /// A UDP port; may be given again.
        #[arg(long)]
        udp: Vec<u16>,
        /// The addresses to listen on [default: every IPv4 address of this machine].
        #[arg(long, num_args = 1..)]
        bind: Vec<IpAddr>,
        /// Seconds after which it ends by itself.
        #[arg(long = "for", default_value_t = 120)]
        seconds: u64,
    },
    /// Try to get out, once for each `Reach` given as JSON, and print one `Reached` a line.
    Reach {
        /// `{"tcp":{"address":"192.0.2.1","port":80,"timeout":{"secs":1,"nanos":0}}}`
        #[arg(required = true, value_parser = parse_reach)]
        tries: Vec<Reach>,
    },
    /// Stand in for a system outside, as CONFIG says, and print an `EmulatorLine` for each request.
    ///
    /// The first line says that it listens. SIGUSR1 asks for a line that stands below all that was answered before.
    Emulate {
        /// A JSON document: `Emulation`.
        config: PathBuf,
    },
    /// Wait for SIGTERM: the bastion's main process.
    Idle,
    /// Prepare copy-on-write branches: `upper` and `work` in each LAYER, as LOWER's own owner and permissions want them.
    Layer {
        /// LOWER LAYER, and so on in pairs.
        #[arg(required = true, num_args = 2.., value_names = ["LOWER", "LAYER"])]
        folders: Vec<PathBuf>,
    },
    /// Copy folders with everything in them, sharing their blocks where the file system can.
    Copy {
        /// FROM TO, and so on in pairs; each TO is empty, or still to be made.
        #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
        folders: Vec<PathBuf>,
    },
    /// Print what containers wrote to their own filesystems, one line a layer.
    Changes {
        /// The layers, as the engine keeps them.
        #[arg(required = true)]
        layers: Vec<PathBuf>,
    },
    /// Print one digest a folder: of its content, or where that is too much of its outline (names, sizes, times).
    Fingerprint {
        /// MOST FOLDER, and so on in pairs: up to how many bytes files are read, and an absolute path.
        #[arg(required = true, num_args = 2.., value_names = ["MOST", "FOLDER"])]
        folders: Vec<String>,
    },
    /// Print the digest of the package in a folder: a `Result<String, String>`.
    Digest {
        /// An absolute path.
        folder: PathBuf,
    },
    /// Print of each folder what shows whether it was touched, one `Result<Stamp, String>` a line.
    Stamp {
        /// Absolute paths.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
    /// Print what each folder takes up on disk.
    Size {
        /// Absolute paths.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
}

#[derive(Parser)]
#[command(
    name = "rehearse agent",
    bin_name = "rehearse agent",
    no_binary_name = true
)]
struct Arguments {
    #[command(subcommand)]
    command: AgentCommand,
}

/// Runs `rehearse agent`; `args` are the words after `agent`. Exit code 64 where they make no sense, else as [`run`].
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match Arguments::try_parse_from(args) {
        Ok(arguments) => run(arguments.command),
        Err(error) => {
            // There is nobody to tell when this cannot be written.
            let _ = error.print();
            match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            }
        }
    }
}

/// Runs one verb to its end: exit code 0, or 1 with one line on standard error. SIGTERM and SIGINT end it at once:
/// with 0 where waiting for them is the purpose, else with 143.
///
/// It starts an asynchronous runtime of its own, so it must not be called from within one.
pub fn run(command: AgentCommand) -> ExitCode {
    // Two threads whatever the machine: the agent waits, it does not compute.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            lines::complain(&format!("cannot start the agent's runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let waits = match &command {
        AgentCommand::Serve
        | AgentCommand::Idle
        | AgentCommand::Emulate { .. }
        | AgentCommand::Beacon { .. } => true,
        AgentCommand::Work
        | AgentCommand::Reach { .. }
        | AgentCommand::Layer { .. }
        | AgentCommand::Copy { .. }
        | AgentCommand::Changes { .. }
        | AgentCommand::Fingerprint { .. }
        | AgentCommand::Digest { .. }
        | AgentCommand::Stamp { .. }
        | AgentCommand::Size { .. } => false,
    };
    let code = runtime.block_on(async move {
        let (mut terminate, mut interrupt) = match (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                lines::complain(&format!("cannot listen for signals: {error}"));
                return 1;
            }
        };
        let asked = || if waits { 0 } else { BROKEN_OFF };
        tokio::select! {
            done = perform(command) => match done {
                Ok(()) => 0,
                Err(reason) => {
                    lines::complain(&reason);
                    1
                }
            },
            _ = terminate.recv() => asked(),
            _ = interrupt.recv() => asked(),
        }
    });
    // A blocked read of standard input must not hold up the end.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn perform(command: AgentCommand) -> Result<(), String> {
    match command {
        AgentCommand::Serve => serve::serve().await,
        AgentCommand::Work => work::work(tokio::io::stdin(), tokio::io::stdout()).await,
        AgentCommand::Beacon {
            tcp,
            udp,
            bind,
            seconds,
        } => beacon::beacon(&tcp, &udp, &bind, Duration::from_secs(seconds)).await,
        AgentCommand::Reach { tries } => {
            let tries = tries.iter().map(reach::reach);
            for reached in futures_util::future::join_all(tries).await {
                lines::print(&reached)?;
            }
            Ok(())
        }
        AgentCommand::Emulate { config } => emulate::emulate(&config).await,
        AgentCommand::Idle => std::future::pending().await,
        AgentCommand::Layer { folders } => blocking(move || layer::layer(&folders)).await,
        AgentCommand::Copy { folders } => {
            blocking(move || {
                for pair in folders.chunks(2) {
                    let [from, to] = pair else {
                        return Err("cannot copy: a folder without a target".to_owned());
                    };
                    lines::print(&copy::copy(from, to)?)?;
                }
                Ok(())
            })
            .await
        }
        AgentCommand::Fingerprint { folders } => {
            blocking(move || {
                let mut missing = Vec::new();
                for pair in folders.chunks(2) {
                    let [most, folder] = pair else {
                        return Err("cannot digest: a number without a folder".to_owned());
                    };
                    let most = most
                        .parse()
                        .map_err(|_| format!("`{most}` is not a number of bytes"))?;
                    let fingerprint = fingerprint::fingerprint(folder.as_ref(), most);
                    missing.extend(fingerprint.as_ref().err().cloned());
                    lines::print(&fingerprint)?;
                }
                match missing.is_empty() {
                    true => Ok(()),
                    false => Err(missing.join("; ")),
                }
            })
            .await
        }
        AgentCommand::Changes { layers } => blocking(move || changes::changes(&layers)).await,
        AgentCommand::Digest { folder } => {
            blocking(move || {
                let digest = crate::package::digest_of(&folder);
                lines::print(&digest.map_err(|error| error.to_string()))
            })
            .await
        }
        AgentCommand::Stamp { folders } => {
            // A folder that cannot be read is an answer too: the others are asked for all the same.
            blocking(move || {
                folders
                    .iter()
                    .try_for_each(|folder| lines::print(&stamp::stamp(folder)))
            })
            .await
        }
        AgentCommand::Size { folders } => blocking(move || size::size(&folders)).await,
    }
}

/// Work that waits for disks runs beside the runtime, so that a signal is still heard.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(format!("the agent's own mistake: {error}")))
}

fn parse_reach(text: &str) -> Result<Reach, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
