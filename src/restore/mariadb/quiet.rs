//! Keeps what was restored from acting by itself: events and replication.
//!
//! Staging's network is isolated, so nothing could be reached anyway; this keeps data as the backup has it.

use super::Ask;
use super::ask::literal;
use crate::event::Owner;
use crate::staging::Bad;

/// Options that do the same for a server that starts on a restored data folder.
pub(super) const OPTIONS: [&str; 2] = ["--skip-slave-start", "--event-scheduler=OFF"];

/// Stops the event scheduler of this server, where it runs. It is a setting of the running server only.
///
/// # Errors
/// When the account may not do so.
pub(super) async fn events(ask: &Ask<'_>) -> Result<(), Bad> {
    let seen = ask
        .text(None, "select @@global.event_scheduler", Owner::Staging)
        .await?;
    if seen.trim() == "ON" {
        let off = "set global event_scheduler = OFF";
        ask.text(None, off, Owner::Staging).await?;
    }
    Ok(())
}

/// Takes away the replication that a dump set up (`--dump-slave`, `--master-data`): it would start with the server. Gives
/// how many there were.
///
/// # Errors
/// When the server refuses.
pub(super) async fn replication(ask: &Ask<'_>) -> Result<usize, Bad> {
    // MySQL does not know the statement; from version 8.4 on it does not know the other either.
    let version = ask.text(None, "select version()", Owner::Staging).await?;
    if !version.to_lowercase().contains("mariadb") {
        return Ok(0);
    }
    let seen = ask
        .text(None, "show all slaves status", Owner::Staging)
        .await?;
    let names: Vec<&str> = seen
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split('\t').next().unwrap_or_default())
        .collect();
    for name in &names {
        let name = literal(name);
        let reset = format!("stop slave {name}; reset slave {name} all");
        ask.text(None, &reset, Owner::Staging).await?;
    }
    Ok(names.len())
}
