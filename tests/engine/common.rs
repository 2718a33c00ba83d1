//! What all tests share: the prepared engine, a place of its own for each test, and runs of the product.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, OnceLock};

use rehearsal::engine::{Engine, EngineError, Resource};
use rehearsal::event::{Case, CaseStatus, Event, EventKind, Owner, Stage, StageOutcome};
use rehearsal::report::record::Record;
use rehearsal::staging::AgentBinary;
use rehearsal::verdict::{Outcome, Rollback, Verdict};
use tempfile::TempDir;

/// The built program, which is also the agent.
pub(crate) const REHEARSE: &str = env!("CARGO_BIN_EXE_rehearse");

/// What the small stacks of the tests are made of.
pub(crate) const BASE: &str = "rehearse-base:bookworm";

/// A service that is ready at once, lives until it is asked to stop, and needs nothing but a shell.
pub(crate) const IDLE: &str =
    r#"[sh, -c, "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $$!; done"]"#;

pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `rehearse` in the checkout, without input.
pub(crate) fn rehearse() -> Command {
    let mut command = Command::new(REHEARSE);
    command.current_dir(checkout()).stdin(Stdio::null());
    command
}

/// Base image, sample images, agent image and a fresh backup are there after this.
pub(crate) fn prepare() {
    static PREPARED: OnceLock<Result<(), String>> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        let out = rehearse()
            .args(["demo", "--prepare"])
            .output()
            .expect("the built program can be started");
        if !out.status.success() {
            return Err(format!(
                "these tests need an engine, and the sample's images and backup:\n{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr),
            ));
        }
        engine(async |engine| {
            let loaded = rehearsal::manifest::load(&checkout().join("rehearsals/site.yaml"))
                .map_err(|problems| format!("{problems:?}"))?;
            let plan = rehearsal::plan::resolve(&loaded, None)
                .map_err(|problems| format!("{problems:?}"))?;
            let services = plan.stack.services.iter().map(|service| &service.image);
            for image in services.chain(plan.bastion.iter().map(|bastion| &bastion.image)) {
                let made = engine.ensure_image(image, |_| {}).await;
                made.map_err(|error| error.to_string())?;
            }
            let facts = engine.facts().await.map_err(|error| error.to_string())?;
            AgentBinary::at(REHEARSE)
                .ensure_image(&engine, &facts.architecture)
                .await
                .map_err(|error| error.to_string())?;
            Ok(())
        })
    });
    if let Err(error) = prepared {
        panic!("{error}");
    }
}

/// Talks to the engine that the product talks to.
pub(crate) fn engine<T>(work: impl AsyncFnOnce(Engine) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty());
        match Engine::connect(host.as_deref()).await {
            Ok(engine) => work(engine).await,
            Err(error) => panic!(
                "{error}\nhelp: {}",
                error.help.as_deref().unwrap_or_default()
            ),
        }
    })
}

/// Everything in the engine that belongs to a run, cached bases apart.
pub(crate) fn left_of(run: &str) -> Vec<Resource> {
    engine(async |engine| engine.resources_of(run).await).expect("the engine answers")
}

/// Removes the bases that a run restored: a test that makes a new dump each time would fill the engine.
pub(crate) fn forget_bases_of(run: &str) {
    engine(async |engine| -> Result<(), EngineError> {
        let label = format!("{}={run}", rehearsal::engine::BASE_RUN);
        for volume in engine.volumes_with(&label).await? {
            engine.remove_volume(&volume.name).await?;
        }
        Ok(())
    })
    .expect("bases can be removed");
}

/// How many tests may use the engine at once.
const LANES: usize = 2;
static FREE: Mutex<usize> = Mutex::new(LANES);
static FREED: Condvar = Condvar::new();

/// The right to use the engine, and the promise that it is prepared.
pub(crate) struct Turn(usize);

impl Turn {
    /// Beside at most one other test.
    pub(crate) fn shared() -> Self {
        Self::take(1)
    }

    /// While no other test uses the engine.
    pub(crate) fn alone() -> Self {
        Self::take(LANES)
    }

    fn take(lanes: usize) -> Self {
        prepare();
        let mut free = FREED
            .wait_while(FREE.lock().expect("no holder panics"), |free| *free < lanes)
            .expect("no holder panics");
        *free -= lanes;
        Self(lanes)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().expect("no holder panics") += self.0;
        FREED.notify_all();
    }
}

/// A folder with the files of one test, which holds its turn on the engine.
pub(crate) struct Place {
    dir: TempDir,
    name: String,
    _turn: Option<Turn>,
}

impl Place {
    /// An empty one.
    pub(crate) fn new(test: &str) -> Self {
        Self::with(test, Turn::shared())
    }

    /// An empty one for a test that holds a turn of another kind.
    pub(crate) fn with(test: &str, turn: Turn) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            name: format!("t-{test}-{}", std::process::id()),
            _turn: Some(turn),
        }
    }

    /// A second place for a test, in the turn of its first one.
    pub(crate) fn beside(_first: &Self, test: &str) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            name: format!("t-{test}-{}", std::process::id()),
            _turn: None,
        }
    }

    /// A stack of one idle service, a test plan of one test, and this package.
    pub(crate) fn small(test: &str, package: &str) -> Self {
        Self::new(test).made_small(package)
    }

    /// Adds the files of [`Place::small`].
    pub(crate) fn made_small(self, package: &str) -> Self {
        self.write(
            "stack.yaml",
            format!(
                "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    environment: {{ COLOUR: blue }}\n    \
                 volumes: [\"state:/srv/state\"]\nvolumes: {{ state: }}\n"
            ),
        );
        self.write(
            "testplan.yaml",
            "testplan: small\ntests:\n  - name: the app answers\n    exec: { service: app, run: echo up }\n    \
             expect: { stdout: up }\n",
        );
        self.write("package/deploy.yaml", package);
        self.rehearsal("");
        self
    }

    /// Writes the rehearsal over the usual file names, with more keys behind.
    pub(crate) fn rehearsal(&self, more: &str) {
        let name = &self.name;
        self.write(
            "rehearsal.yaml",
            format!(
                "rehearsal: {name}\nstack: stack.yaml\npackage: package\ntestplan: testplan.yaml\n\
                 bastion: {{ image: \"{BASE}\", environment: {{ GREETING: hello }} }}\n{more}"
            ),
        );
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("below the place")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// A command that reports into this place, as JSON lines.
    pub(crate) fn command(&self, command: &str, rehearsal: &Path) -> Command {
        let mut made = rehearse();
        made.arg(command).arg(rehearsal);
        made.args(["--format", "json", "--report-dir"])
            .arg(self.path("reports"));
        made
    }

    /// Runs the rehearsal of this place to its end.
    pub(crate) fn run(&self, more: &[&str]) -> Ran {
        let mut command = self.command("run", &self.path("rehearsal.yaml"));
        command.args(more);
        Live::start(command).finish()
    }

    /// Checks the backups of this place's rehearsal.
    pub(crate) fn backup_check(&self) -> Ran {
        Live::start(self.command("backup-check", &self.path("rehearsal.yaml"))).finish()
    }
}

/// A run of the product that goes on.
pub(crate) struct Live {
    child: Option<Child>,
    lines: BufReader<ChildStdout>,
    stderr: tempfile::NamedTempFile,
    events: Vec<Event>,
    text: String,
}

impl Drop for Live {
    /// Only after a panic: a test that goes well waits for its runs.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if let Some(run) = run_of(&self.events) {
                let run = run.to_owned();
                let _ = engine(async |engine| engine.remove_run(&run).await);
            }
        }
    }
}

impl Live {
    pub(crate) fn start(mut command: Command) -> Self {
        let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
        let errors: File = stderr.reopen().expect("the temporary file");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the built program can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self {
            child: Some(child),
            lines,
            stderr,
            events: Vec::new(),
            text: String::new(),
        }
    }

    pub(crate) fn run(&self) -> &str {
        run_of(&self.events).expect("the first event names the run")
    }

    fn process(&mut self) -> &mut Child {
        self.child
            .as_mut()
            .expect("the process was not awaited yet")
    }

    fn next(&mut self) -> Option<&Event> {
        let mut line = String::new();
        let read = self
            .lines
            .read_line(&mut line)
            .expect("standard output can be read");
        if read == 0 {
            return None;
        }
        self.text.push_str(&line);
        match serde_json::from_str(&line) {
            Ok(event) => self.events.push(event),
            Err(error) => panic!("standard output has a line that is no event: {error}: {line}"),
        }
        self.events.last()
    }

    /// Waits for an event.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&EventKind) -> bool) {
        while let Some(event) = self.next() {
            if wanted(&event.kind) {
                return;
            }
        }
        panic!("the run ended before {what}: {}", self.explained());
    }

    /// Waits until a step of the package has written a line.
    pub(crate) fn until_output(&mut self, wanted: &str) {
        self.until(wanted, |kind| {
            matches!(kind, EventKind::OutputLine { stage: Stage::Deploy, line, .. } if line == wanted)
        });
    }

    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.process().id()).ok();
        let pid = pid
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    fn explained(&self) -> String {
        let errors = std::fs::read_to_string(self.stderr.path()).unwrap_or_default();
        format!("{}\n{errors}", self.text)
    }

    /// Reads the run to its end.
    pub(crate) fn finish(mut self) -> Ran {
        while self.next().is_some() {}
        let status = self.process().wait().expect("the process is ours");
        self.child = None;
        Ran {
            code: status.code(),
            stderr: std::fs::read_to_string(self.stderr.path()).unwrap_or_default(),
            events: std::mem::take(&mut self.events),
        }
    }
}

fn run_of(events: &[Event]) -> Option<&str> {
    events.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { run, .. } => Some(run.as_str()),
        _ => None,
    })
}

/// A run of the product that has ended.
pub(crate) struct Ran {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) events: Vec<Event>,
}

impl Ran {
    pub(crate) fn run(&self) -> &str {
        match run_of(&self.events) {
            Some(run) => run,
            None => panic!("there is no run: {}", self.stderr),
        }
    }

    /// Where record, logs and reports lie.
    pub(crate) fn dir(&self) -> PathBuf {
        let dir = self.events.iter().find_map(|event| match &event.kind {
            EventKind::RunStarted { dir, .. } => Some(PathBuf::from(dir)),
            _ => None,
        });
        dir.expect("the first event names the folder")
    }

    pub(crate) fn record(&self) -> Record {
        Record::read(&self.dir()).expect("a finished run has a record")
    }

    /// The verdict of the terminal event.
    pub(crate) fn verdict(&self) -> &Verdict {
        match self.events.last().map(|event| &event.kind) {
            Some(EventKind::RunFinished { verdict, .. }) => verdict,
            other => panic!("the last event is {other:?}\n{}", self.stderr),
        }
    }

    /// Checks exit code and verdict at once; what the run said is the message.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, outcome: Outcome, owner: Option<Owner>) -> &Self {
        let verdict = self.verdict();
        assert_eq!(
            (self.code, verdict.outcome, verdict.owner),
            (Some(code), outcome, owner),
            "{}: {verdict:#?}\n{:#?}\n{}",
            self.run(),
            self.wrong_cases(),
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn expect_passed(&self) -> &Self {
        self.expect(0, Outcome::Passed, None).expect_rolled_back()
    }

    /// The rollback was proved, and nothing of the run is left in the engine.
    #[track_caller]
    pub(crate) fn expect_rolled_back(&self) -> &Self {
        let rollback = &self.verdict().rollback;
        assert!(
            matches!(rollback, Rollback::Proved { seconds } if *seconds > 0.0),
            "{rollback:?}"
        );
        let print = self.record().fingerprints;
        assert!(!print["snapshot"].is_empty());
        assert_eq!(print["snapshot"], print["rollback"]);
        self.expect_nothing_left()
    }

    #[track_caller]
    pub(crate) fn expect_nothing_left(&self) -> &Self {
        assert_eq!(left_of(self.run()), [], "of {}", self.run());
        self
    }

    /// The names of the cases that have failed.
    pub(crate) fn failed_cases(&self) -> Vec<&str> {
        self.cases()
            .filter(|(_, case)| case.status == CaseStatus::Failed)
            .map(|(_, case)| case.name.as_str())
            .collect()
    }

    /// All cases in the order in which they ended.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (Stage, &Case)> {
        self.events.iter().filter_map(|event| match &event.kind {
            EventKind::CaseFinished { stage, case } => Some((*stage, case)),
            _ => None,
        })
    }

    pub(crate) fn case(&self, suite: &str, name: &str) -> &Case {
        let found = self
            .cases()
            .find(|(_, case)| case.suite == suite && case.name == name);
        match found {
            Some((_, case)) => case,
            None => panic!(
                "no case `{name}` in {suite}: {:#?}",
                self.cases()
                    .map(|(_, case)| (&case.suite, &case.name))
                    .collect::<Vec<_>>()
            ),
        }
    }

    fn wrong_cases(&self) -> Vec<&Case> {
        use rehearsal::event::CaseStatus::{Passed, Skipped};
        self.cases()
            .map(|(_, case)| case)
            .filter(|case| !matches!(case.status, Passed | Skipped))
            .collect()
    }

    /// How a stage ended; `None` where it was not reached.
    pub(crate) fn stage(&self, wanted: Stage) -> Option<&StageOutcome> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::StageFinished { stage, outcome, .. } if *stage == wanted => Some(outcome),
            _ => None,
        })
    }

    /// Why a stage went wrong.
    #[track_caller]
    pub(crate) fn reason(&self, stage: Stage) -> &str {
        match self.stage(stage) {
            Some(StageOutcome::Bad { reason, .. }) => reason,
            other => panic!("{stage} ended as {other:?}"),
        }
    }

    /// What a step of the package wrote, by `component/step`.
    pub(crate) fn output_of(&self, wanted: &str) -> Vec<&str> {
        let lines = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::OutputLine { source, line, .. } if source == wanted => Some(line.as_str()),
            _ => None,
        });
        lines.collect()
    }

    /// From a volume to whether its base was reused.
    pub(crate) fn bases(&self) -> BTreeMap<&str, bool> {
        let bases = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Base { volume, reused, .. } => Some((volume.as_str(), *reused)),
            _ => None,
        });
        bases.collect()
    }
}

/// The engine's socket, unless it is reached in another way.
pub(crate) fn socket() -> Option<String> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => host.strip_prefix("unix://").map(str::to_owned),
        _ => Some("/var/run/docker.sock".to_owned()),
    }
}

/// An engine's socket on a port of the loopback, for as long as this lives.
pub(crate) struct TcpProxy {
    address: std::net::SocketAddr,
}

impl TcpProxy {
    pub(crate) fn to(socket: &Path) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let socket = socket.to_owned();
        // Ends with the test binary; a connection ends with either of its ends.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let server = std::os::unix::net::UnixStream::connect(&socket).expect("the engine");
                let (from, to) = (client.try_clone(), server.try_clone());
                let (mut from, mut to) = (from.expect("a copy"), to.expect("a copy"));
                let (mut client, mut server) = (client, server);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut server, &mut client);
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address }
    }

    pub(crate) fn host(&self) -> String {
        format!("tcp://{}", self.address)
    }
}
