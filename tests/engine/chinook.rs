//! Real input that nobody here wrote: the Chinook sample database, loaded, dumped as production would, and rehearsed.

use std::io::Write as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{
    Attach, ContainerSpec, Engine, EngineError, HostPaths, Labels, Purpose, VolumeAt,
};
use rehearsal::event::{CaseStatus, Owner};
use rehearsal::staging::Names;
use rehearsal::verdict::Outcome;

use crate::backup::DATABASE;
use crate::common::{Place, checkout, engine, forget_bases_of};

/// Loads the script into a server of its own and dumps what it made.
const DUMP: &str = "\
set -eu
install -d -o postgres -m 0700 /tmp/made /tmp/socket
run() { setpriv --reuid=postgres --regid=postgres --init-groups \"$@\"; }
run initdb --no-sync -D /tmp/made -U ledger --encoding=UTF8 --locale=C.UTF-8 --auth=trust >/dev/null
run pg_ctl start -D /tmp/made -s -w -l /tmp/made/log -o \"-c listen_addresses='' -c unix_socket_directories=/tmp/socket -c fsync=off\"
export PGHOST=/tmp/socket PGUSER=ledger
run psql -X -q -v ON_ERROR_STOP=1 -o /dev/null -d postgres -f /seed/chinook.sql
run pg_dump -Fc -d chinook >/tmp/chinook.dump
run pg_ctl stop -D /tmp/made -s -m immediate
";

const TESTS: &str = "\
testplan: chinook
tests:
  - name: the invoices
    sql: { service: db, database: chinook, query: \"select count(*), sum(total) from invoice\" }
    expect: { rows: [[412, 2328.60]] }
  - name: every line belongs to an invoice
    sql: { service: db, database: chinook, query: \"select count(*) from invoice_line left join invoice using (invoice_id) where invoice.invoice_id is null\" }
    expect: { value: 0 }
  - name: names in other alphabets
    sql: { service: db, database: chinook, query: \"select count(*) from artist where name like '%ô%'\" }
    expect: { same_as: baseline }
  - name: the new column
    when: verify
    sql: { service: db, database: chinook, query: \"select count(*) from invoice where currency = 'USD'\" }
    expect: { value: 412 }
  - name: no new column
    when: [baseline, rollback]
    sql: { service: db, database: chinook, query: \"select count(*) from information_schema.columns where column_name = 'currency'\" }
    expect: { value: 0 }
";

const PACKAGE: &str = "\
package: currencies
components:
  - name: schema
    steps:
      - name: alter
        run: |
          psql -X -q -1 -v ON_ERROR_STOP=1 <<'SQL'
          ALTER TABLE invoice ADD COLUMN currency char(3) NOT NULL DEFAULT 'USD';
          ALTER TABLE invoice ALTER COLUMN total TYPE numeric(12,2);
          CREATE TABLE currency (code char(3) PRIMARY KEY);
          INSERT INTO currency VALUES ('USD');
          ALTER TABLE invoice ADD FOREIGN KEY (currency) REFERENCES currency;
          DROP INDEX invoice_customer_id_idx;
          DELETE FROM playlist_track;
          SQL
declares:
  schema: [table currency, column invoice.currency, column invoice.total, index invoice_customer_id_idx]
";

fn script() -> PathBuf {
    let data = std::env::var_os("REHEARSE_DATA")
        .map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    data.join("chinook/Chinook_PostgreSql.sql")
}

async fn dump(engine: &Engine, place: &Place) -> Result<Vec<u8>, EngineError> {
    let now = Timestamp::now();
    let names = Names::new(place.name(), now);
    let expires = now + SignedDuration::from_hours(1);
    let labels = Labels::new(names.run(), place.name(), now, expires);
    let dumped = dump_with(engine, &names, &labels).await;
    engine.remove_run(names.run()).await?;
    dumped
}

async fn dump_with(
    engine: &Engine,
    names: &Names,
    labels: &Labels,
) -> Result<Vec<u8>, EngineError> {
    let container = names.of("dump");
    let mut spec = ContainerSpec::new(&container, "rehearse-site/db:15", Attach::Loopback);
    spec.entrypoint = Some(vec!["sh".into(), "-c".into()]);
    spec.command = Some(vec![DUMP.into()]);
    // The image declares a volume there; this one is labelled.
    let volume = names.of("dump-data");
    engine
        .create_volume(&volume, labels, Purpose::Run, Default::default())
        .await?;
    spec.volumes = vec![VolumeAt {
        volume,
        target: "/var/lib/postgresql/data".into(),
        read_only: false,
    }];
    engine.create_container(&spec, labels).await?;
    let seed = HostPaths {
        source: script(),
        target: "/seed/chinook.sql".into(),
        owner: (0, 0),
        mode: rehearsal::engine::Modes::Set(0o644),
    };
    engine.upload_paths(&container, seed).await?;
    engine.start_container(&container).await?;
    let code = engine.wait_container(&container).await?;
    if code != 0 {
        let said = engine.container_log(&container, Some(10)).await?;
        return Err(EngineError::new(
            "dump Chinook",
            format!("exit code {code}: {said}"),
        ));
    }
    let tar = engine
        .download(&container, "/tmp/chinook.dump", 64 << 20)
        .await?;
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entry = archive
        .entries()
        .and_then(|mut entries| {
            entries
                .next()
                .unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()))
        })
        .map_err(|error| EngineError::new("read the dump", error.to_string()))?;
    let mut content = Vec::new();
    std::io::copy(&mut entry, &mut content)
        .map_err(|error| EngineError::new("read the dump", error.to_string()))?;
    Ok(content)
}

#[test]
fn chinook_is_restored_altered_and_rolled_back_to_equal_fingerprints() {
    if !script().is_file() {
        // Past the harness, which hides what a test that passes prints.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: the Chinook rehearsal, because `{}` is not there; REHEARSE_DATA may name the folder that holds chinook/",
            script().display()
        );
        return;
    }
    let place = Place::small("chinook", PACKAGE);
    let content =
        engine(async |engine| dump(&engine, &place).await).expect("Chinook can be dumped");
    place.write("chinook.dump", content);
    place.write(
        "stack.yaml",
        format!("services:\n{DATABASE}volumes: {{ data: }}\n"),
    );
    place.write("testplan.yaml", TESTS);
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\npackage: package\ntestplan: testplan.yaml\n\
             restore: [{{ service: db, postgres: {{ dump: chinook.dump, database: chinook, jobs: 2 }}, max_age: 26h }}]\n\
             bastion:\n  image: rehearse-site/bastion:1\n  \
             environment: {{ PGHOST: db, PGUSER: ledger, PGPASSWORD: in-staging, PGDATABASE: chinook }}\n",
            place.name()
        ),
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    assert_eq!(
        ran.bases(),
        [("data", false)].into(),
        "a new dump is restored, not found"
    );
    for suite in ["baseline", "verify", "rollback"] {
        let case = ran.case(&format!("{suite}.chinook"), "the invoices");
        assert_eq!(case.status, CaseStatus::Passed, "{case:?}");
    }
    let prints = &ran.record().fingerprints["snapshot"];
    for (part, rows) in [
        ("invoice", "412"),
        ("invoice_line", "2240"),
        ("playlist_track", "8715"),
    ] {
        assert_eq!(prints[&format!("rows of db/chinook public.{part}")], rows);
    }

    // And the package that loses one invoice is found out.
    let losing = PACKAGE
        .replace(
            "DELETE FROM playlist_track;",
            "DELETE FROM invoice_line WHERE invoice_id = 412; DELETE FROM invoice WHERE invoice_id = 412;",
        )
        .replace(", index invoice_customer_id_idx", "");
    place.write("package/deploy.yaml", losing);
    let lost = place.run(&[]);
    lost.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = lost.case("verify.chinook", "the invoices");
    assert!(
        case.mismatches
            .iter()
            .any(|wrong| wrong.seen.contains("411")),
        "{case:?}"
    );
    let undeclared = lost.case("verify", "db/chinook: every schema change is declared");
    assert_eq!(undeclared.status, CaseStatus::Failed);
    let named: Vec<&str> = undeclared
        .mismatches
        .iter()
        .map(|wrong| wrong.what.as_str())
        .collect();
    assert_eq!(named, ["index invoice_customer_id_idx"]);
    forget_bases_of(ran.run());
}
