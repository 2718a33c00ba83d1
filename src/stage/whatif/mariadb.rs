//! What a restored MariaDB or MySQL server holds: its schema by table, and a checksum of the rows of each.

use std::collections::BTreeMap;

use super::compare;
use crate::event::Owner;
use crate::plan::model::{Family, Restore};
use crate::restore::mariadb::Ask;
use crate::restore::{Deadline, Toolbox};
use crate::stage::Bad;
use crate::stage::run::Run;

/// Bytes of one statement; Linux allows 128 KiB in an argument.
const BATCH: usize = 32 * 1024;

/// Rows of a table's name and of one thing that makes it what it is.
const SCHEMA: &str = "
select concat(table_schema, '.', table_name), concat_ws(' ', 'column', column_name, ordinal_position, column_type,
    is_nullable, coalesce(column_default, '-'), extra, coalesce(collation_name, '-'), md5(coalesce(generation_expression, '')))
from information_schema.columns where table_schema in (LIST) order by 1, ordinal_position;
select concat(table_schema, '.', table_name), concat_ws(' ', 'table', engine, table_collation, create_options,
    md5(table_comment))
from information_schema.tables where table_type = 'BASE TABLE' and table_schema in (LIST) order by 1;
select concat(table_schema, '.', table_name), concat_ws(' ', 'index', index_name, seq_in_index, column_name, non_unique)
from information_schema.statistics where table_schema in (LIST) order by 1, index_name, seq_in_index;
select concat(constraint_schema, '.', table_name), concat_ws(' ', 'constraint', constraint_name, referenced_table_name,
    update_rule, delete_rule)
from information_schema.referential_constraints where constraint_schema in (LIST) order by 1, constraint_name;
select concat(event_object_schema, '.', event_object_table), concat_ws(' ', 'trigger', trigger_name,
    action_timing, event_manipulation, md5(action_statement))
from information_schema.triggers where event_object_schema in (LIST) order by 1, trigger_name;
select concat(table_schema, '.', table_name), concat('view ', md5(view_definition))
from information_schema.views where table_schema in (LIST) order by 1;
select concat(routine_schema, '.', routine_name), concat_ws(' ', routine_type, md5(coalesce(routine_definition, '')))
from information_schema.routines where routine_schema in (LIST) order by 1, routine_type;
select concat(specific_schema, '.', specific_name), concat_ws(' ', routine_type, ordinal_position, parameter_mode,
    parameter_name, dtd_identifier)
from information_schema.parameters where specific_schema in (LIST) order by 1, routine_type, ordinal_position;
select concat(event_schema, '.', event_name), concat_ws(' ', 'event', event_type, execute_at, interval_value,
    interval_field, starts, ends, on_completion, status, md5(event_definition))
from information_schema.events where event_schema in (LIST) order by 1";

/// The tables with the bytes of their rows.
const TABLES: &str = "select table_schema, table_name, coalesce(data_length, 0)
from information_schema.tables where table_type = 'BASE TABLE' and table_schema in (LIST) order by 1, 2";

/// Reads all servers that were restored: parts by name.
pub(super) async fn read(run: &Run) -> Result<BTreeMap<String, String>, Bad> {
    let mut parts = BTreeMap::new();
    for restore in &run.order.plan.restores {
        if restore.method.family() == Family::Mariadb {
            server(run, restore, &mut parts).await?;
        }
    }
    Ok(parts)
}

async fn server(
    run: &Run,
    restore: &Restore,
    parts: &mut BTreeMap<String, String>,
) -> Result<(), Bad> {
    let cannot = |why: &str| {
        Bad::new(
            Owner::Staging,
            format!("cannot read the data of {}: {why}", restore.name),
        )
    };
    let running = run
        .generation()?
        .services
        .iter()
        .find(|running| Some(running.blueprint.service.name.as_str()) == restore.service());
    let (Some(running), Some(user)) = (running, restore.method.user()) else {
        return Err(cannot("its service is gone"));
    };
    let service = &running.blueprint.service.name;
    let tool = Toolbox::within(
        run.staging()?,
        &running.container,
        format!("the data of {}", restore.name),
        Deadline::of(run.order.plan.limits.examine, "limits.examine"),
    );
    let ask = Ask::open(tool, user).await?;
    let all = ask.databases().await?;
    for database in &all {
        parts.insert(
            format!("database {database} of {service}"),
            "there".to_owned(),
        );
    }
    let databases = match restore.method.database() {
        Some(database) => vec![database.to_owned()],
        None => all,
    };
    let list: Vec<String> = databases.iter().map(|name| literal(name)).collect();
    if list.is_empty() {
        return Ok(());
    }
    let list = list.join(", ");
    let said = |query: &str| query.replace("LIST", &list);

    let mut definitions: BTreeMap<String, String> = BTreeMap::new();
    let text = ask.text(None, &said(SCHEMA), Owner::Staging).await?;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (table, definition) = line
            .split_once('\t')
            .ok_or_else(|| cannot(&format!("`{line}` is no definition")))?;
        let all = definitions.entry(table.to_owned()).or_default();
        all.push_str(definition);
        all.push('\n');
    }
    for (table, definition) in definitions {
        let name = format!("table {table} of {service}");
        parts.insert(name, crate::digest::sha256(definition));
    }

    let most = run.order.plan.limits.compare;
    let mut statements: Vec<String> = Vec::new();
    let text = ask.text(None, &said(TABLES), Owner::Staging).await?;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [database, table, bytes] = fields.as_slice() else {
            return Err(cannot(&format!("`{line}` is no table")));
        };
        if bytes.parse::<u64>().is_ok_and(|bytes| bytes > most) {
            let part = format!("content of {service} {database}.{table}");
            parts.insert(part, compare::unread_beyond(most));
            continue;
        }
        let name = format!("{}.{}", quoted(database), quoted(table));
        match statements.last_mut() {
            Some(last) if last.len() + name.len() < BATCH => {
                last.push_str(", ");
                last.push_str(&name);
            }
            Some(_) | None => statements.push(format!("checksum table {name}")),
        }
    }
    for statement in statements {
        let text = ask.text(None, &statement, Owner::Staging).await?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (table, sum) = line
                .split_once('\t')
                .ok_or_else(|| cannot(&format!("`{line}` is no checksum")))?;
            // A table that cannot be read has no sum, and two of those would be the same.
            if sum == "NULL" {
                return Err(cannot(&format!("table {table} has no checksum")));
            }
            parts.insert(format!("content of {service} {table}"), sum.to_owned());
        }
    }
    Ok(())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
