//! Tables: whether they can be read, agree with their indexes, hold the rows that they should, and can be written.

use std::collections::BTreeMap;

use super::ask::{Ask, literal, quoted};
use super::examine::Scene;
use super::fault::Fault;
use crate::check::ladder::Seen;
use crate::check::rows;
use crate::event::Owner;
use crate::staging::Bad;

/// What a row of `information_schema.tables` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Holds rows.
    Base,
    /// Shows those of others.
    View,
    /// Gives numbers.
    Sequence,
}

/// A table, view or sequence.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl Table {
    /// As an SQL identifier.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }

    /// As people write it.
    pub(super) fn plain(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

/// The databases' tables, views and sequences.
pub(super) async fn all(ask: &Ask<'_>, databases: &[String]) -> Result<Vec<Table>, Bad> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = databases.iter().map(|name| literal(name)).collect();
    let query = format!(
        "select table_schema, table_name, table_type from information_schema.tables where table_schema in ({}) order by 1, 2",
        list.join(", ")
    );
    let text = ask.text(None, &query, Owner::Staging).await?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (database, name) = (columns.next()?, columns.next()?);
            let kind = match columns.next()? {
                "VIEW" => Kind::View,
                "SEQUENCE" => Kind::Sequence,
                _ => Kind::Base,
            };
            Some(Table {
                database: database.to_owned(),
                name: name.to_owned(),
                kind,
            })
        })
        .collect())
}

/// Every collation of a table or column is known to the server.
pub(super) async fn collations(scene: &Scene<'_>) -> Result<Seen, Bad> {
    let list = scene.list();
    if list.is_empty() {
        return Ok(Seen::Skipped("there is no database".into()));
    }
    let used = format!(
        "select table_collation from information_schema.tables where table_schema in ({list}) and table_collation is not \
         null union select collation_name from information_schema.columns where table_schema in ({list}) and \
         collation_name is not null order by 1"
    );
    let used = scene.ask.text(None, &used, Owner::Staging).await?;
    // Since 10.10 MariaDB has collations that serve several character sets: tables name them with the set.
    let full =
        "select full_collation_name from information_schema.collation_character_set_applicability";
    let short = "select collation_name from information_schema.collations";
    let known = match scene.ask.run(None, full).await? {
        Ok(known) => known,
        Err(_) => scene.ask.text(None, short, Owner::Staging).await?,
    };
    let unknown: Vec<&str> = used
        .lines()
        .filter(|used| !known.lines().any(|known| known == *used))
        .collect();
    if !unknown.is_empty() {
        return Ok(Seen::Unknown(
            format!("the server does not know {}", unknown.join(", ")),
            Some("use the version that production has in the stack".into()),
        ));
    }
    if used.is_empty() {
        return Ok(Seen::Skipped("no table has text".into()));
    }
    Ok(Seen::Holds(Some(format!(
        "{} collations, all known to the server",
        used.lines().count()
    ))))
}

/// Every table is dumped to nowhere.
pub(super) async fn readable(scene: &Scene<'_>) -> Result<Seen, Bad> {
    /// Names in one command.
    const AT_ONCE: usize = 200;
    let dump = "tool=$1; shift; exec \"$tool\" --user=\"$user\" --default-character-set=utf8mb4 --max-allowed-packet=1G \
        --single-transaction --skip-lock-tables --quick --no-tablespaces \"$@\" >/dev/null";
    let ask = &scene.ask;
    if ask.dumper.is_empty() {
        return Ok(Seen::Skipped("`mariadb-dump` is not in the image".into()));
    }
    let mut count = 0;
    for database in &scene.databases {
        let names: Vec<&str> = scene
            .of(Kind::Base)
            .filter(|table| table.database == *database)
            .map(|table| table.name.as_str())
            .collect();
        count += names.len();
        for names in names.chunks(AT_ONCE) {
            let mut arguments = vec![ask.dumper.as_str(), "--", database.as_str()];
            arguments.extend(names);
            let outcome = ask.script(dump, &arguments, |_, _| {}).await?;
            if outcome.exit_code == 0 {
                continue;
            }
            return Err(match Fault::first(&outcome.stderr) {
                Some(fault) => ask.blame(&fault, Owner::Backup).await,
                None => ask.tool.failed(&ask.dumper, &outcome, Owner::Staging),
            });
        }
    }
    if count == 0 {
        return Ok(Seen::Broken("there is no table".into()));
    }
    Ok(Seen::Holds(Some(format!("{count} tables"))))
}

/// `CHECK TABLE .. EXTENDED` of every table, and of every view.
pub(super) async fn checked(scene: &Scene<'_>) -> Result<Seen, Bad> {
    let tables: Vec<&Table> = scene
        .tables
        .iter()
        .filter(|table| table.kind != Kind::Sequence)
        .collect();
    if tables.is_empty() {
        return Ok(Seen::Skipped("there is no table".into()));
    }
    let statements: Vec<String> = tables
        .iter()
        .map(|table| match table.kind {
            Kind::View => format!("check table {}", table.quoted()),
            Kind::Base | Kind::Sequence => format!("check table {} extended", table.quoted()),
        })
        .collect();
    let (lines, fault) = scene.ask.run_all(&statements).await?;
    let checked = Checked::of(&tables, &lines);
    if !checked.wrong.is_empty() {
        return Ok(Seen::Broken(checked.wrong.join("; ")));
    }
    if let Some(fault) = fault {
        return Err(scene.ask.blame(&fault, Owner::Backup).await);
    }
    if checked.answered < tables.len() {
        return Err(Bad::new(
            Owner::Staging,
            format!(
                "the server checked {} of {} tables and views",
                checked.answered,
                tables.len()
            ),
        ));
    }
    let without: Vec<String> = [
        ("cannot be checked by their engine", &checked.unsupported),
        ("views whose definer has no account here", &checked.definers),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what}: {}", names.join(", ")))
    .collect();
    let sound = checked.answered - checked.unsupported.len() - checked.definers.len();
    if sound == 0 {
        return Ok(Seen::Skipped(without.join("; ")));
    }
    let mut figure = format!("{sound} tables and views");
    for words in without {
        figure = format!("{figure}; {words}");
    }
    Ok(Seen::Holds(Some(figure)))
}

/// What `CHECK TABLE` answered: rows of table, operation, kind of message and message; the last of a table decides.
#[derive(Debug, Default)]
struct Checked {
    answered: usize,
    wrong: Vec<String>,
    unsupported: Vec<String>,
    definers: Vec<String>,
}

impl Checked {
    fn of(tables: &[&Table], lines: &[String]) -> Self {
        let mut said: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for line in lines {
            let mut columns = line.splitn(4, '\t');
            if let (Some(table), Some(_), Some(kind), Some(text)) = (
                columns.next(),
                columns.next(),
                columns.next(),
                columns.next(),
            ) {
                said.entry(table).or_default().push((kind, text));
            }
        }
        let mut checked = Self::default();
        for table in tables {
            let name = table.plain();
            let Some(said) = said.get(name.as_str()) else {
                continue;
            };
            checked.answered += 1;
            let has = |words: &str| said.iter().any(|(_, text)| text.contains(words));
            let fine = said.last().is_some_and(|(kind, text)| {
                *kind == "status" && matches!(*text, "OK" | "Table is already up to date")
            });
            let warned = said.iter().find(|(kind, _)| {
                kind.eq_ignore_ascii_case("error") || kind.eq_ignore_ascii_case("warning")
            });
            if has("doesn't support check") {
                checked.unsupported.push(name);
            } else if table.kind == Kind::View && has("specified as a definer") {
                checked.definers.push(name);
            } else if let Some((_, text)) = warned {
                checked.wrong.push(format!("{name}: {text}"));
            } else if !fine {
                let text = said.last().map_or("", |(_, text)| *text);
                checked.wrong.push(format!("{name}: {text}"));
            }
        }
        checked
    }
}

/// Exact counts of all rows.
pub(super) async fn rows(scene: &Scene<'_>) -> Result<Seen, Bad> {
    let tables: Vec<&Table> = scene.of(Kind::Base).collect();
    let statements: Vec<String> = tables
        .iter()
        .map(|table| format!("select count(*) from {}", table.quoted()))
        .collect();
    let (lines, fault) = scene.ask.run_all(&statements).await?;
    if let Some(fault) = fault {
        return Err(scene.ask.blame(&fault, Owner::Backup).await);
    }
    let mut seen = BTreeMap::new();
    for (table, line) in tables.iter().zip(&lines) {
        let rows = line.trim().parse::<u64>().map_err(|_| {
            Bad::new(
                Owner::Staging,
                format!("`count(*)` of {} gave `{line}`", table.plain()),
            )
        })?;
        seen.insert(table.plain(), rows);
    }
    Ok(compared(scene, &seen))
}

/// The counts beside what the rehearsal expects, and beside the source's.
fn compared(scene: &Scene<'_>, seen: &BTreeMap<String, u64>) -> Seen {
    let expected = &scene.restore.demands.rows;
    let Some(paired) = &scene.paired else {
        return rows::judge(expected, None, seen).seen;
    };
    let mut source: BTreeMap<String, u64> = BTreeMap::new();
    for (database, facts) in scene
        .databases
        .iter()
        .filter_map(|database| Some((database, paired.of(database)?)))
    {
        for (table, rows) in &facts.tables {
            source.insert(format!("{database}.{table}"), *rows);
        }
    }
    // Databases that cannot be compared are no breach.
    let known: BTreeMap<String, u64> = scene
        .of(Kind::Base)
        .filter(|table| paired.of(&table.database).is_some())
        .filter_map(|table| seen.get_key_value(&table.plain()))
        .map(|(table, rows)| (table.clone(), *rows))
        .collect();
    let beside_expected = rows::judge(expected, None, seen).seen;
    let beside_source = rows::judge(&BTreeMap::new(), Some(&source), &known).seen;
    let mut wrong: Vec<String> = paired
        .missing()
        .iter()
        .map(|database| format!("the source's database `{database}` is not there"))
        .collect();
    for seen in [beside_expected, beside_source] {
        if let Seen::Broken(reason) = seen {
            wrong.push(reason);
        }
    }
    if !wrong.is_empty() {
        return Seen::Broken(wrong.join("; "));
    }
    if let Some((reason, help)) = paired.unclear() {
        return Seen::Unknown(reason, Some(help));
    }
    let rows: u64 = seen.values().sum();
    let mut figure = format!("{} tables, {rows} rows, as at the source", seen.len());
    if let Some(renamed) = paired.renamed() {
        figure = format!("{figure}; {renamed}");
    }
    Seen::Holds(Some(figure))
}

/// A table of its own is made in each database, written, read and dropped.
pub(super) async fn writes(scene: &Scene<'_>) -> Result<Seen, Bad> {
    if scene.databases.is_empty() {
        return Ok(Seen::Skipped("there is no database".into()));
    }
    for database in &scene.databases {
        let table = format!("{}.`rehearse_writes`", quoted(database));
        let statements = format!(
            "create table {table} (id int auto_increment primary key, said varchar(40)); insert into {table} (said) values \
             ('one'), ('two'); select count(*), max(said) from {table}; drop table {table}"
        );
        let seen = scene.ask.text(None, &statements, Owner::Backup).await?;
        if seen.trim() != "2\ttwo" {
            return Ok(Seen::Broken(format!(
                "two rows were written in `{database}`, and `{}` was read",
                seen.trim()
            )));
        }
    }
    Ok(Seen::Holds(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_check_table_are_judged_by_table() {
        let table = |name: &str, kind| Table {
            database: "shop".into(),
            name: name.into(),
            kind,
        };
        let tables = [
            table("a", Kind::Base),
            table("b", Kind::Base),
            table("m", Kind::Base),
            table("v", Kind::View),
            table("w", Kind::View),
            table("x", Kind::Base),
        ];
        let lines: Vec<String> = [
            "shop.a\tcheck\tstatus\tOK",
            "shop.b\tcheck\tWarning\tInnoDB: The B-tree of index PRIMARY is corrupted.",
            "shop.b\tcheck\terror\tCorrupt",
            "shop.m\tcheck\tnote\tThe storage engine for the table doesn't support check",
            "shop.v\tcheck\tError\tThe user specified as a definer ('nobody'@'%') does not exist",
            "shop.v\tcheck\terror\tCorrupt",
            "shop.w\tcheck\tError\tView 'shop.w' references invalid table(s) or column(s)",
            "shop.w\tcheck\terror\tCorrupt",
        ]
        .iter()
        .map(|line| (*line).to_owned())
        .collect();
        let tables: Vec<&Table> = tables.iter().collect();
        let checked = Checked::of(&tables, &lines);
        assert_eq!(checked.answered, 5, "x was not answered");
        assert_eq!(checked.unsupported, ["shop.m"]);
        assert_eq!(checked.definers, ["shop.v"]);
        assert_eq!(checked.wrong.len(), 2, "{checked:?}");
        assert!(checked.wrong[0].contains("B-tree"));
    }
}
