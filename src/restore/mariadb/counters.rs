//! Counters: AUTO_INCREMENT, and MariaDB's sequences.

use super::ask::{literal, quoted};
use super::examine::Scene;
use super::tables::Kind;
use crate::check::ladder::Seen;
use crate::event::Owner;
use crate::staging::Bad;

/// A counter and the columns that it numbers.
struct Counter {
    name: String,
    /// The next number that it gives.
    next: i128,
}

/// Every counter is past what it has to be past: the largest number in its column, and the source's.
pub(super) async fn judge(scene: &Scene<'_>) -> Result<Seen, Bad> {
    if scene.databases.is_empty() {
        return Ok(Seen::Skipped("there is no database".into()));
    }
    let mut wrong = Vec::new();
    let (columns, exhausted) = columns(scene, &mut wrong).await?;
    let sequences = sequences(scene, &mut wrong).await?;
    for counter in columns.iter().chain(&sequences) {
        if let Some(last) = recorded(scene, &counter.name)
            && counter.next <= i128::from(last)
        {
            wrong.push(format!(
                "`{}` gives {} next, the source had given {last}",
                counter.name, counter.next
            ));
        }
    }
    if !wrong.is_empty() {
        return Ok(Seen::Broken(wrong.join("; ")));
    }
    let (columns, sequences) = (columns.len(), sequences.len());
    if columns + sequences + exhausted.len() == 0 {
        return Ok(Seen::Skipped(
            "there is no AUTO_INCREMENT and no sequence".into(),
        ));
    }
    let mut figure = format!("{columns} AUTO_INCREMENT columns, {sequences} sequences");
    if !exhausted.is_empty() {
        figure = format!(
            "{figure}; has no number left, as at its source: {}",
            exhausted.join(", ")
        );
    }
    Ok(Seen::Holds(Some(figure)))
}

/// The last number that a counter had given at the source: `database.counter`.
fn recorded(scene: &Scene<'_>, name: &str) -> Option<i64> {
    let (database, counter) = name.split_once('.')?;
    let facts = scene.paired.as_ref()?.of(database)?;
    *facts.sequences.get(counter)?
}

/// AUTO_INCREMENT: the tables' counters, and those that are at the end of their type.
async fn columns(
    scene: &Scene<'_>,
    wrong: &mut Vec<String>,
) -> Result<(Vec<Counter>, Vec<String>), Bad> {
    let query = format!(
        "select t.table_schema, t.table_name, c.column_name, c.column_type, t.auto_increment from information_schema.tables t \
         join information_schema.columns c on c.table_schema = t.table_schema and c.table_name = t.table_name where \
         t.table_schema in ({}) and t.auto_increment is not null and c.extra like '%auto_increment%' order by 1, 2",
        scene.list()
    );
    // MySQL 8 answers with numbers of yesterday otherwise; MariaDB does not know the variable.
    let fresh = "set session information_schema_stats_expiry = 0";
    let prefix = match scene.ask.run(None, fresh).await? {
        Ok(_) => format!("{fresh}; "),
        Err(_) => String::new(),
    };
    let text = scene
        .ask
        .text(None, &format!("{prefix}{query}"), Owner::Staging)
        .await?;
    let found: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .filter(|columns: &Vec<&str>| columns.len() == 5)
        .collect();
    let maxima: Vec<String> = found
        .iter()
        .map(|f| {
            format!(
                "select coalesce(max({}), 0) from {}.{}",
                quoted(f[2]),
                quoted(f[0]),
                quoted(f[1])
            )
        })
        .collect();
    let (maxima, fault) = scene.ask.run_all(&maxima).await?;
    if let Some(fault) = fault {
        return Err(scene.ask.blame(&fault, Owner::Backup).await);
    }
    let (mut counters, mut exhausted) = (Vec::new(), Vec::new());
    for (f, max) in found.iter().zip(&maxima) {
        let name = format!("{}.{}", f[0], f[1]);
        let (next, max) = (number(f[4])?, number(max)?);
        if next > max {
            counters.push(Counter { name, next });
        } else if largest(f[3]).is_some_and(|largest| max >= largest) {
            exhausted.push(name);
        } else {
            wrong.push(format!(
                "AUTO_INCREMENT of `{name}` is {next}, its column `{}` goes up to {max}",
                f[2]
            ));
        }
    }
    Ok((counters, exhausted))
}

/// Sequences that number a column by its default.
async fn sequences(scene: &Scene<'_>, wrong: &mut Vec<String>) -> Result<Vec<Counter>, Bad> {
    let mut counters = Vec::new();
    for sequence in scene.of(Kind::Sequence) {
        let name = sequence.plain();
        let row = format!(
            "select next_not_cached_value, increment from {}",
            sequence.quoted()
        );
        let row = scene.ask.text(None, &row, Owner::Backup).await?;
        let (next, step) = row.split_once('\t').unwrap_or((row.as_str(), "1"));
        let (next, step) = (number(next)?, number(step)?);
        let default = format!(
            "%nextval({}.{})%",
            quoted(&sequence.database),
            quoted(&sequence.name)
        );
        let users = format!(
            "select table_schema, table_name, column_name from information_schema.columns where table_schema in ({}) and \
             column_default like {}",
            scene.list(),
            literal(&default.replace('_', "\\_"))
        );
        let users = scene.ask.text(None, &users, Owner::Staging).await?;
        for user in users.lines() {
            let parts: Vec<&str> = user.split('\t').collect();
            let [database, table, column] = parts.as_slice() else {
                continue;
            };
            let outmost = if step < 0 { "min" } else { "max" };
            let query = format!(
                "select coalesce({outmost}({}), 'none') from {}.{}",
                quoted(column),
                quoted(database),
                quoted(table)
            );
            let seen = scene.ask.text(None, &query, Owner::Backup).await?;
            if seen.trim() == "none" {
                continue;
            }
            let seen = number(&seen)?;
            let past = if step < 0 { next < seen } else { next > seen };
            if !past {
                wrong.push(format!(
                    "sequence `{name}` gives {next} next, its column `{database}.{table}.{column}` has {seen}"
                ));
            }
        }
        counters.push(Counter { name, next });
    }
    Ok(counters)
}

fn number(text: &str) -> Result<i128, Bad> {
    // A column of a floating type may number rows as well.
    let whole = text.trim().split('.').next().unwrap_or_default();
    whole.parse().map_err(|_| {
        Bad::new(
            Owner::Staging,
            format!("the server gave `{text}` instead of a number"),
        )
    })
}

/// The largest number of a column's type: `int(10) unsigned`.
fn largest(column_type: &str) -> Option<i128> {
    let bits = match column_type.split(['(', ' ']).next()? {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "bigint" => 64,
        _ => return None,
    };
    let bits = if column_type.contains("unsigned") {
        bits
    } else {
        bits - 1
    };
    Some((1_i128 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn types_end_where_mariadb_says() {
        assert_eq!(largest("tinyint(4)"), Some(127));
        assert_eq!(largest("mediumint(8) unsigned"), Some(16_777_215));
        assert_eq!(
            largest("bigint(20) unsigned"),
            Some(18_446_744_073_709_551_615)
        );
        assert_eq!(largest("double"), None);
    }
}
