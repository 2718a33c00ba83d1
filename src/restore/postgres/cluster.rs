//! Roles and databases that a fresh server has already, because the service's image makes them, and that a dump of a
//! cluster makes too.

use std::collections::BTreeMap;

use postgres_protocol::password;

use super::Ask;
use crate::event::Owner;
use crate::plan::model::Restore;
use crate::staging::Bad;

/// The lines of a dump of a cluster that say what it makes. Rows of tables may look alike: then a role or database is
/// expected that does not come, which changes nothing.
const LOOK: &str = r#"grep -a -E '^(CREATE ROLE|DROP ROLE|CREATE DATABASE|-- Dumped from database version) ' "$1" | sort -u"#;

/// What a dump of a cluster makes, beside what is there already.
#[derive(Debug, Default)]
pub(super) struct Existing {
    /// Messages that come because the image was first; each may come once.
    pub(super) messages: Vec<String>,
    /// The version of the server that was dumped; globals do not say it.
    pub(super) server_version: Option<String>,
    /// Databases that the dump makes and that are there.
    databases: Vec<String>,
    /// The role that the image made, where the dump makes it too.
    role: Option<String>,
}

impl Existing {
    /// Looks into the dump and at the server, before anything is restored.
    pub(super) async fn look(
        ask: &Ask<'_>,
        file: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, Bad> {
        let command = ["/bin/sh", "-c", LOOK, "grep", file];
        let (_, lines) = ask.quietly(&command).await?;
        const ROLES: &str = "select to_json(rolname) from pg_catalog.pg_roles";
        const DATABASES: &str = "select to_json(datname) from pg_catalog.pg_database where not datistemplate \
             and datname <> 'postgres'";
        let roles: Vec<String> = ask.rows("postgres", ROLES, Owner::Staging).await?;
        let databases: Vec<String> = ask.rows("postgres", DATABASES, Owner::Staging).await?;
        let mut existing = Self::of(&lines, &roles, &databases, ask.user);
        let made = settings
            .get("POSTGRES_USER")
            .map_or("postgres", String::as_str);
        existing.role = roles.iter().find(|role| *role == made).cloned();
        Ok(existing)
    }

    fn of(lines: &[String], roles: &[String], databases: &[String], user: &str) -> Self {
        let mut existing = Self::default();
        for line in lines {
            if let Some(version) = line.strip_prefix("-- Dumped from database version ") {
                existing
                    .server_version
                    .get_or_insert_with(|| version.trim().to_owned());
            } else if let Some(name) = line.strip_prefix("CREATE ROLE ").and_then(first_name)
                && roles.contains(&name)
            {
                existing
                    .messages
                    .push(format!("role \"{name}\" already exists"));
            } else if let Some(name) = line.strip_prefix("CREATE DATABASE ").and_then(first_name)
                && databases.contains(&name)
            {
                existing.databases.push(name);
            } else if let Some(rest) = line.strip_prefix("DROP ROLE ")
                && first_name(rest.trim_start_matches("IF EXISTS ")).as_deref() == Some(user)
            {
                existing
                    .messages
                    .push("current user cannot be dropped".to_owned());
            }
        }
        existing
    }

    /// Drops the empty databases that the image made: the dump makes them as production has them.
    pub(super) async fn make_room(&self, ask: &Ask<'_>, restore: &str) -> Result<(), Bad> {
        for database in &self.databases {
            let tables = ask.tables(database).await?;
            if tables > 0 {
                return Err(Bad::new(
                    Owner::Stack,
                    format!(
                        "{restore}: the dump makes the database `{database}`, and the service has one with {tables} tables already"
                    ),
                )
                .with_help("the image's own scripts, or another restore, made it: leave one of them out"));
            }
            let drop = [
                "dropdb",
                "-w",
                "-U",
                ask.user,
                "--maintenance-db=postgres",
                database,
            ];
            ask.tool.must(&drop, Owner::Staging).await?;
        }
        Ok(())
    }

    /// Gives the role that the image made the stack's password again: the backup brought production's, and the stack's
    /// other services know only the stack's.
    pub(super) async fn keep_password(
        &self,
        ask: &Ask<'_>,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), Bad> {
        let (Some(role), Some(plain)) = (&self.role, settings.get("POSTGRES_PASSWORD")) else {
            return Ok(());
        };
        // The server may log what it is asked: it gets what it would store, and never the password. Before version 10 it
        // cannot store the better kind.
        let stored = if ask.version().await? >= 100_000 {
            password::scram_sha_256(plain.as_bytes())
        } else {
            password::md5(plain.as_bytes(), role)
        };
        const ALTER: &str = r#"psql -X -q -w -v ON_ERROR_STOP=1 -v role="$2" -v stored="$3" -U "$1" -d postgres <<'SQL'
alter role :"role" password :'stored';
SQL
"#;
        ask.tool
            .script("psql", ALTER, &[ask.user, role, &stored], Owner::Staging)
            .await?;
        Ok(())
    }
}

/// The first name of a statement, quoted or not.
fn first_name(rest: &str) -> Option<String> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([' ', ';'])?;
        return Some(rest[..end].to_owned());
    };
    let mut name = String::new();
    let mut letters = quoted.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if letters.peek() == Some(&'"') => {
                letters.next();
                name.push('"');
            }
            '"' => return Some(name),
            letter => name.push(letter),
        }
    }
    None
}

/// The database in which the rehearsal's queries about a whole server run.
///
/// # Errors
/// Where there are several and the rehearsal names none.
pub(super) fn asked<'a>(restore: &'a Restore, databases: &'a [String]) -> Result<&'a str, Bad> {
    if let Some(named) = &restore.demands.database {
        return Ok(named);
    }
    match databases {
        [one] => Ok(one),
        several => {
            let help = match restore.method {
                crate::plan::model::Method::PostgresDump { .. } => {
                    "ask by a test plan's `sql` tests, which name their database, or dump the databases apart"
                }
                _ => "add `database:`: it says where queries run",
            };
            Err(Bad::new(
                Owner::Staging,
                format!(
                    "{}: it is not known which of the databases {} the query is for",
                    restore.name,
                    several.join(", ")
                ),
            )
            .with_help(help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_already_is_expected_to_be_in_the_way() {
        let owned = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let lines = owned(&[
            "CREATE ROLE ledger;",
            "CREATE ROLE \"odd \"\"one\";",
            "CREATE ROLE reader;",
            "DROP ROLE IF EXISTS ledger;",
            "DROP ROLE reader;",
            "CREATE DATABASE site WITH TEMPLATE = template0 ENCODING = 'UTF8';",
            "CREATE DATABASE other WITH TEMPLATE = template0;",
            "-- Dumped from database version 15.14 (Debian 15.14-0+deb12u1)",
        ]);
        let existing = Existing::of(
            &lines,
            &owned(&["ledger", "odd \"one", "pg_monitor"]),
            &owned(&["site"]),
            "ledger",
        );
        assert_eq!(
            existing.messages,
            [
                "role \"ledger\" already exists",
                "role \"odd \"one\" already exists",
                "current user cannot be dropped"
            ]
        );
        assert_eq!(existing.databases, ["site"]);
        assert_eq!(
            existing.server_version.as_deref(),
            Some("15.14 (Debian 15.14-0+deb12u1)")
        );
    }
}
