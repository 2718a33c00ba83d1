//! Files that the database names.

use super::examine::Scene;
use crate::check::ladder::Seen;
use crate::restore::{Subject, files};
use crate::staging::Bad;

/// Each file that the rehearsal's query names is in its volume.
pub(super) async fn judge(scene: &Scene<'_>, subject: Subject<'_>) -> Result<Seen, Bad> {
    let (Some(named), Some(server)) = (&scene.restore.demands.files, subject.server) else {
        return Ok(Seen::Skipped("the rehearsal says no `files:`".into()));
    };
    // The union names the column, whatever the query calls it; hexadecimal, because the client would escape some
    // characters. A row of NULL names no file.
    let query = format!(
        "select hex(convert(path using utf8mb4)) from (select '' as path from dual where 1 = 0 union all ({})) named where \
         path is not null",
        named.query.trim().trim_end_matches(';')
    );
    let text = scene
        .ask
        .answer(scene.asked(), &query)
        .await
        .map_err(|bad| match bad.help {
            Some(_) => bad,
            None => bad.with_help("`files.query` has to be one select of one path a row"),
        })?;
    let paths = files::from_hex(&text)?;
    let image = &server.blueprint.facts.id;
    let deadline = scene.ask.tool.deadline;
    files::look_for(subject, image, deadline, named, paths).await
}
