//! From files to a conducted run: what `run`, `backup-check` and `demo` have in common.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::afterwards::{Keeping, Telling, not_started, receiver};
use super::hidden::{mask, secrets};
use super::run::KEEP_FOR;
use super::{Format, Reporting, USAGE, say};
use crate::backup::remembered::Remembered;
use crate::check::model::{Severity, When};
use crate::engine::OwnerId;
use crate::event::Mode;
use crate::history::Begun;
use crate::manifest::Loaded;
use crate::notify::deliver::Receiver;
use crate::package::{OpenLimits, OpenedPackage};
use crate::plan::model::{Asked as AskedPath, Plan, WhatIf};
use crate::plan::paths::paths;
use crate::plan::{PackageFacts, resolve, subset};
use crate::report::files::RunFolder;
use crate::report::jsonl::JsonLines;
use crate::report::record::Record;
use crate::report::{Recorder, Sink};
use crate::secret::Secrets;
use crate::stage::conductor::conduct;
use crate::stage::run::{Keep, Order, Trying};
use crate::stage::takeover::{Given, Takeover};
use crate::staging::{AgentBinary, Names};
use crate::state::Branching;

/// What is asked for on the command line.
pub(super) struct Asked<'a> {
    pub rehearsal: &'a Path,
    pub package: Option<&'a Path>,
    /// Values for what the package leaves open, from the command line.
    pub set: &'a [(String, String)],
    /// The components to deploy; none named is all of them.
    pub only: &'a [String],
    /// The components that the restored site has already.
    pub deployed: &'a [String],
    pub mode: Mode,
    pub keep: Keep,
    pub keep_for: SignedDuration,
    pub reporting: &'a Reporting,
    pub telling: &'a Telling,
    pub bases_limit: Option<u64>,
    pub branching: Option<Branching>,
    pub without_isolation: bool,
    /// Feed damaged copies too.
    pub prove: bool,
    /// Which what-ifs are tried, where not the file says it.
    pub what_if: Option<Vec<WhatIf>>,
    /// How what-ifs are tried.
    pub trying: Trying,
    /// The kept staging in which to try again.
    pub takeover: Option<Arc<Takeover>>,
}

/// The files, read, checked and resolved. The opened package must live as long as the run: an unpacked archive
/// lies in a temporary folder.
pub(super) struct Prepared {
    pub plan: Plan,
    pub files: Vec<(String, std::path::PathBuf)>,
    pub opened: Option<OpenedPackage>,
    pub secrets: Secrets,
}

/// Reads, checks and resolves; everything that is wrong is said at once.
pub(super) fn prepare(asked: &Asked<'_>) -> Result<Prepared, ExitCode> {
    let &Asked {
        rehearsal,
        package,
        set,
        mode,
        ..
    } = asked;
    let mut loaded = crate::manifest::load(rehearsal).map_err(|wrong| say::problems(&wrong))?;
    for (name, value) in set {
        loaded.rehearsal.set(name, value);
    }
    let named = loaded.package_path();
    let package = match mode {
        Mode::BackupCheck => None,
        Mode::Rehearse => package.or(named.as_deref()),
    };
    if mode == Mode::Rehearse && package.is_none() {
        say::error(
            format!(
                "`{}` names no package, and --package was not given",
                rehearsal.display()
            ),
            Some(
                "add `package:` to the rehearsal, or give --package PATH (a folder, .tar, .tar.gz, .tar.zst or .zip)",
            ),
        );
        return Err(ExitCode::from(USAGE));
    }
    if mode == Mode::BackupCheck && loaded.rehearsal.restores.is_empty() {
        say::error(
            format!(
                "`{}` restores no backup, so there is nothing to check and nothing could fail",
                rehearsal.display()
            ),
            Some("add `restore:` with the backups that one would come back from"),
        );
        return Err(ExitCode::from(USAGE));
    }
    let opened = package.map(open).transpose()?;
    let mut plan = plan(&loaded, package, opened.as_ref())?;
    if let (Some(package), false) = (&mut plan.package, asked.only.is_empty()) {
        subset::only(package, asked.only, asked.deployed).map_err(|(why, help)| {
            say::error(why, help.as_deref());
            ExitCode::from(USAGE)
        })?;
    }
    let fewer_orders = fewer_orders(&plan, asked.trying.most_orders);
    if let Some(wanted) = &asked.what_if {
        let chosen = chosen(wanted, &plan.what_ifs);
        plan.what_ifs_left_out = plan
            .what_ifs
            .iter()
            .filter(|asked| !asked.advisory && !wanted.contains(&asked.what_if))
            .map(|asked| asked.what_if)
            .collect();
        plan.what_ifs = chosen;
    }
    let tries_orders = plan.what_ifs.iter().any(|of| of.what_if == WhatIf::Order);
    if fewer_orders && tries_orders {
        plan.what_ifs_left_out.push(WhatIf::Order);
    }
    if mode == Mode::Rehearse && !looks_at_the_deploy(&plan) {
        say::error(
            format!(
                "`{}` has no test that looks at the deploy, so nothing could fail",
                rehearsal.display()
            ),
            Some(
                "name a test plan with at least one test that runs at `verify` and does not only warn",
            ),
        );
        return Err(ExitCode::from(USAGE));
    }
    let secrets = secrets(&plan)?;
    Ok(Prepared {
        secrets,
        plan,
        files: loaded
            .files()
            .into_iter()
            .filter(|(role, _)| ["rehearsal", "stack", "testplan"].contains(&role.as_str()))
            .collect(),
        opened,
    })
}

/// True where orders that are required are not tried because fewer were asked for than a run tries by default.
fn fewer_orders(plan: &Plan, most: usize) -> bool {
    let required = |asked: &AskedPath| asked.what_if == WhatIf::Order && !asked.advisory;
    let orders: Vec<AskedPath> = plan.what_ifs.iter().copied().filter(required).collect();
    let left_out = |package| paths(package, &orders, most, 0).orders_left_out > 0;
    most < Trying::default().most_orders && plan.package.as_ref().is_some_and(left_out)
}

/// The what-ifs of the command line. What the rehearsal says of one of them still counts.
fn chosen(wanted: &[WhatIf], in_file: &[AskedPath]) -> Vec<AskedPath> {
    WhatIf::ALL
        .into_iter()
        .filter(|what_if| wanted.contains(what_if))
        .map(|what_if| {
            let said = in_file.iter().find(|asked| asked.what_if == what_if);
            said.copied().unwrap_or_else(|| AskedPath::of(what_if))
        })
        .collect()
}

/// A deploy that no test looks at would pass by being run.
fn looks_at_the_deploy(plan: &Plan) -> bool {
    plan.testplan
        .iter()
        .flat_map(|plan| &plan.tests)
        .any(|test| test.when.contains(&When::Verify) && test.severity == Severity::Fail)
}

fn open(package: &Path) -> Result<OpenedPackage, ExitCode> {
    crate::package::open(package, &OpenLimits::default()).map_err(|error| {
        say::error(error.to_string(), Some(error.help()));
        ExitCode::from(USAGE)
    })
}

fn plan(
    loaded: &Loaded,
    package: Option<&Path>,
    opened: Option<&OpenedPackage>,
) -> Result<Plan, ExitCode> {
    let manifest;
    let package = match (package, opened) {
        (Some(source), Some(opened)) => {
            manifest = crate::manifest::load_package(&opened.root, source)
                .map_err(|wrong| say::problems(&wrong))?;
            let facts = PackageFacts {
                source: source.to_owned(),
                root: opened.root.clone(),
                digest: opened.digest.clone(),
                files: opened.files,
                bytes: opened.bytes,
            };
            Some((&manifest, facts))
        }
        _ => None,
    };
    resolve(loaded, package).map_err(|wrong| say::problems(&wrong))
}

/// Runs what was prepared and writes its reports.
pub(super) fn run(asked: &Asked<'_>) -> ExitCode {
    // A night on which nothing could be judged must not look like the night before it.
    started(asked).unwrap_or_else(|code| {
        not_started(asked);
        code
    })
}

/// Fails with an exit code where there was no run; everything has been said then.
fn started(asked: &Asked<'_>) -> Result<ExitCode, ExitCode> {
    let receiver = receiver(asked.telling)?;
    let prepared = prepare(asked)?;
    if let Some(takeover) = &asked.takeover {
        super::retry::unchanged(takeover, &prepared.plan, &prepared.files)?;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say::error(format!("cannot start: {error}"), None);
            return Err(ExitCode::from(2));
        }
    };
    let code = runtime.block_on(conducted(asked, prepared, receiver));
    // A worker that still waits for a deaf engine must not hold the exit up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code.map(ExitCode::from).map_err(ExitCode::from)
}

async fn conducted(
    asked: &Asked<'_>,
    prepared: Prepared,
    receiver: Option<Receiver>,
) -> Result<u8, u8> {
    let now = Timestamp::now();
    let mut names = Names::new(&prepared.plan.rehearsal, now);
    if let Some(takeover) = &asked.takeover {
        names = names.within(&takeover.kept.staging);
    }
    let mask = match mask(&prepared.plan, &prepared.secrets, names.run()) {
        Ok(mask) => mask,
        Err(_) => return Err(USAGE),
    };
    let agent = match agent_binary() {
        Ok(agent) => agent,
        Err(error) => {
            say::error(
                format!("cannot find this program's own file: {error}"),
                None,
            );
            return Err(2);
        }
    };
    let folder = RunFolder::create(
        &asked.reporting.report_dir,
        names.run(),
        asked.reporting.junit.clone(),
    );
    let made = folder.and_then(|folder| folder.sink().map(|sink| (folder, sink)));
    let (folder, sink) = match made {
        Ok(made) => made,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            say::error(
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
                Some("choose another place with --report-dir"),
            );
            return Err(2);
        }
    };
    let show = match asked.reporting.format {
        Format::Human => Sink::human(),
        Format::Json => Sink::JsonLines(JsonLines::stdout()),
    };
    let keeping = Keeping::begin(
        &asked.reporting.report_dir,
        &Begun {
            run: names.run(),
            rehearsal: &prepared.plan.rehearsal,
            file: &prepared.plan.file,
            mode: asked.mode,
            started: now,
            process: &OwnerId::current().to_string(),
        },
    );
    let (keeping, earlier_sizes) = keeping.earlier_sizes(&prepared.plan);
    let recorder = Recorder::new(vec![Sink::Folder(sink), show]);
    let recorder = Arc::new(recorder.masking(mask.clone()));
    let order = Order {
        plan: Arc::new(prepared.plan),
        mode: asked.mode,
        names,
        files: prepared.files,
        opened: prepared.opened,
        docker_host: std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty()),
        agent,
        keep: asked.keep,
        given: Given {
            folder: std::env::current_dir().unwrap_or_default(),
            set: asked.set.to_vec(),
            only: asked.only.to_vec(),
            deployed: asked.deployed.to_vec(),
            what_if: asked.what_if.clone(),
        },
        keep_for: asked.keep_for,
        // A run that goes on must not be taken for a dead one because it was to be kept for a short time.
        expires: now
            .checked_add(asked.keep_for.max(KEEP_FOR))
            .unwrap_or(Timestamp::MAX),
        takeover: asked.takeover.clone(),
        dir: folder.path().to_owned(),
        remembered: Remembered::at(asked.reporting.report_dir.join("backups.json")),
        prove: asked.prove,
        secrets: prepared.secrets,
        mask: Arc::new(mask),
        earlier_sizes,
        branching: asked.branching,
        bases_limit: asked.bases_limit,
        without_isolation: asked.without_isolation,
        trying: asked.trying,
        folder: folder.clone(),
    };
    let cancel = CancellationToken::new();
    let signals = tokio::spawn(watch_signals(cancel.clone()));
    let code = conduct(order, Arc::clone(&recorder), cancel).await;
    signals.abort();
    let events = recorder.events();
    let written = folder
        .write_reports(&events)
        .map_err(|error| format!("the reports could not be written: {error}"));
    let code = keeping
        .end(asked.telling, receiver, Record::of(&events), code, written)
        .await;
    for sentence in recorder.lost() {
        say::warning(sentence);
    }
    Ok(code)
}

/// The executable that becomes the agent: this one, or the one that the user names.
pub(super) fn agent_binary() -> std::io::Result<AgentBinary> {
    match std::env::var_os("REHEARSE_AGENT").filter(|path| !path.is_empty()) {
        Some(path) => Ok(AgentBinary::at(path)),
        // The link in /proc stays good when the file is replaced by a newer build while the run goes on.
        None => std::fs::metadata("/proc/self/exe")
            .map(|_| AgentBinary::at("/proc/self/exe"))
            .or_else(|_| std::env::current_exe().map(AgentBinary::at)),
    }
}

/// The first Ctrl-C (or SIGTERM) ends the stage and cleans up; the second one ends the process, and the next start
/// or `rehearse sweep` cleans up.
async fn watch_signals(cancel: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    for times in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if times == 0 {
            cancel.cancel();
            say::warning(
                "interrupted: cleaning up (again to leave at once; `rehearse sweep` then cleans up)",
            );
        } else {
            std::process::exit(130);
        }
    }
}
