//! PostgreSQL: dumps by `pg_restore` and `psql`, base backups and repositories by recovery, and what is asked of the
//! server afterwards.

mod ask;
mod base;
mod cluster;
mod data_folder;
mod dump;
mod examine;
mod pgbackrest;
mod physical;
mod progress;
mod recovery;
mod remedy;
mod said;
mod segment;
mod settings;
mod version;

use std::collections::BTreeMap;

pub(crate) use ask::{Ask, environment};
pub use examine::{at_rest, examine};

use super::{Job, Made, Site};
use crate::engine::VolumeFacts;
use crate::plan::model::Method;
use crate::staging::{Bad, Blueprint};

const PORT: u16 = 5432;

/// Restores backups into the empty volumes of a service that is a PostgreSQL server.
///
/// # Errors
/// What went wrong besides the backups: the service did not start or stop.
pub async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    match jobs.first().map(|job| &job.restore.method) {
        Some(Method::PostgresBaseBackup { .. } | Method::PgBackRest { .. }) => {
            physical::restore(site, blueprint, volumes, jobs).await
        }
        _ => dump::restore(site, blueprint, volumes, jobs).await,
    }
}
