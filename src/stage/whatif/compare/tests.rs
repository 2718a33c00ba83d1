use super::*;
use crate::check::schema::SchemaObject;

fn state(parts: &[(&str, &str)], objects: &[(&str, &str)]) -> State {
    let object = |(kind, name): &(&str, &str)| SchemaObject {
        kind: (*kind).to_owned(),
        name: (*name).to_owned(),
        table: name.split('.').next().map(str::to_owned),
        columns: name
            .split('.')
            .nth(1)
            .map(str::to_owned)
            .into_iter()
            .collect(),
        definition: "x".to_owned(),
    };
    State {
        parts: parts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        schemas: [("db/site".to_owned(), objects.iter().map(object).collect())].into(),
        ..State::default()
    }
}

fn excused(before: &State, after: &State, restless: &[&str], leaves: &[&str]) -> Excused {
    let reference = Reference {
        state: State::default(),
        restless: restless.iter().map(|name| (*name).to_owned()).collect(),
    };
    let leaves: Vec<String> = leaves.iter().map(|leaf| (*leaf).to_owned()).collect();
    excuse(parts(&reference, before, after), &leaves)
}

fn named(before: &State, after: &State, restless: &[&str], leaves: &[&str]) -> Vec<String> {
    let excused = excused(before, after, restless, leaves);
    let left = excused.left.into_iter().map(|left| left.what);
    left.chain(excused.idle.into_iter().map(|idle| format!("idle {idle}")))
        .collect()
}

/// What keeps the path from being judged, and what is only told.
fn unread(before: &State, after: &State, leaves: &[&str]) -> (Vec<String>, Vec<String>) {
    let excused = excused(before, after, &[], leaves);
    let unread = excused.unread.into_iter().map(|of| of.what).collect();
    (unread, excused.not_compared)
}

/// Rows that were not read.
const LARGE: &str = "unread (more than 1.0 GiB)";

#[test]
fn differences_are_named_once_and_may_be_excused() {
    let before = state(
        &[
            ("schema of db/site", "1"),
            ("rows of db/site public.orders", "3"),
            ("content of db/site public.orders", "3 77"),
            ("rows of db/site sequence public.orders_id_seq", "3"),
            ("files of volume uploads", "a"),
            ("variable COLOUR of app", "a"),
            ("image of web", "a"),
        ],
        &[("table", "orders")],
    );
    assert_eq!(named(&before, &before, &[], &[]), Vec::<String>::new());
    let mut after = before.clone();
    for (name, value) in &mut after.parts {
        *value = format!("{name} is another");
    }
    // The rows say it already; and no object of the schema is another, but its dump is.
    let all = [
        "files of volume uploads",
        "image of web",
        "rows of db/site public.orders",
        "rows of db/site sequence public.orders_id_seq",
        "schema of db/site",
        "variable COLOUR of app",
    ];
    assert_eq!(named(&before, &after, &[], &[]), all);
    let leaves = [
        "table orders",
        "sequence public.orders_id_seq",
        "volume uploads",
        "variable COLOUR of app",
        "image web",
        "table nobody",
    ];
    assert_eq!(
        named(&before, &after, &["schema of db/site"], &leaves),
        ["idle table nobody"]
    );
}

#[test]
fn a_database_that_stays_is_a_difference_by_its_name() {
    let before = state(&[("database site of db", "there")], &[]);
    let mut after = before.clone();
    let left = "database reports of db";
    after.parts.insert(left.to_owned(), "there".to_owned());
    assert_eq!(named(&before, &after, &[], &[]), [left]);
    assert_eq!(named(&before, &after, &[], &[left]), Vec::<String>::new());
    // What it holds is not told beside it, of another one it is.
    for part in [
        "schema of db/reports",
        "rows of db/reports public.sums",
        "content of db/reports public.sums",
        "table reports.sums of db",
        "content of db reports.sums",
    ] {
        after.parts.insert(part.to_owned(), "1".to_owned());
    }
    assert_eq!(named(&before, &after, &[], &[]), [left]);
    let other = "schema of db/reports2";
    after.parts.insert(other.to_owned(), "1".to_owned());
    assert_eq!(named(&before, &after, &[], &[]), [left, other]);
}

#[test]
fn what_another_image_brings_along_is_told_by_the_image() {
    let with = |image: &str, path: &str| {
        let parts = [("image of app", image), ("variable PATH of app", path)];
        state(&parts, &[])
    };
    assert_eq!(
        named(&with("a", "/bin"), &with("b", "/usr/bin"), &[], &[]),
        ["image of app"]
    );
    assert_eq!(
        named(&with("a", "/bin"), &with("a", "/usr/bin"), &[], &[]),
        ["variable PATH of app"]
    );
}

#[test]
fn as_many_rows_with_other_content_are_a_difference() {
    let with = |content| {
        state(
            &[
                ("rows of db/site public.orders", "3"),
                ("content of db/site public.orders", content),
            ],
            &[],
        )
    };
    assert_eq!(
        named(&with("3 1"), &with("3 2"), &[], &[]),
        ["rows of db/site public.orders"]
    );
}

#[test]
fn a_grant_that_stays_is_seen_beside_what_is_excused() {
    let with = |grants: &[&str], objects: &[(&str, &str)]| {
        let mut state = state(&[("schema of db/site", &grants.concat())], objects);
        let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
        state.grants.insert("db/site".to_owned(), grants);
        state
    };
    let before = with(&["ALTER TABLE public.orders OWNER TO site;"], &[]);
    let after = with(
        &[
            "ALTER TABLE public.audit OWNER TO site;",
            "ALTER TABLE public.orders OWNER TO site;",
            "GRANT ALL ON TABLE public.orders TO PUBLIC;",
        ],
        &[("table", "audit")],
    );
    assert_eq!(
        named(&before, &after, &[], &["table audit"]),
        ["`GRANT ALL ON TABLE public.orders TO PUBLIC;` of db/site"]
    );
    let none: [&str; 0] = [];
    let leaves = ["table audit", "table orders"];
    assert_eq!(named(&before, &after, &[], &leaves), none);
    assert_eq!(
        named(&before, &after, &["grants of db/site"], &["table audit"]),
        none
    );
}

#[test]
fn a_table_that_becomes_large_is_compared_by_what_can_be_read() {
    let rows = "rows of db/site public.orders";
    let content = "content of db/site public.orders";
    let counted = state(&[(rows, "3"), (content, "3 1")], &[]);
    let read = |sum| state(&[(rows, "large"), (content, sum)], &[]);
    let none: [&str; 0] = [];
    assert_eq!(named(&counted, &read("3 1"), &[], &[]), none);
    assert_eq!(named(&counted, &read("9 2"), &[], &[]), [rows]);
    let lost = state(&[(rows, "large")], &[]);
    assert_eq!(named(&counted, &lost, &[], &[]), [rows]);
    assert_eq!(unread_beyond(1 << 30), LARGE);
    let large = read(LARGE);
    let told = ["the content of table public.orders of db/site (more than 1.0 GiB)"];
    for (before, after) in [(&counted, &large), (&large, &counted), (&large, &large)] {
        assert_eq!(named(before, after, &[], &[]), none);
        let (unseen, only_told) = unread(before, after, &[]);
        assert_eq!(unseen, told);
        assert_eq!(only_told, none);
    }
    // A number of rows that is known still counts, and so does a table that is not there any more.
    let fewer = state(&[(rows, "2"), (content, LARGE)], &[]);
    assert_eq!(named(&counted, &fewer, &[], &[]), [rows]);
    assert_eq!(named(&large, &lost, &[], &[]), [rows]);
}

#[test]
fn what_was_not_read_is_named_unless_it_is_excused_or_restless() {
    let content = "content of db/site public.orders";
    let files = "files of volume uploads";
    let with = |rows, outline| state(&[(content, rows), (files, outline)], &[]);
    let (one, other) = ("outline sha256:1", "outline sha256:2");
    let table = "the content of table public.orders of db/site (more than 1.0 GiB)";
    let volume =
        "the files of volume uploads (more than 1 GiB, and their names, sizes or times differ)";
    let before = with(LARGE, one);
    let none: [&str; 0] = [];
    for (after, leaves, unseen, only_told) in [
        // Outlines that are the same are enough.
        (&with(LARGE, one), vec![], vec![table], vec![]),
        (&with("3 1", one), vec![], vec![table], vec![]),
        (&with(LARGE, other), vec![], vec![table, volume], vec![]),
        (
            &with(LARGE, "sha256:1"),
            vec![],
            vec![table, volume],
            vec![],
        ),
        (
            &with(LARGE, other),
            vec!["table orders"],
            vec![volume],
            vec![table.to_owned()],
        ),
        (
            &with(LARGE, other),
            vec!["table public.orders", "volume uploads"],
            vec![],
            vec![format!("{table}, {volume}")],
        ),
    ] {
        assert_eq!(named(&before, after, &[], &leaves), none, "{leaves:?}");
        let seen = unread(&before, after, &leaves);
        assert_eq!(seen.0, unseen, "{leaves:?}");
        assert_eq!(seen.1, only_told, "{leaves:?}");
    }
    // What excuses something that was read on both sides, and is the same, is idle.
    let read = with("3 1", one);
    assert_eq!(
        named(&read, &read, &[], &["table orders"]),
        ["idle table orders"]
    );
    // A volume that is gone is a difference, however large it was.
    let gone = state(&[(content, LARGE)], &[]);
    assert_eq!(named(&before, &gone, &[], &[]), [files]);
    // What changes by itself is told by the reference, and no more than told.
    let restless = [content, files];
    let excused = excused(&before, &with(LARGE, other), &restless, &[]);
    assert_eq!((excused.left.len(), excused.unread.len()), (0, 0));
    let reference = Reference {
        state: State::default(),
        restless: [files.to_owned()].into(),
    };
    assert_eq!(
        reference.not_compared(&excused.not_compared),
        "; not compared: files of volume uploads (it changes by itself)"
    );
}

#[test]
fn an_object_that_came_is_named_without_its_rows() {
    let before = state(&[("schema of db/site", "1")], &[]);
    let after = state(
        &[
            ("schema of db/site", "2"),
            ("rows of db/site public.notes", "1"),
            ("content of db/site public.notes", "1 5"),
        ],
        &[("table", "notes"), ("column", "notes.text")],
    );
    assert_eq!(
        named(&before, &after, &[], &[]),
        ["column notes.text of db/site", "table notes of db/site"]
    );
    let none: [&str; 0] = [];
    assert_eq!(named(&before, &after, &[], &["table notes"]), none);
    assert_eq!(
        named(&before, &after, &[], &["column notes.text"]),
        ["table notes of db/site"]
    );
}

#[test]
fn files_are_compared_by_what_they_hold() {
    let side = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(path, digest)| ((*path).to_owned(), (*digest).to_owned()))
            .collect()
    };
    let before = side(&[("/a", "1"), ("/b", "1"), ("/c", ABSENT), ("/d", "1")]);
    let after = side(&[("/a", "1"), ("/b", "2"), ("/c", "1"), ("/d", ABSENT)]);
    let mut found = Found::default();
    files("web", &before, &after, &mut found);
    let seen: Vec<String> = found
        .differences
        .iter()
        .map(|difference| {
            let mismatch = &difference.mismatch;
            format!("{}: {} {}", mismatch.what, mismatch.expected, mismatch.seen)
        })
        .collect();
    assert_eq!(
        seen,
        [
            "file /b of web: as before another content, owner or mode",
            "file /c of web: not there there",
            "file /d of web: there not there",
        ]
    );
    let excused = excuse(found, &["file /b".to_owned(), "file /".to_owned()]);
    assert_eq!((excused.left.len(), excused.idle.len()), (0, 0));
}

#[test]
fn a_file_that_was_not_read_is_unread_unless_only_one_state_has_it() {
    let mut found = Found::default();
    for (path, was, is) in [
        ("/both", Some(TOO_LARGE), Some(TOO_LARGE)),
        ("/grew", Some("1"), Some(TOO_LARGE)),
        ("/left", Some(ABSENT), Some(TOO_LARGE)),
        ("/lost", Some(TOO_LARGE), Some(ABSENT)),
        ("/many", None, Some(TOO_MANY)),
        ("/many-gone", Some(TOO_MANY), Some(ABSENT)),
        ("/same", Some("1"), Some("1")),
    ] {
        let side = |digest: Option<&str>| -> BTreeMap<String, String> {
            digest
                .map(|digest| (path.to_owned(), digest.to_owned()))
                .into_iter()
                .collect()
        };
        files("web", &side(was), &side(is), &mut found);
    }
    let differ: Vec<&str> = found
        .differences
        .iter()
        .map(|of| of.mismatch.what.as_str())
        .collect();
    assert_eq!(differ, ["file /left of web", "file /lost of web"]);
    let unread: Vec<&str> = found.unread.iter().map(|of| of.what.as_str()).collect();
    assert_eq!(
        unread,
        [
            "file /both of web (too large)",
            "file /grew of web (too large)",
            "file /many of web (one of too many)",
            "file /many-gone of web (one of too many)",
        ]
    );
    let excused = excuse(found, &["file /".to_owned()]);
    assert_eq!((excused.left.len(), excused.unread.len()), (0, 0));
    assert_eq!((excused.idle.len(), excused.not_compared.len()), (0, 1));
}

#[test]
fn a_long_list_is_cut_short_with_its_number() {
    let names: Vec<String> = (1..=12).map(|n| n.to_string()).collect();
    assert_eq!(listed(&names[..2]), "1, 2");
    assert_eq!(listed(&names), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
}
