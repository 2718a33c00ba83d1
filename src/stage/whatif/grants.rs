//! Who owns what in a database, who may do what there, and what is said of it: the statements that only a dump shows.

use std::collections::BTreeSet;

use crate::check::schema::{Fate, SchemaChange};

/// How such a statement begins.
const BEGIN: [&str; 6] = [
    "GRANT ",
    "REVOKE ",
    "ALTER DEFAULT PRIVILEGES ",
    "CREATE POLICY ",
    "COMMENT ON ",
    "ALTER ",
];

/// The statements of a dump, each in one line.
pub(super) fn of_dump(lines: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        if !BEGIN.iter().any(|begin| line.starts_with(begin)) {
            continue;
        }
        let mut statement = line.clone();
        while !statement.ends_with(';') {
            let Some(more) = lines.next() else { break };
            statement.push(' ');
            statement.push_str(more.trim());
        }
        let other = statement.starts_with("ALTER ")
            && !statement.starts_with("ALTER DEFAULT PRIVILEGES ")
            && !statement.contains(" OWNER TO ")
            && !statement.ends_with(" ROW LEVEL SECURITY;");
        if !other {
            found.insert(statement);
        }
    }
    found
}

/// The names that a statement is about, without `public.`: not who may or owns, and not what is said of it, which could
/// have the name of a table too.
fn words(statement: &str) -> Vec<&str> {
    let about = [" TO ", " FROM ", " IS ", " OWNER TO "]
        .into_iter()
        .filter_map(|word| statement.find(word))
        .min()
        .unwrap_or(statement.len());
    statement[..about]
        .split(|c: char| c.is_whitespace() || "(),;".contains(c))
        .filter(|word| !word.is_empty())
        .map(|word| word.strip_prefix("public.").unwrap_or(word))
        .collect()
}

/// True where a statement is about an object that came or went.
pub(super) fn of(statement: &str, change: &SchemaChange) -> bool {
    match change.fate {
        Fate::Changed => return false,
        Fate::Added | Fate::Dropped => {}
    }
    let object = &change.object;
    let words = words(statement);
    let has = |name: &str| words.contains(&name);
    let name = object.name.split('(').next().unwrap_or_default();
    let (schema, last) = name.rsplit_once('.').unwrap_or(("", name));
    let within = words.iter().any(|word| {
        word.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    let of_table = object.table.as_deref().is_some_and(has) && has(last);
    let of_schema = words.windows(2).any(|pair| pair == ["SCHEMA", schema]);
    has(name) || within || of_table || of_schema
}

/// What a package may write to say that its rollback leaves this: what is left of a table is left with it.
pub(super) fn excuses(statement: &str) -> Vec<String> {
    words(statement)
        .into_iter()
        .flat_map(|word| {
            let table = word.rsplit_once('.').map_or(word, |(table, _)| table);
            [
                format!("table {word}"),
                format!("table {table}"),
                format!("sequence {word}"),
                format!("column {word}"),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::schema::SchemaObject;

    #[test]
    fn statements_are_taken_whole_and_others_are_not() {
        let dump = "\
CREATE TABLE public.orders (
    id integer
);
ALTER TABLE public.orders OWNER TO site;
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE public.orders IS 'one
two';
GRANT SELECT ON TABLE public.orders TO reader;";
        let lines: Vec<String> = dump.lines().map(str::to_owned).collect();
        let found: Vec<String> = of_dump(&lines).into_iter().collect();
        assert_eq!(
            found,
            [
                "ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;",
                "ALTER TABLE public.orders OWNER TO site;",
                "COMMENT ON TABLE public.orders IS 'one two';",
                "GRANT SELECT ON TABLE public.orders TO reader;",
            ]
        );
    }

    #[test]
    fn a_statement_belongs_to_what_came() {
        let about = |statement: &str, kind: &str, name: &str, table: Option<&str>, fate| {
            let object = SchemaObject {
                kind: kind.to_owned(),
                name: name.to_owned(),
                table: table.map(str::to_owned),
                columns: Vec::new(),
                definition: String::new(),
            };
            of(statement, &SchemaChange { fate, object })
        };
        let owner = "ALTER TABLE public.audit OWNER TO site;";
        assert!(about(owner, "table", "audit", Some("audit"), Fate::Added));
        assert!(!about(
            owner,
            "table",
            "audit",
            Some("audit"),
            Fate::Changed
        ));
        assert!(!about(owner, "table", "aud", Some("aud"), Fate::Added));
        assert!(!about(owner, "table", "site", Some("site"), Fate::Added));
        let function = "ALTER FUNCTION public.total(x numeric) OWNER TO site;";
        assert!(about(
            function,
            "function",
            "total(numeric)",
            None,
            Fate::Added
        ));
        let trigger = "COMMENT ON TRIGGER t ON public.orders IS 'x';";
        assert!(about(
            trigger,
            "trigger",
            "orders.t",
            Some("orders"),
            Fate::Added
        ));
        assert!(!about(
            trigger,
            "trigger",
            "orders.u",
            Some("orders"),
            Fate::Added
        ));
        let schema = "ALTER SCHEMA app OWNER TO site;";
        assert!(about(
            schema,
            "table",
            "app.audit",
            Some("app.audit"),
            Fate::Added
        ));
        let column = "COMMENT ON COLUMN public.orders.note IS 'x';";
        assert!(about(
            column,
            "column",
            "orders.note",
            Some("orders"),
            Fate::Added
        ));
        assert!(!about(
            column,
            "column",
            "orders.other",
            Some("orders"),
            Fate::Added
        ));
    }
}
