//! Questions to a Redis server, by the `redis-cli` of its own image.

use std::collections::BTreeMap;

use crate::event::Owner;
use crate::restore::Toolbox;
use crate::staging::{Bad, Blueprint};

/// Waits while the server reads its files. Nothing tells when it has read them but its own answer.
const LOADED: &str = r#"
while :; do
  answer=$(redis-cli INFO persistence)
  if printf '%s\n' "$answer" | grep -q '^loading:0'; then exit 0; fi
  printf '%s\n' "$answer" | grep -q '^loading:1' || { printf '%s\n' "$answer" >&2; exit 1; }
  sleep 0.1
done
"#;

/// The owner of the server's process, which may have dropped root's rights since its start.
const OWNER: &str = r#"
pid=$(redis-cli INFO server | tr -d '\r' | sed -n 's/^process_id://p')
sed -n 's/^[UG]id:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status"
"#;

/// Where and how a server keeps its data, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) dir: String,
    pub(super) dbfilename: String,
    pub(super) appendonly: bool,
    pub(super) appendfilename: String,
    /// Redis 7 and later.
    pub(super) appenddirname: Option<String>,
    /// `uid:gid` of the server's process.
    pub(super) owner: String,
    pub(super) version: String,
}

impl Settings {
    /// The first number of the server's version; 0 where it says none.
    pub(super) fn major(&self) -> u32 {
        major(&self.version).unwrap_or(0)
    }
}

/// The first number of a version.
pub(super) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Keys and those of them that expire, by the database's name: `db0`.
pub(super) type Keyspace = BTreeMap<String, (u64, u64)>;

/// Reads `INFO keyspace`, and what [`written`] wrote.
pub(super) fn keyspace(text: &str) -> Keyspace {
    text.split_whitespace()
        .filter_map(|line| {
            let (name, values) = line.split_once(':')?;
            let value = |key: &str| {
                values
                    .split(',')
                    .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
            };
            Some((name.to_owned(), (value("keys")?, value("expires")?)))
        })
        .collect()
}

/// In the form of `INFO keyspace`.
pub(super) fn written(keyspace: &Keyspace) -> String {
    let databases: Vec<String> = keyspace
        .iter()
        .map(|(name, (keys, expires))| format!("{name}:keys={keys},expires={expires}"))
        .collect();
    databases.join(" ")
}

/// A line of `INFO`.
pub(super) fn info<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.trim_end().strip_prefix(key)?.strip_prefix(':'))
}

/// The passwords that the stack names, in the forms that images take them in; none comes first where there is none.
fn passwords(blueprint: &Blueprint) -> Vec<String> {
    let service = &blueprint.service;
    let words = || {
        let parts = service.command.iter().chain(&service.entrypoint).flatten();
        parts.flat_map(|part| part.split_whitespace().map(unquoted))
    };
    let mut found: Vec<String> = words()
        .zip(words().skip(1))
        .filter(|(option, _)| option == "--requirepass")
        .map(|(_, password)| password)
        .collect();
    for name in ["REDISCLI_AUTH", "REDIS_PASSWORD", "REDIS_REQUIREPASS"] {
        found.extend(service.environment.get(name).cloned());
    }
    for file in &service.files {
        // A folder of settings and files that are no text hold no password that can be read here.
        let Ok(text) = std::fs::read_to_string(&file.source) else {
            continue;
        };
        let lines = text.lines().filter_map(|line| {
            line.trim_start()
                .strip_prefix("requirepass")?
                .strip_prefix([' ', '\t'])
        });
        found.extend(lines.map(unquoted));
    }
    found.retain(|password| !password.is_empty());
    if found.is_empty() {
        found.push(String::new());
    }
    found
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

/// Finds the password with which the server answers, for all that is asked afterwards.
///
/// # Errors
/// Where it answers with none of those that the stack names.
pub(super) async fn log_in(tool: &mut Toolbox<'_>, blueprint: &Blueprint) -> Result<(), Bad> {
    let mut said = String::new();
    for password in passwords(blueprint) {
        tool.environment.clear();
        if !password.is_empty() {
            tool.environment
                .insert("REDISCLI_AUTH".to_owned(), password);
        }
        let answer = tool.must(&["redis-cli", "PING"], Owner::Staging).await?;
        said = answer.stdout.trim().to_owned();
        if said == "PONG" || said.starts_with("LOADING") {
            return Ok(());
        }
    }
    Err(Bad::new(
        Owner::Staging,
        format!("{}: the server does not let us in: {said}", tool.source),
    )
    .with_help(
        "its password is looked for in `--requirepass` of the service's command, in REDISCLI_AUTH and REDIS_PASSWORD of its \
         environment, and in the settings files that the stack mounts",
    ))
}

/// The answer to a command. `redis-cli` ends with 0 whatever the server says, so `right` judges the answer.
///
/// # Errors
/// With what the server said, and the stack or staging at fault.
pub(super) async fn answer(
    tool: &Toolbox<'_>,
    command: &[&str],
    right: impl Fn(&str) -> bool,
) -> Result<String, Bad> {
    let mut all = vec!["redis-cli"];
    all.extend(command);
    let said = tool.must(&all, Owner::Staging).await?.stdout;
    if right(&said) {
        return Ok(said);
    }
    Err(Bad::new(
        Owner::Staging,
        format!(
            "{}: `{}` was answered by: {}",
            tool.source,
            command.join(" "),
            said.trim()
        ),
    ))
}

/// A section of `INFO`.
pub(super) async fn section(tool: &Toolbox<'_>, name: &str) -> Result<String, Bad> {
    answer(tool, &["INFO", name], |said| said.starts_with("# ")).await
}

/// Asks where and how the server keeps its data.
pub(super) async fn settings(tool: &Toolbox<'_>) -> Result<Settings, Bad> {
    let value = async |key: &'static str| -> Result<Option<String>, Bad> {
        let said = answer(tool, &["CONFIG", "GET", key], |said| {
            said.trim().is_empty() || said.lines().next() == Some(key)
        })
        .await
        .map_err(|bad| Bad {
            owner: Owner::Stack,
            ..bad.with_help("rehearse asks the server with CONFIG GET where it keeps its data")
        })?;
        Ok(said.lines().nth(1).map(str::to_owned))
    };
    let owner = tool.script("id", OWNER, &[], Owner::Staging).await?;
    let ids: Vec<&str> = owner.stdout.split_whitespace().collect();
    let server = section(tool, "server").await?;
    Ok(Settings {
        dir: value("dir").await?.unwrap_or_default(),
        dbfilename: value("dbfilename").await?.unwrap_or_default(),
        appendonly: value("appendonly").await?.as_deref() == Some("yes"),
        appendfilename: value("appendfilename").await?.unwrap_or_default(),
        appenddirname: value("appenddirname").await?,
        owner: match ids.as_slice() {
            [uid, gid, ..] => format!("{uid}:{gid}"),
            _ => "0:0".to_owned(),
        },
        version: info(&server, "redis_version")
            .unwrap_or_default()
            .to_owned(),
    })
}

/// Waits until the server has read its files.
pub(super) async fn loaded(tool: &Toolbox<'_>) -> Result<(), Bad> {
    tool.script("redis-cli", LOADED, &[], Owner::Backup)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_info_says_is_read_and_written() {
        let text = "# Keyspace\r\ndb0:keys=1000000,expires=12,avg_ttl=0\r\ndb3:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n";
        let read = keyspace(text);
        assert_eq!(
            read,
            Keyspace::from([
                ("db0".to_owned(), (1_000_000, 12)),
                ("db3".to_owned(), (1, 0))
            ])
        );
        assert_eq!(keyspace(&written(&read)), read);
        let server = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(info(server, "redis_version"), Some("7.0.15"));
        assert_eq!(info(server, "redis"), None);
        assert_eq!(major("7.0.15"), Some(7));
    }
}
