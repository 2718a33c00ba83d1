//! Foreign keys, checked anew: a dump is loaded with `FOREIGN_KEY_CHECKS=0`. And the rehearsal's invariants.

use std::collections::BTreeMap;

use super::ask::quoted;
use super::examine::Scene;
use crate::check::ladder::Seen;
use crate::event::Owner;
use crate::staging::Bad;

/// A foreign key: what refers, what is referred to, and the pairs of columns.
#[derive(Debug, Default, PartialEq, Eq)]
struct Key {
    child: String,
    parent: String,
    columns: Vec<(String, String)>,
}

/// Every key and every invariant.
pub(super) async fn judge(scene: &Scene<'_>) -> Result<Seen, Bad> {
    let keys = keys(scene).await?;
    let statements: Vec<String> = keys.values().map(Key::orphans).collect();
    let (lines, fault) = scene.ask.run_all(&statements).await?;
    if let Some(fault) = fault {
        return Err(scene.ask.blame(&fault, Owner::Backup).await);
    }
    let mut wrong = Vec::new();
    for ((name, key), line) in keys.iter().zip(&lines) {
        match line.trim() {
            "0" => {}
            rows => wrong.push(format!(
                "{rows} rows of {} have no row in {} (foreign key `{name}`)",
                key.child, key.parent
            )),
        }
    }
    let invariants = &scene.restore.demands.invariants;
    for invariant in invariants {
        let asked = scene.ask.answer(scene.asked(), &invariant.query).await;
        let seen = asked.map_err(|bad| Bad {
            reason: format!("the invariant `{}`: {}", invariant.name, bad.reason),
            ..bad
        })?;
        let rows = seen.lines().count();
        if let Some(first) = seen.lines().next() {
            let first: String = first.chars().take(80).collect();
            wrong.push(format!(
                "`{}` gives {rows} rows, the first is `{first}`",
                invariant.name
            ));
        }
    }
    if !wrong.is_empty() {
        return Ok(Seen::Broken(wrong.join("; ")));
    }
    if keys.is_empty() && invariants.is_empty() {
        return Ok(Seen::Skipped(
            "there is no foreign key, and the rehearsal names no `invariants:`".into(),
        ));
    }
    Ok(Seen::Holds(Some(format!(
        "{} foreign keys, {} invariants",
        keys.len(),
        invariants.len()
    ))))
}

async fn keys(scene: &Scene<'_>) -> Result<BTreeMap<String, Key>, Bad> {
    if scene.databases.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = format!(
        "select constraint_schema, table_name, constraint_name, column_name, referenced_table_schema, \
         referenced_table_name, referenced_column_name from information_schema.key_column_usage where constraint_schema in \
         ({}) and referenced_table_name is not null order by 1, 2, 3, ordinal_position",
        scene.list()
    );
    let text = scene.ask.text(None, &query, Owner::Staging).await?;
    Ok(grouped(&text))
}

fn grouped(text: &str) -> BTreeMap<String, Key> {
    let mut keys: BTreeMap<String, Key> = BTreeMap::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [
            schema,
            table,
            name,
            column,
            other_schema,
            other_table,
            other_column,
        ] = columns.as_slice()
        else {
            continue;
        };
        // A name is unique in its database only since MariaDB 12 made it one of its table.
        let key = keys.entry(format!("{schema}.{table}.{name}")).or_default();
        key.child = format!("{}.{}", quoted(schema), quoted(table));
        key.parent = format!("{}.{}", quoted(other_schema), quoted(other_table));
        key.columns.push((quoted(column), quoted(other_column)));
    }
    keys
}

impl Key {
    /// Counts the rows that refer to nothing. A row with a NULL among its columns refers to nothing on purpose.
    fn orphans(&self) -> String {
        let joined: Vec<String> = self
            .columns
            .iter()
            .map(|(child, parent)| format!("c.{child} = p.{parent}"))
            .collect();
        let given: Vec<String> = self
            .columns
            .iter()
            .map(|(child, _)| format!("c.{child} is not null"))
            .collect();
        let parent = self.columns.first().map_or("", |(_, parent)| parent);
        format!(
            "select count(*) from {} c left join {} p on {} where {} and p.{parent} is null",
            self.child,
            self.parent,
            joined.join(" and "),
            given.join(" and ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_key_stay_together() {
        let keys = grouped(
            "shop\tline\tfk_a\ta\tshop\tpaper\tx\nshop\tline\tfk_a\tb\tshop\tpaper\ty\nshop\tnote\tfk_a\tc\told\tline\tid",
        );
        assert_eq!(keys.len(), 2);
        assert_eq!(
            keys["shop.line.fk_a"].orphans(),
            "select count(*) from `shop`.`line` c left join `shop`.`paper` p on c.`a` = p.`x` and c.`b` = p.`y` where c.`a` is \
             not null and c.`b` is not null and p.`x` is null"
        );
    }
}
