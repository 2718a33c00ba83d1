//! MariaDB and MySQL: dumps by the client, `mariadb-backup` folders and streams by `--prepare`, and what is asked of the
//! server afterwards.

mod ask;
mod counters;
mod damage;
mod dump;
mod examine;
mod fault;
mod heard;
mod keys;
mod named;
mod pages;
mod physical;
mod quiet;
mod tables;
mod version;

use std::collections::BTreeMap;

pub(crate) use ask::Ask;
pub use examine::{at_rest, examine};

use super::{Job, Made, Site};
use crate::engine::VolumeFacts;
use crate::plan::model::Method;
use crate::staging::{Bad, Blueprint};

const PORT: u16 = 3306;

/// Restores backups into the empty volumes of a service that is a MariaDB or MySQL server.
///
/// # Errors
/// What went wrong besides the backups: the service did not start or stop.
pub async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    match jobs {
        [job] if matches!(job.restore.method, Method::MariadbBackup { .. }) => {
            physical::restore(site, blueprint, volumes, *job).await
        }
        _ => dump::restore(site, blueprint, volumes, jobs).await,
    }
}
