//! `rehearse manifest` beside a PostgreSQL server, and backups held against what was recorded of them.

use jiff::{SignedDuration, Timestamp};
use rehearsal::check::source::SourceManifest;
use rehearsal::engine::{Attach, ContainerSpec, Engine, EngineError, ExecSpec, Labels};
use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::staging::Names;
use rehearsal::verdict::Outcome;

use crate::backup::DATABASE;
use crate::common::{Place, Ran, engine, forget_bases_of, rehearse};

const PASSWORD: &str = "at-the-source-91c2";

const TABLES: &str = "create table invoice (id serial primary key, total int not null, name text); \
     create schema \"Old\"; create table \"Old\".\"Line items\" (x int); \
     insert into invoice (total, name) select n * 7, 'customer ' || n from generate_series(1, 412) n";

/// A server on the engine's ordinary bridge, where this machine can reach it.
struct Source<'e> {
    engine: &'e Engine,
    names: Names,
    container: String,
}

impl Source<'_> {
    async fn run(&self, script: &str) -> Result<String, EngineError> {
        let spec = ExecSpec {
            command: vec!["sh".into(), "-ec".into(), script.into()],
            ..ExecSpec::default()
        };
        let ended = self.engine.exec(&self.container, &spec, |_| {}).await?;
        assert_eq!(ended.exit_code, 0, "{script}: {}", ended.stderr);
        Ok(ended.stdout)
    }
}

async fn source(engine: &Engine) -> Result<Source<'_>, EngineError> {
    let now = Timestamp::now();
    let names = Names::new(&format!("t-manifest-{}", std::process::id()), now);
    let labels = Labels::new(
        names.run(),
        "manifest",
        now,
        now + SignedDuration::from_hours(1),
    );
    let container = names.of("source");
    let mut spec = ContainerSpec::new(&container, "rehearse-site/db:15", Attach::Bridge);
    spec.environment = [
        ("POSTGRES_USER", "ledger"),
        ("POSTGRES_PASSWORD", PASSWORD),
        ("POSTGRES_DB", "site"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    engine.create_container(&spec, &labels).await?;
    engine.start_container(&container).await?;
    let source = Source {
        engine,
        names,
        container,
    };
    source
        .run("until pg_isready -q -h 127.0.0.1 -U ledger; do sleep 0.1; done")
        .await?;
    source
        .run(&format!(
            "psql -q -v ON_ERROR_STOP=1 -U ledger -d site <<'E'\n{TABLES}\nE"
        ))
        .await?;
    Ok(source)
}

/// What the command printed.
fn manifest(arguments: &[&str]) -> Result<SourceManifest, (Option<i32>, String)> {
    let out = rehearse()
        .args(["manifest", "postgres"])
        .args(arguments)
        .env("PGPASSWORD", PASSWORD)
        .output()
        .expect("the built program can be started");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if !out.status.success() {
        return Err((out.status.code(), said));
    }
    let text = String::from_utf8(out.stdout).expect("JSON");
    assert!(!text.contains(PASSWORD) && !said.contains(PASSWORD));
    Ok(serde_json::from_str(&text).expect("a manifest"))
}

#[test]
fn a_manifest_counts_the_snapshot_and_a_backup_is_held_against_it() {
    let place = Place::new("manifest");
    place.write(
        "stack.yaml",
        format!("services:\n{DATABASE}volumes: {{ data: }}\n"),
    );
    engine(async |engine| {
        let source = source(&engine).await?;
        let made = taken(&source, &place).await;
        engine.remove_run(source.names.run()).await?;
        made
    })
    .unwrap_or_else(|error| panic!("{error}"));

    let checked = |more: &str| {
        place.write(
            "rehearsal.yaml",
            format!(
                "rehearsal: {}\nstack: stack.yaml\nrestore:\n  - service: db\n    \
                 postgres: {{ dump: site.dump, database: site }}\n{more}",
                place.name()
            ),
        );
        place.backup_check()
    };
    let recorded = "    manifest: site.json\n    checksum: SHA256SUMS\n";
    let good = std::fs::read_to_string(place.path("site.json")).expect("it was written");
    let digest = {
        let manifest: SourceManifest = serde_json::from_str(&good).expect("a manifest");
        manifest.backup.expect("it was named").sha256
    };
    place.write(
        "SHA256SUMS",
        format!("{}  other\n{digest}  site.dump\n", "0".repeat(64)),
    );
    let ran = checked(recorded);
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let case = ran.case("preflight", "db/site: the backup is named and hashed");
    assert_eq!(case.status, CaseStatus::Passed);
    let figure = case.message.clone().unwrap_or_default();
    for word in [digest.as_str(), "site.json", "SHA256SUMS"] {
        assert!(figure.contains(word), "{figure}");
    }
    forget_bases_of(ran.run());
    compared_by_rows(&place, &good, &checked);

    let other = "f".repeat(64);
    for (file, content, code, owner) in [
        ("site.json", good.replace(&digest, &other), 1, Owner::Backup),
        (
            "SHA256SUMS",
            format!("{other}  site.dump\n"),
            1,
            Owner::Backup,
        ),
        ("site.json", "garbage".to_owned(), 2, Owner::Staging),
        (
            "site.json",
            good.replace("postgres", "mariadb"),
            2,
            Owner::Staging,
        ),
        ("SHA256SUMS", "garbage\n".to_owned(), 2, Owner::Staging),
        (
            "SHA256SUMS",
            format!("{other}  a\n{other}  b\n"),
            2,
            Owner::Staging,
        ),
    ] {
        let before = std::fs::read(place.path(file)).expect("it is there");
        place.write(file, &content);
        let ran = checked(recorded);
        let outcome = if code == 1 {
            Outcome::Failed
        } else {
            Outcome::Invalid
        };
        ran.expect(code, outcome, Some(owner)).expect_nothing_left();
        assert!(
            ran.reason(Stage::Preflight).contains(file),
            "{file}: {content}"
        );
        if code == 1 {
            for digest in [&digest, &other] {
                assert!(ran.reason(Stage::Preflight).contains(digest.as_str()));
            }
        }
        place.write(file, before);
    }
    std::fs::remove_file(place.path("site.json")).expect("it is there");
    checked(recorded).expect(2, Outcome::Invalid, Some(Owner::Staging));
}

/// What the manifest says of rows, and under which names, decides the rung of the row counts.
fn compared_by_rows(place: &Place, good: &str, checked: &dyn Fn(&str) -> Ran) {
    const ROWS: &str = "db/site: the row counts are exact";
    let rows: SourceManifest = serde_json::from_str(good).expect("a manifest");
    let count = rows.databases["site"].tables["public.invoice"];
    let json = |change: &dyn Fn(&mut SourceManifest)| {
        let mut manifest = rows.clone();
        change(&mut manifest);
        serde_json::to_string(&manifest).expect("JSON")
    };
    let renamed = |manifest: &mut SourceManifest, names: &[&str]| {
        let site = manifest.databases.remove("site").expect("it is there");
        for name in names {
            manifest.databases.insert((*name).to_owned(), site.clone());
        }
    };
    let one_more = |manifest: &mut SourceManifest| {
        for facts in manifest.databases.values_mut() {
            facts.tables.insert("public.invoice".to_owned(), count + 1);
        }
    };
    for (what, content, outcome, status, words) in [
        (
            "another name",
            json(&|manifest| renamed(manifest, &["elsewhere"])),
            Outcome::Passed,
            CaseStatus::Passed,
            vec!["`site` compared with `elsewhere`".to_owned()],
        ),
        (
            "one row more at the source",
            json(&one_more),
            Outcome::Failed,
            CaseStatus::Failed,
            vec![
                "public.invoice".to_owned(),
                format!("the source had {}", count + 1),
            ],
        ),
        (
            "another name and one row more",
            json(&|manifest| {
                renamed(manifest, &["elsewhere"]);
                one_more(manifest);
            }),
            Outcome::Failed,
            CaseStatus::Failed,
            vec!["public.invoice".to_owned()],
        ),
        (
            "two other names",
            json(&|manifest| renamed(manifest, &["elsewhere", "nowhere"])),
            Outcome::Invalid,
            CaseStatus::Error,
            vec!["does not know the database `site`".to_owned()],
        ),
    ] {
        place.write("site.json", content);
        let ran = checked("    manifest: site.json\n");
        assert_eq!(
            ran.verdict().outcome,
            outcome,
            "{what}: {:?}",
            ran.verdict()
        );
        let case = ran.case("restore", ROWS);
        assert_eq!(case.status, status, "{what}: {case:?}");
        let said = case.message.clone().unwrap_or_default();
        for word in words {
            assert!(said.contains(&word), "{what}: {said}");
        }
        if outcome != Outcome::Passed {
            let wrong: Vec<&str> = ran
                .cases()
                .map(|(_, case)| case)
                .filter(|case| matches!(case.status, CaseStatus::Failed | CaseStatus::Error))
                .map(|case| case.name.as_str())
                .collect();
            assert_eq!(wrong, [ROWS], "{what}");
        }
        ran.expect_nothing_left();
        forget_bases_of(ran.run());
    }
    place.write("site.json", good);
}

/// Takes manifests of the server's snapshots, and a dump with the manifest that belongs to it.
async fn taken(source: &Source<'_>, place: &Place) -> Result<(), EngineError> {
    let state = source.engine.container_state(&source.container).await?;
    let host = state.address.expect("it is on a network").to_string();
    let connect = ["--host", &host, "--user", "ledger"];
    let with = |more: &[&str]| manifest(&[&connect, more].concat());

    let (client, connection) = tokio_postgres::Config::new()
        .host(&host)
        .user("ledger")
        .password(PASSWORD)
        .dbname("site")
        .connect(tokio_postgres::NoTls)
        .await
        .expect("the server answers");
    tokio::spawn(connection);
    let begin = "begin isolation level repeatable read";
    client.batch_execute(begin).await.expect("a transaction");
    let exported = client.query_one("select pg_export_snapshot()", &[]).await;
    let snapshot: String = exported.expect("a snapshot").get(0);
    source
        .run("psql -q -U ledger -d site -c 'insert into invoice (total) values (1)'")
        .await?;
    let then = with(&["--database", "site", "--snapshot", &snapshot]).expect("a manifest");
    assert_eq!(then.databases["site"].tables["public.invoice"], 412);
    assert_eq!(then.databases["site"].tables["Old.Line items"], 0);
    let sequences = &then.databases["site"].sequences;
    assert_eq!(sequences["public.invoice_id_seq"], Some(413));
    assert!(then.server_version.starts_with("15."));
    drop(client);

    // All databases but the templates and `postgres`.
    let now = with(&[]).expect("a manifest");
    assert_eq!(now.databases.keys().collect::<Vec<_>>(), ["site"]);
    assert_eq!(now.databases["site"].tables["public.invoice"], 413);
    for (wrong, code, word) in [
        (vec!["--database", "nowhere"], 2, "nowhere"),
        (
            vec!["--database", "site", "--snapshot", "00000003-0000FFFF-1"],
            2,
            "snapshot",
        ),
        (vec!["--snapshot", "00000003-0000FFFF-1"], 64, "--database"),
        (
            vec!["--database", "site", "--backup", "/nowhere/site.dump"],
            2,
            "site.dump",
        ),
    ] {
        let (seen, said) = with(&wrong).expect_err("it cannot be taken");
        assert_eq!(seen, Some(code), "{said}");
        assert!(said.contains(word), "{said}");
    }

    source
        .run("pg_dump -U ledger -Fc -f /tmp/site.dump site")
        .await?;
    let packed = source
        .engine
        .download(&source.container, "/tmp/site.dump", 1 << 20)
        .await?;
    tar::Archive::new(packed.as_slice())
        .unpack(place.path(""))
        .expect("the dump");
    let (dump, json) = (place.path("site.dump"), place.path("site.json"));
    let out = rehearse()
        .args(["manifest", "postgres", "--url"])
        .arg(format!("postgresql://ledger:{PASSWORD}@{host}/site"))
        .arg("--backup")
        .arg(&dump)
        .arg("-o")
        .arg(&json)
        .output()
        .expect("the built program can be started");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = std::fs::read_to_string(json).expect("it was written");
    assert!(!text.contains(PASSWORD));
    let written: SourceManifest = serde_json::from_str(&text).expect("a manifest");
    assert!(written.backup.is_some());
    assert!(written.databases["site"].sequences.is_empty());
    Ok(())
}
