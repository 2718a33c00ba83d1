//! `rehearse manifest` beside a MariaDB server, and dumps held against what it counted.

use jiff::{SignedDuration, Timestamp};
use rehearsal::check::source::SourceManifest;
use rehearsal::engine::{
    Attach, ContainerSpec, Engine, EngineError, ExecSpec, HostPaths, Labels, Modes,
};
use rehearsal::event::{CaseStatus, Stage};
use rehearsal::staging::Names;

use crate::common::{Place, engine, rehearse};
use crate::mariadb::{IMAGE, failed, out, passed, place, rung, stack_without_events};

const PASSWORD: &str = "at-the-source-5e0b";

#[test]
fn a_manifest_counts_every_table_and_a_dump_is_held_against_it() {
    const ROWS: &str = "the row counts are exact";
    const COUNTERS: &str = "the sequences are past their columns";
    let place = place(
        "maria-manifest",
        "restore:\n  - service: db\n    mariadb: { dump: mini.sql, database: mini }\n    manifest: mini.json\n    require: [rows, sequences]\n",
    );
    stack_without_events(&place);
    let manifest = engine(async |engine| {
        let now = Timestamp::now();
        let names = Names::new(&format!("t-maria-manifest-{}", std::process::id()), now);
        let until = now + SignedDuration::from_hours(1);
        let labels = Labels::new(names.run(), "manifest", now, until);
        let made = taken(&engine, &names, &labels, &place).await;
        engine.remove_run(names.run()).await?;
        made
    })
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(manifest.databases.keys().collect::<Vec<_>>(), ["mini"]);
    assert!(manifest.server_version.contains("MariaDB"));
    let facts = &manifest.databases["mini"];
    for (table, rows) in [("paper", 3000), ("line", 6000), ("old", 100), ("used", 20)] {
        assert_eq!(facts.tables[table], rows, "{table}");
    }
    assert_eq!(facts.tables.len(), 4, "views and sequences are no tables");
    assert!(facts.sequences["paper"] >= Some(3000), "{facts:?}");
    assert!(facts.sequences["ticket"] >= Some(1019), "{facts:?}");

    let ran = place.backup_check();
    passed(&ran);
    assert_eq!(rung(&ran, "db/mini", COUNTERS).status, CaseStatus::Passed);
    let case = rung(&ran, "db/mini", ROWS);
    assert_eq!(case.status, CaseStatus::Passed);
    let figure = case.message.clone().unwrap_or_default();
    assert!(
        figure.contains("4 tables, 9120 rows, as at the source"),
        "{figure}"
    );

    // Under another name there is still one database on either side.
    let good = std::fs::read_to_string(place.path("mini.json")).expect("it was written");
    place.write("mini.json", good.replace("\"mini\"", "\"other\""));
    let ran = place.backup_check();
    passed(&ran);
    let figure = rung(&ran, "db/mini", ROWS)
        .message
        .clone()
        .unwrap_or_default();
    assert!(figure.contains("`mini` compared with `other`"), "{figure}");
    place.write("mini.json", good);

    let dump = std::fs::read_to_string(place.path("mini.sql")).expect("a dump");
    let end = dump.rfind("\n-- Dump completed").expect("a trailer");
    let lost = "\nDELETE FROM line WHERE id = 4711;\n";
    place.write(
        "mini.sql",
        format!("{}{lost}{}", &dump[..end], &dump[end..]),
    );
    let words = ["mini.line", "5999 rows", "the source had 6000"];
    let ran = failed(&place, "a row lost", Stage::Restore, &words);
    assert_eq!(rung(&ran, "db/mini", ROWS).status, CaseStatus::Failed);

    // All rows are there, and what numbered them is not.
    let lost = "\nALTER TABLE line MODIFY id int NOT NULL;\nALTER TABLE used MODIFY id bigint NOT NULL;\nDROP SEQUENCE ticket;\n";
    place.write(
        "mini.sql",
        format!("{}{lost}{}", &dump[..end], &dump[end..]),
    );
    let words = [
        "the source's sequence `mini.line` is not there",
        "the source's sequence `mini.ticket` is not there",
    ];
    let ran = failed(&place, "counters lost", Stage::Restore, &words);
    assert_eq!(rung(&ran, "db/mini", COUNTERS).status, CaseStatus::Failed);
    assert_eq!(rung(&ran, "db/mini", ROWS).status, CaseStatus::Passed);
}

/// Loads a server, takes its manifest and its dump.
async fn taken(
    engine: &Engine,
    names: &Names,
    labels: &Labels,
    place: &Place,
) -> Result<SourceManifest, EngineError> {
    // Where this machine can reach it.
    let container = names.of("source");
    let mut spec = ContainerSpec::new(&container, IMAGE, Attach::Bridge);
    let password = ("MARIADB_ROOT_PASSWORD".to_owned(), PASSWORD.to_owned());
    spec.environment = [password].into();
    engine.create_container(&spec, labels).await?;
    let seed = HostPaths {
        source: out("mini.sql"),
        target: "/seed/mini.sql".into(),
        owner: (0, 0),
        mode: Modes::Set(0o644),
    };
    engine.upload_paths(&container, seed).await?;
    engine.start_container(&container).await?;
    let run = async |script: &str| {
        let spec = ExecSpec {
            command: vec!["sh".into(), "-ec".into(), script.into()],
            environment: [("MYSQL_PWD".to_owned(), PASSWORD.to_owned())].into(),
            ..ExecSpec::default()
        };
        let ended = engine.exec(&container, &spec, |_| {}).await?;
        assert_eq!(ended.exit_code, 0, "{script}: {}", ended.stderr);
        Ok::<_, EngineError>(())
    };
    run("until mariadb -e 'select 1' >/dev/null 2>&1; do sleep 0.1; done").await?;
    run("mariadb -e 'create database mini character set utf8mb4; create user blind@\"%\"; grant insert on mini.* to blind@\"%\"' \
         && mariadb mini </seed/mini.sql").await?;
    let state = engine.container_state(&container).await?;
    let host = state.address.expect("it is on a network").to_string();
    let manifest = |more: &[&str], password: &str| {
        rehearse()
            .args(["manifest", "mariadb", "--host", &host])
            .args(more)
            .env("MYSQL_PWD", password)
            .output()
            .expect("the built program can be started")
    };
    for (more, password, word) in [
        (vec!["--database", "nowhere"], PASSWORD, "nowhere"),
        (vec![], "wrong", "Access denied"),
        // It would see no table, and the restore would be blamed for those that it has.
        (vec!["--user", "blind"], "", "may not read"),
    ] {
        let out = manifest(&more, password);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(word), "{more:?}: {said}");
        assert!(!said.contains(PASSWORD));
    }
    let json = place.path("mini.json");
    let out = manifest(&["-o", &json.display().to_string()], PASSWORD);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    run("mariadb-dump --single-transaction --skip-add-locks --routines --triggers --hex-blob mini >/tmp/mini.sql").await?;
    let packed = engine
        .download(&container, "/tmp/mini.sql", 64 << 20)
        .await?;
    tar::Archive::new(packed.as_slice())
        .unpack(place.path(""))
        .expect("the dump");
    let text = std::fs::read_to_string(json).expect("it was written");
    assert!(!text.contains(PASSWORD));
    Ok(serde_json::from_str(&text).expect("a manifest"))
}
