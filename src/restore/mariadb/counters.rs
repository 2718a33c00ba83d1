//! Counters: AUTO_INCREMENT, and MariaDB's sequences.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{literal, quoted};
use super::examine::Scene;
use super::tables::Kind;
use crate::check::ladder::Seen;
use crate::check::source::DatabaseFacts;
use crate::event::Owner;
use crate::staging::Bad;

/// A counter of what was restored.
#[derive(Clone, Debug)]
struct Counter {
    database: String,
    /// The table's or the sequence's name.
    name: String,
    /// The next number that it gives; `None` where the server does not say one.
    next: Option<i128>,
    /// The type of its column ends with this number, and the column has it: there is no next one.
    end: Option<i128>,
}

impl Counter {
    fn plain(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

/// Every counter is past what it has to be past: the largest number in its column, and the source's. None of the source's
/// is missing.
pub(super) async fn judge(scene: &Scene<'_>) -> Result<Seen, Bad> {
    if scene.databases.is_empty() {
        return Ok(Seen::Skipped("there is no database".into()));
    }
    let mut wrong = Vec::new();
    let columns = columns(scene, &mut wrong).await?;
    let sequences = sequences(scene, &mut wrong).await?;
    let all: Vec<&Counter> = columns.iter().chain(&sequences).collect();
    let beside = scene
        .databases
        .iter()
        .filter_map(|name| Some((name.as_str(), scene.paired.as_ref()?.of(name)?)))
        .collect();
    let compared = compare(&all, &beside);
    wrong.extend(compared.wrong);
    if !wrong.is_empty() {
        return Ok(Seen::Broken(wrong.join("; ")));
    }
    if !compared.unsaid.is_empty() {
        let unsaid = compared.unsaid.join(", ");
        return Ok(Seen::Unknown(
            format!("the server does not say which number these give next: {unsaid}"),
            None,
        ));
    }
    if all.is_empty() {
        return Ok(Seen::Skipped(
            "there is no AUTO_INCREMENT and no sequence".into(),
        ));
    }
    let mut figure = format!(
        "{} AUTO_INCREMENT columns, {} sequences",
        columns.len(),
        sequences.len()
    );
    for (names, says) in [
        (compared.as_there, "has no number left, as at its source"),
        (compared.exhausted, "has no number left"),
    ] {
        if !names.is_empty() {
            figure = format!("{figure}; {says}: {}", names.join(", "));
        }
    }
    Ok(Seen::Holds(Some(figure)))
}

/// The restored counters beside the source's.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    wrong: Vec<String>,
    /// They should be compared, and the server does not say where they are.
    unsaid: Vec<String>,
    /// Without a next number, as at the source.
    as_there: Vec<String>,
    /// Without a next number; how it was at the source is not recorded.
    exhausted: Vec<String>,
}

/// Compares by database: what the source recorded there.
fn compare(counters: &[&Counter], beside: &BTreeMap<&str, &DatabaseFacts>) -> Compared {
    let mut compared = Compared::default();
    let there: BTreeSet<(&str, &str)> = counters
        .iter()
        .map(|counter| (counter.database.as_str(), counter.name.as_str()))
        .collect();
    for (database, facts) in beside {
        let names = facts.sequences.keys();
        let lost = names.filter(|name| !there.contains(&(*database, name.as_str())));
        compared.wrong.extend(
            lost.map(|name| format!("the source's sequence `{database}.{name}` is not there")),
        );
    }
    for counter in counters {
        let name = counter.plain();
        let facts = beside.get(counter.database.as_str());
        let recorded = facts.and_then(|facts| facts.sequences.get(&counter.name));
        let last = recorded.copied().flatten().map(i128::from);
        match (counter.next, counter.end, last) {
            // The source's was at its end as well, whatever number its engine shows there.
            (_, Some(end), Some(last)) if last + 1 >= end => compared.as_there.push(name),
            (_, Some(_), Some(last)) => compared.wrong.push(format!(
                "`{name}` has no number left, the source had given {last}"
            )),
            // A manifest has no numbers beyond its own type, and says as little of those as of one that was never used.
            (Some(next), Some(_), None)
                if recorded.is_some() && (1..=i128::from(i64::MAX)).contains(&next) =>
            {
                compared.wrong.push(format!(
                    "`{name}` has no number left, the source's was never used"
                ));
            }
            (_, Some(_), None) => compared.exhausted.push(name),
            (None, None, Some(_)) => compared.unsaid.push(name),
            (Some(next), None, Some(last)) if next <= last => compared.wrong.push(format!(
                "`{name}` gives {next} next, the source had given {last}"
            )),
            (Some(_), None, Some(_)) | (_, None, None) => {}
        }
    }
    compared
}

/// AUTO_INCREMENT: the tables' counters, also those that are at the end of their type.
async fn columns(scene: &Scene<'_>, wrong: &mut Vec<String>) -> Result<Vec<Counter>, Bad> {
    let query = format!(
        "select t.table_schema, t.table_name, c.column_name, c.column_type, t.auto_increment from information_schema.tables t \
         join information_schema.columns c on c.table_schema = t.table_schema and c.table_name = t.table_name where \
         t.table_schema in ({}) and t.table_type not in ('VIEW', 'SYSTEM VIEW') and c.extra like '%auto_increment%' order by 1, 2",
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
    let mut counters: Vec<Counter> = Vec::new();
    let mut maxima = Vec::new();
    for f in &found {
        let next = match f[4] {
            // Such a table keeps its rows elsewhere, or has not been used: nothing more is asked of it.
            "NULL" => None,
            next => Some(number(next)?),
        };
        if next.is_some() {
            maxima.push(format!(
                "select coalesce(max({}), 0) from {}.{}",
                quoted(f[2]),
                quoted(f[0]),
                quoted(f[1])
            ));
        }
        counters.push(Counter {
            database: f[0].to_owned(),
            name: f[1].to_owned(),
            next,
            end: None,
        });
    }
    let (maxima, fault) = scene.ask.run_all(&maxima).await?;
    if let Some(fault) = fault {
        return Err(scene.ask.blame(&fault, Owner::Backup).await);
    }
    let asked = counters.iter_mut().zip(&found);
    let asked = asked.filter_map(|(counter, f)| Some((counter.next?, counter, f)));
    for ((next, counter, f), max) in asked.zip(&maxima) {
        let max = number(max)?;
        match standing(next, max, f[3]) {
            Standing::Past => {}
            Standing::AtTheEnd(end) => counter.end = Some(end),
            Standing::Behind => wrong.push(format!(
                "AUTO_INCREMENT of `{}` is {next}, its column `{}` goes up to {max}",
                counter.plain(),
                f[2]
            )),
        }
    }
    Ok(counters)
}

/// How a counter stands to the numbers in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Past,
    /// The column has the last number of its type.
    AtTheEnd(i128),
    Behind,
}

/// A counter at its end shows the last number of its type; one of 64 bits may have gone over it to 0.
fn standing(next: i128, max: i128, column_type: &str) -> Standing {
    if next > max {
        return Standing::Past;
    }
    match largest(column_type) {
        Some(end) if max >= end && (next >= end || next == 0) => Standing::AtTheEnd(end),
        Some(_) | None => Standing::Behind,
    }
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
        counters.push(Counter {
            database: sequence.database.clone(),
            name: sequence.name.clone(),
            next: Some(next),
            end: None,
        });
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
    use super::*;

    fn compared(
        counter: Option<(Option<i128>, Option<i128>)>,
        recorded: Option<Option<i64>>,
    ) -> Compared {
        let counter = counter.map(|(next, end)| Counter {
            database: "copy".to_owned(),
            name: "paper".to_owned(),
            next,
            end,
        });
        let facts = DatabaseFacts {
            sequences: recorded
                .map(|last| ("paper".to_owned(), last))
                .into_iter()
                .collect(),
            ..DatabaseFacts::default()
        };
        let counters: Vec<&Counter> = counter.iter().collect();
        compare(&counters, &BTreeMap::from([("copy", &facts)]))
    }

    #[test]
    fn a_counter_of_the_source_is_there_and_not_behind() {
        for (counter, recorded, wrong) in [
            (None, None, None),
            (None, Some(Some(7)), Some("`copy.paper` is not there")),
            (None, Some(None), Some("`copy.paper` is not there")),
            (Some((Some(8), None)), Some(Some(7)), None),
            (Some((Some(9), None)), Some(Some(7)), None),
            (
                Some((Some(7), None)),
                Some(Some(7)),
                Some("gives 7 next, the source had given 7"),
            ),
            (Some((Some(1), None)), Some(None), None),
            (Some((Some(1), None)), None, None),
            (Some((None, None)), Some(None), None),
            (
                Some((Some(127), Some(127))),
                Some(Some(50)),
                Some("has no number left, the source had given 50"),
            ),
            (
                Some((Some(127), Some(127))),
                Some(None),
                Some("has no number left, the source's was never used"),
            ),
        ] {
            let compared = compared(counter, recorded);
            let case = format!("{counter:?} {recorded:?}");
            assert_eq!(compared.wrong.len(), usize::from(wrong.is_some()), "{case}");
            assert!(
                compared.wrong.join("").contains(wrong.unwrap_or_default()),
                "{case}: {compared:?}"
            );
            assert!(compared.unsaid.is_empty(), "{case}");
            assert!(compared.as_there.is_empty(), "{case}");
            assert!(compared.exhausted.is_empty(), "{case}");
        }
        // Of the same name in a database that has no counterpart at the source nothing is known.
        let stray = Counter {
            database: "other".to_owned(),
            name: "paper".to_owned(),
            next: Some(1),
            end: None,
        };
        let facts = DatabaseFacts {
            sequences: [("paper".to_owned(), Some(7))].into(),
            ..DatabaseFacts::default()
        };
        let lost = compare(&[&stray], &BTreeMap::from([("copy", &facts)]));
        assert_eq!(
            lost.wrong,
            ["the source's sequence `copy.paper` is not there"]
        );
        // What cannot be told is not called well.
        assert_eq!(
            compared(Some((None, None)), Some(Some(7))).unsaid,
            ["copy.paper"]
        );
    }

    #[test]
    fn only_what_was_compared_is_as_at_its_source() {
        let beyond = i128::from(u64::MAX);
        for (counter, recorded, as_there) in [
            // InnoDB's counter stays at the last number, Aria's goes one over it.
            ((Some(127), Some(127)), Some(Some(126)), true),
            ((Some(127), Some(127)), Some(Some(127)), true),
            ((Some(127), Some(127)), None, false),
            ((Some(beyond), Some(beyond)), Some(None), false),
            ((Some(0), Some(beyond)), Some(None), false),
        ] {
            let compared = compared(Some(counter), recorded);
            assert_eq!(compared.wrong, Vec::<String>::new(), "{counter:?}");
            assert_eq!(compared.as_there.len(), usize::from(as_there));
            assert_eq!(compared.exhausted.len(), usize::from(!as_there));
        }
    }

    #[test]
    fn a_counter_at_the_end_of_its_type_is_not_behind() {
        let most = i128::from(u64::MAX);
        for (next, max, column_type, expected) in [
            (128, 127, "tinyint(4)", Standing::Past),
            (127, 127, "tinyint(4)", Standing::AtTheEnd(127)),
            (5, 127, "tinyint(4)", Standing::Behind),
            (126, 126, "tinyint(4)", Standing::Behind),
            (0, most, "bigint(20) unsigned", Standing::AtTheEnd(most)),
            (most, most, "bigint(20) unsigned", Standing::AtTheEnd(most)),
            (7, 7, "double", Standing::Behind),
            (1, -5, "int(11)", Standing::Past),
        ] {
            assert_eq!(standing(next, max, column_type), expected, "{next} {max}");
        }
    }

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
