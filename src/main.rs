//! Arguments in, exit code out.

use std::process::ExitCode;

use rehearsal::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse_or_usage(std::env::args_os()) {
        Err(code) => code,
        Ok(cli) => match cli.command {
            Command::Run(arguments) => rehearsal::cli::run::main(&arguments),
            Command::BackupCheck(arguments) => rehearsal::cli::backup_check::main(&arguments),
            Command::Gate(arguments) => rehearsal::cli::gate::main(&arguments),
            Command::History(arguments) => rehearsal::cli::history::main(&arguments),
            Command::Check(arguments) => rehearsal::cli::check::main(&arguments),
            Command::Package(arguments) => rehearsal::cli::package::main(&arguments),
            Command::Demo(arguments) => rehearsal::cli::demo::main(&arguments),
            Command::Manifest(arguments) => rehearsal::cli::manifest::main(&arguments),
            Command::Bases(arguments) => rehearsal::cli::bases::main(&arguments),
            Command::Ls(arguments) => rehearsal::cli::ls::main(&arguments),
            Command::Show(arguments) => rehearsal::cli::show::main(&arguments),
            Command::Logs(arguments) => rehearsal::cli::logs::main(&arguments),
            Command::Open(arguments) => rehearsal::cli::open::main(&arguments),
            Command::Retry(arguments) => rehearsal::cli::retry::main(&arguments),
            Command::Down(arguments) => rehearsal::cli::down::main(&arguments),
            Command::Sweep(arguments) => rehearsal::cli::sweep::main(&arguments),
            Command::Agent { command } => rehearsal::agent::run(command),
        },
    }
}
