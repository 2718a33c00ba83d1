//! Folders and streams of `mariadb-backup`: prepared on a copy, moved into the empty data folder, and only then started.

use std::collections::BTreeMap;

use super::damage::damage;
use super::{Ask, PORT, quiet, version};
use crate::backup::Format;
use crate::engine::{ExecOutcome, Purpose, VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::Method;
use crate::restore::server::mounts;
use crate::restore::{
    Deadline, Ended, Inbox, Job, Made, Server, Site, Told, Toolbox, Trouble, timed,
};
use crate::staging::{Bad, Blueprint};

/// Where the copy lies that is prepared.
const SCRATCH: &str = "/rehearse-prepare";
const COPY: &str = "/rehearse-prepare/backup";

/// Finds the tool of the image, whatever its age.
const TOOL: &str = "tool=$(command -v mariadb-backup || command -v mariabackup) || { echo 'mariadb-backup: not found' >&2; exit 127; }\n";

/// Prints the server's data folder and version, by its own words and the service's arguments `$@`.
const SERVER: &str = "server=$(command -v mariadbd || command -v mysqld) || { echo 'mariadbd: not found' >&2; exit 127; }\n\
    \"$server\" --verbose --help 2>/dev/null | awk '$1 == \"datadir\" { print $2; exit }'\n\
    \"$server\" --version\n";

/// Gives the data folder to whom the server runs as, and takes away what would make it replicate.
const SETTLE: &str = "datadir=$1 owner=$2\n\
    find \"$datadir\" -maxdepth 1 \\( -name 'master*.info' -o -name 'relay-log*.info' -o -name 'multi-master.info' \\) -print -delete\n\
    if [ -z \"$owner\" ]; then owner=mysql:mysql; fi\n\
    chown -R \"$owner\" \"$datadir\"\n";

pub(super) async fn restore(
    site: Site<'_>,
    mut blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
) -> Result<Made, Bad> {
    let staging = site.staging;
    let mut made = Made::default();
    let deadline = Deadline::of(site.limit, "limits.restore");
    let filled = timed(async {
        fill(site, &blueprint, volumes, job, deadline).await?;
        Ok(Told::default())
    })
    .await;
    if filled.result.is_err() {
        made.ended.push(filled);
        return Ok(made);
    }
    calm(&mut blueprint);
    let started = timed(async {
        let began = Server::start(
            staging,
            blueprint,
            volumes,
            Vec::new(),
            PORT,
            Owner::Staging,
        );
        let server = began.await.map_err(start_failed)?;
        let tool = Toolbox::within(
            staging,
            &server.running.container,
            format!("restore {}", job.restore.name),
            deadline,
        );
        let told = asked(tool, job).await;
        made.log = server.log(staging).await.ok();
        let told = told?;
        server.stop_cleanly(staging).await?;
        Ok(told)
    })
    .await;
    made.ended.push(Ended {
        result: started.result,
        seconds: filled.seconds + started.seconds,
    });
    Ok(made)
}

/// The data folder was prepared without an error, and the server does not start on it. Only where it names damage is that
/// the backup's fault: the stack's own settings may be in the way as well.
fn start_failed(bad: Bad) -> Bad {
    let damaged = bad.owner == Owner::Staging && damage(&bad.reason).is_some();
    if damaged {
        return Bad {
            owner: Owner::Backup,
            ..bad
        };
    }
    bad
}

/// Adds what keeps events and replication from starting, where the service's command is the server's own.
fn calm(blueprint: &mut Blueprint) {
    let Some(command) = &mut blueprint.service.command else {
        return;
    };
    let is_server = command.first().is_some_and(|first| {
        let program = first.rsplit('/').next().unwrap_or_default();
        first.starts_with('-') || matches!(program, "mariadbd" | "mysqld")
    });
    if is_server {
        command.extend(quiet::OPTIONS.map(str::to_owned));
    }
}

/// Copies, prepares and moves the backup into the data folder.
async fn fill(
    site: Site<'_>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    deadline: Deadline,
) -> Result<(), Bad> {
    let staging = site.staging;
    let ground = &staging.ground;
    let service = &blueprint.service;
    let inbox = Inbox::fill(staging, &service.name, &[job]).await?;
    let scratch = ground.names.of(&format!("prepare-{}", service.name));
    ground
        .engine
        .create_volume(&scratch, &ground.labels, Purpose::Run, Default::default())
        .await?;
    let mut at = mounts(blueprint, volumes);
    let targets: Vec<String> = at.iter().map(|at| at.target.clone()).collect();
    at.push(inbox.mount());
    at.push(VolumeAt {
        volume: scratch.clone(),
        target: SCRATCH.into(),
        read_only: false,
    });
    let tool = Toolbox::open(
        staging,
        &format!("prepare-{}", service.name),
        &blueprint.image,
        at,
        format!("restore {}", job.restore.name),
        deadline,
    )
    .await?;
    ground
        .upload_service_files(service, &tool.container)
        .await?;
    let datadir = data_folder(&tool, blueprint, &targets, job).await?;
    unpack(&tool, job).await?;
    prepare(&tool, &datadir, service.user.as_deref()).await?;
    tool.close().await?;
    ground.engine.remove_volume(&scratch).await?;
    inbox.remove(staging).await?;
    Ok(())
}

async fn data_folder(
    tool: &Toolbox<'_>,
    blueprint: &Blueprint,
    targets: &[String],
    job: Job<'_>,
) -> Result<String, Bad> {
    let said = tool.script("mariadbd", SERVER, &[], Owner::Stack).await?;
    let mut lines = said.stdout.lines();
    let default = lines.next().unwrap_or_default().trim();
    // `mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)`
    let server = lines
        .next()
        .and_then(|line| line.split_once("Ver "))
        .map_or("", |(_, version)| version);
    let dump = job.facts.dump.as_ref();
    version::refuse_newer(
        &job.restore.name,
        dump.and_then(|dump| dump.server_version.as_deref()),
        server,
    )?;
    let chosen = blueprint
        .service
        .command
        .iter()
        .flatten()
        .find_map(|argument| argument.strip_prefix("--datadir="));
    let datadir = chosen.unwrap_or(default).trim_end_matches('/').to_owned();
    let kept = targets.iter().any(|target| {
        let target = target.trim_end_matches('/');
        datadir == target || datadir.starts_with(&format!("{target}/"))
    });
    if !kept {
        return Err(Bad::new(
            Owner::Stack,
            format!(
                "service `{}` keeps its data in `{datadir}`, where it has no volume",
                blueprint.service.name
            ),
        )
        .with_help("give it a named volume there"));
    }
    Ok(datadir)
}

/// Makes a copy that can be written to.
async fn unpack(tool: &Toolbox<'_>, job: Job<'_>) -> Result<(), Bad> {
    let file = Inbox::path(0);
    if job.facts.format == Format::MariadbStream {
        let unpack = "mkdir \"$2\"; exec mbstream -x -C \"$2\" < \"$1\"";
        tool.script("mbstream", unpack, &[&file, COPY], Owner::Backup)
            .await?;
    } else {
        tool.script("cp", "cp -R \"$1\" \"$2\"", &[&file, COPY], Owner::Engine)
            .await?;
    }
    let find = "find \"$1\" -type f \\( -name '*.qp' -o -name '*.zst' -o -name '*.lz4' -o -name '*.xbcrypt' \\) | head -n 1";
    let packed = tool.script("find", find, &[COPY], Owner::Engine).await?;
    if let Some(first) = packed.stdout.lines().next() {
        return Err(Bad::new(
            Owner::Staging,
            format!(
                "{}: its files are compressed or encrypted one by one (`{}`), which is not supported",
                job.restore.name,
                first.trim_start_matches(COPY).trim_start_matches('/')
            ),
        )
        .with_help("make it without `--compress` and pack the stream instead: `mariadb-backup --backup --stream=xbstream | zstd`"));
    }
    Ok(())
}

async fn prepare(tool: &Toolbox<'_>, datadir: &str, user: Option<&str>) -> Result<(), Bad> {
    let run = format!("{TOOL}exec \"$tool\" \"$@\"");
    let copy = format!("--target-dir={COPY}");
    let into = format!("--datadir={datadir}");
    // Both its exit code and its last word: older versions ended with 0 after errors.
    for arguments in [vec!["--prepare", &copy], vec!["--move-back", &copy, &into]] {
        let mut command = vec!["/bin/sh", "-c", &run, "mariadb-backup"];
        command.extend(&arguments);
        let outcome = tool.run(&command).await?;
        if outcome.exit_code != 0 || !outcome.stderr.contains("completed OK!") {
            return Err(failed(tool, arguments[0], &outcome));
        }
    }
    tool.script(
        "chown",
        SETTLE,
        &[datadir, user.unwrap_or_default()],
        Owner::Stack,
    )
    .await?;
    Ok(())
}

fn failed(tool: &Toolbox<'_>, step: &str, outcome: &ExecOutcome) -> Bad {
    let name = format!("mariadb-backup {step}");
    let said = said(&outcome.stderr).unwrap_or_else(|| outcome.last_words());
    if let Some(trouble) = Trouble::of(outcome) {
        return trouble.bad(&tool.source, &name, &said);
    }
    let reason = format!(
        "{}: `{name}` failed with exit code {}: {said}",
        tool.source, outcome.exit_code
    );
    if outcome.stderr.contains("is not empty") {
        return Bad::new(Owner::Stack, reason).with_help(
            "the service's data volume has to be empty: the image must not bring data of its own",
        );
    }
    // Nothing but the backup's own files is read by the first, and nothing that is not prepared by the second.
    let owner = if step == "--prepare" {
        Owner::Backup
    } else {
        Owner::Engine
    };
    Bad::new(owner, reason)
}

/// The first line that names an error; the tool writes hundreds that do not.
fn said(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    let named = |words: &[&str]| {
        lines
            .iter()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(|line| (*line).to_owned())
    };
    named(&["[ERROR]", "Error:", "error:"])
        .or_else(|| named(&["FATAL", "failed", "cannot", "can't"]))
}

async fn asked(tool: Toolbox<'_>, job: Job<'_>) -> Result<Told, Bad> {
    let Method::MariadbBackup { user } = &job.restore.method else {
        return Err(crate::restore::not_built(&[job]));
    };
    let mut told = Told::default();
    let ask = Ask::open(tool, user).await?;
    ask.text(None, "select 1", Owner::Staging).await?;
    if let Some(query) = &job.restore.demands.data_as_of {
        let database = job.restore.demands.database.as_deref();
        told.as_of = Some(ask.as_of(&job.restore.name, database, query).await?);
    }
    Ok(told)
}
