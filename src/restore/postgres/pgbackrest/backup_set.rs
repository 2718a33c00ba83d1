//! The backup set that was restored, and what the repository says of it.

use super::{VOLUME, Wanted, judged};
use crate::event::Owner;
use crate::restore::Toolbox;
use crate::restore::postgres::data_folder::{Cluster, TABLESPACES};
use crate::staging::Bad;

/// The backup that was restored.
pub(super) struct BackupSet {
    pub(super) label: String,
    pub(super) archive: String,
    pub(super) start: String,
    pub(super) stop: String,
}

pub(super) async fn restore(
    tool: &Toolbox<'_>,
    cluster: &Cluster<'_>,
    wanted: &Wanted<'_>,
    restore: &str,
) -> Result<BackupSet, Bad> {
    let tablespaces = format!(
        "--tablespace-map-all={VOLUME}{}/{TABLESPACES}",
        cluster.volume.1
    );
    let target = wanted.time.map(|time| format!("--target={time}"));
    let mut command = vec![
        "pgbackrest",
        "--no-config",
        "--archive-mode=off",
        &tablespaces,
    ];
    if let Some(target) = &target {
        command.extend(["--type=time", target, "--target-action=promote"]);
    }
    command.push("restore");
    let outcome = tool.run(&command).await?;
    if outcome.exit_code != 0 {
        return Err(judged(tool, "pgbackrest restore", &outcome));
    }
    let label = outcome
        .stdout
        .lines()
        .find_map(|line| line.split_once("restore backup set "))
        .and_then(|(_, rest)| rest.split(|c: char| c == ',' || c.is_whitespace()).next())
        .unwrap_or_default();
    let info = tool
        .run(&["pgbackrest", "--no-config", "info", "--output=json"])
        .await?;
    if info.exit_code != 0 {
        return Err(judged(tool, "pgbackrest info", &info));
    }
    of_info(&info.stdout, label).ok_or_else(|| {
        Bad::new(
            Owner::Staging,
            format!("{restore}: `pgbackrest info` does not say where the WAL of backup set `{label}` begins"),
        )
        .with_help("name an image with production's version of pgBackRest with `image:`")
    })
}

/// A backup set in what `pgbackrest info --output=json` says.
fn of_info(json: &str, label: &str) -> Option<BackupSet> {
    let info: serde_json::Value = serde_json::from_str(json.trim()).ok()?;
    let stanza = info.get(0)?;
    let backup = stanza
        .get("backup")?
        .as_array()?
        .iter()
        .find(|backup| backup["label"] == label)?;
    let archive = stanza
        .get("archive")?
        .as_array()?
        .iter()
        .find(|archive| archive["database"]["id"] == backup["database"]["id"])?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Some(BackupSet {
        label: label.to_owned(),
        archive: text(&archive["id"])?,
        start: text(&backup["archive"]["start"])?,
        stop: text(&backup["archive"]["stop"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::of_info;

    #[test]
    fn a_set_is_found_in_what_the_tool_says() {
        // As pgBackRest 2.45 says it.
        let json = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000006","min":"000000010000000000000001"}],"backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000003"},"database":{"id":1,"repo-key":1},"label":"20261121-121751F"}],"name":"s"}]"#;
        let backup = of_info(json, "20261121-121751F").expect("it is there");
        assert_eq!(
            (
                backup.archive.as_str(),
                backup.start.as_str(),
                backup.stop.as_str()
            ),
            (
                "15-1",
                "000000010000000000000002",
                "000000010000000000000003"
            )
        );
        assert!(of_info(json, "another").is_none());
    }
}
