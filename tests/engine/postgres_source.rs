//! A PostgreSQL server that is backed up by its own tools in every way, once for all tests.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{
    Attach, ContainerSpec, Engine, EngineError, HostPaths, Labels, Modes, Purpose, VolumeAt,
};
use rehearsal::staging::Names;
use tempfile::TempDir;

use crate::common::{Turn, checkout, engine};

/// Sums up every row of every table and every large object of a database in one line. Duplicates count; the order of
/// rows does not.
pub(crate) const SUM: &str = "select md5(string_agg(part, ',' order by part)) from (\
    select c.oid::regclass::text || ' ' || (xpath('/row/s/text()', query_to_xml(format(\
        'select count(*) || '' '' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) as s from %s t', c.oid::regclass), false, true, '')))[1]::text as part \
    from pg_class c where c.relkind = 'r' and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) \
    union all select 'large objects ' || coalesce(md5(string_agg(data, ''::bytea order by loid, pageno)), '') from pg_largeobject \
    union all select 'sequence ' || sequencename || ' ' || coalesce(last_value, 0) from pg_sequences) parts";

const BACKUP: &str = r#"
set -eu
install -d -o postgres -m 0700 /tmp/made /tmp/socket
install -d -o postgres -m 0755 /tmp/out
run() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
run initdb --no-sync -D /tmp/made -U ledger --encoding=UTF8 --locale=C.UTF-8 --auth=trust >/dev/null
run pg_ctl start -D /tmp/made -s -w -l /tmp/made/log -o "-c listen_addresses='' -c unix_socket_directories=/tmp/socket -c fsync=off -c max_wal_size=4GB -c full_page_writes=off"
export PGHOST=/tmp/socket PGUSER=ledger
sql() { run psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$@"; }
sql postgres <<'SQL'
alter role ledger password 'of production';
create role keeper;
create role reader login password 'r';
create role "odd one";
grant keeper to reader;
create database ledger;
create database shop;
SQL
# One database holds what others made and what is made here.
if [ -e /seed/chinook.sql ]; then
    run psql -X -q -v ON_ERROR_STOP=1 -o /dev/null -d postgres -f /seed/chinook.sql
    sql postgres -c "alter database chinook rename to big"
else
    sql postgres -c "create database big"
fi
sql postgres -c "alter database big owner to keeper"
sql ledger -c "create table note (word text); insert into note values ('in the database that images make')"
sql big >/dev/null <<'SQL'
create table sensor (id smallint primary key, name text not null unique);
insert into sensor select i, 'sensor ' || i from generate_series(1, 100) i;
create table reading (
    id bigserial primary key, sensor smallint not null references sensor, at timestamptz not null,
    value numeric(10,3), level double precision, good boolean, word text collate "C", tags int[]
) with (fillfactor = 100);
insert into reading (sensor, at, value, level, good, word, tags)
select 1 + i % 100, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', case when i % 7 <> 0 then i / 8.0 end,
    i * 0.1, i % 3 = 0, case i % 5 when 0 then null when 1 then E'tab\there' when 2 then 'straße \ ' || i else 'w' || i end,
    case when i % 100 = 0 then array[i, -i] end
from generate_series(1, 1000000) i;
create index reading_at on reading (at);
create index reading_word on reading (word) where good;
create table day (day date, count int not null) partition by range (day);
create table day_1 partition of day for values from ('2026-01-01') to ('2026-01-08');
create table day_2 partition of day for values from ('2026-01-08') to ('2026-02-01');
insert into day select at::date, count(*) from reading group by 1;
select lo_from_bytea(0, decode(repeat('c0ffee', 5000), 'hex'));
create view good as select * from reading where good;
create materialized view per_sensor as select sensor, count(*) from reading group by 1;
alter table reading owner to keeper;
grant select on reading to reader, "odd one";
SQL
sql shop >/dev/null <<'SQL'
create table customer (id serial primary key, name text not null);
insert into customer (name) select md5(i::text) || md5((-i)::text) from generate_series(1, 2000) i;
create table invoice (id int generated always as identity primary key, customer int not null references customer, total numeric(8,2));
insert into invoice (customer, total) select i, i * 1.5 from generate_series(1, 412) i;
create table paper (path text);
insert into paper values ('a.txt'), ('below/b c.txt');
SQL
# A database with a grant to a role that is not there elsewhere, for what may be tolerated.
sql postgres -c "create database granted"
sql granted -c "create table t (id int primary key); insert into t values (1); create table u (id int); grant select on t to reader; grant select on u to reader"
cd /tmp/out
for database in big shop ledger; do
    printf '%s %s\n' "$database" "$(sql "$database" -c "$SUM")" >>sums
done
for database in big shop granted; do
    run pg_dump -Fc -Z1 -d "$database" -f "$database.dump" &
    run pg_dump -Fd -Z1 -d "$database" -f "$database.dir" &
    wait
    run pg_dump -Ft -d "$database" -f "$database.tar" &
    run pg_dump -d "$database" | gzip -1 >"$database.sql.gz" &
    wait
done
sql postgres -c "drop database granted"
run pg_dumpall | gzip -1 >cluster.sql.gz
run pg_dumpall --globals-only >globals.sql
run pg_ctl stop -D /tmp/made -s -m immediate
"#;

/// What was backed up, and what was true of it.
pub(crate) struct Source {
    dir: TempDir,
    /// From a database to the sum of all its rows.
    pub(crate) sums: BTreeMap<String, String>,
    /// `big` holds the Chinook data too.
    pub(crate) with_chinook: bool,
}

impl Source {
    /// The one that all tests share.
    pub(crate) fn get() -> &'static Self {
        static SOURCE: OnceLock<Source> = OnceLock::new();
        SOURCE.get_or_init(|| {
            // It loads the machine: whoever asks for it holds no turn yet.
            let _turn = Turn::shared();
            match engine(async |engine| make(&engine).await) {
                Ok(source) => source,
                Err(error) => panic!("the source was not made: {error}"),
            }
        })
    }

    /// `big.dump`, `big.dir`, `big.tar`, `big.sql.gz`, the same of `shop` and `granted`, `cluster.sql.gz`,
    /// `globals.sql`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("the backup")
    }

    /// The text of a plain dump.
    pub(crate) fn sql(&self, name: &str) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(self.path(name)).expect("the backup");
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text)
            .expect("it is text");
        text
    }
}

fn chinook() -> Option<PathBuf> {
    let data = std::env::var_os("REHEARSE_DATA")
        .map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    let script = data.join("chinook/Chinook_PostgreSql.sql");
    if script.is_file() {
        return Some(script);
    }
    // Past the harness, which hides what a test that passes prints.
    let _ = writeln!(
        std::io::stderr(),
        "NOT RUN: dumps of the Chinook data, because `{}` is not there; REHEARSE_DATA may name the folder that holds chinook/",
        script.display()
    );
    None
}

async fn make(engine: &Engine) -> Result<Source, EngineError> {
    let now = Timestamp::now();
    let names = Names::new("t-postgres-source", now);
    let expires = now + SignedDuration::from_hours(1);
    let labels = Labels::new(names.run(), "t-postgres-source", now, expires);
    let made = make_with(engine, &names, &labels).await;
    engine.remove_run(names.run()).await?;
    made
}

async fn make_with(engine: &Engine, names: &Names, labels: &Labels) -> Result<Source, EngineError> {
    let failed =
        |error: &dyn std::fmt::Display| EngineError::new("make the source", error.to_string());
    let container = names.of("source");
    let mut spec = ContainerSpec::new(&container, "rehearse-site/db:15", Attach::Loopback);
    spec.entrypoint = Some(vec!["sh".into(), "-c".into()]);
    spec.command = Some(vec![BACKUP.into()]);
    spec.environment.insert("SUM".to_owned(), SUM.to_owned());
    // The image declares a volume there; this one is labelled.
    let volume = names.of("source-data");
    engine
        .create_volume(&volume, labels, Purpose::Run, Default::default())
        .await?;
    spec.volumes = vec![VolumeAt {
        volume,
        target: "/var/lib/postgresql/data".into(),
        read_only: false,
    }];
    engine.create_container(&spec, labels).await?;
    let chinook = chinook();
    let with_chinook = chinook.is_some();
    if let Some(script) = chinook {
        let seed = HostPaths {
            source: script,
            target: "/seed/chinook.sql".into(),
            owner: (0, 0),
            mode: Modes::Set(0o644),
        };
        engine.upload_paths(&container, seed).await?;
    }
    engine.start_container(&container).await?;
    let code = engine.wait_container(&container).await?;
    let said = engine.container_log(&container, Some(10)).await?;
    if code != 0 || said.to_lowercase().contains("error") {
        return Err(failed(&format!("exit code {code}: {said}")));
    }
    let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
    let tar = dir.path().join("out.tar");
    let mut file = tokio::fs::File::create(&tar)
        .await
        .map_err(|error| failed(&error))?;
    engine
        .download_to(&container, "/tmp/out", &mut file)
        .await?;
    tokio::io::AsyncWriteExt::flush(&mut file)
        .await
        .map_err(|error| failed(&error))?;
    unpack(&tar, dir.path()).map_err(|error| failed(&error))?;
    let sums = std::fs::read_to_string(dir.path().join("out/sums"))
        .map_err(|error| failed(&error))?
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(database, sum)| (database.to_owned(), sum.to_owned()))
        .collect();
    Ok(Source {
        dir,
        sums,
        with_chinook,
    })
}

fn unpack(tar: &Path, into: &Path) -> std::io::Result<()> {
    tar::Archive::new(std::fs::File::open(tar)?).unpack(into)?;
    std::fs::remove_file(tar)
}
