//! A path's own branch, network and containers, and what is done there on more than one course.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::wrong::{Failed, Wrong};
use crate::check::model::When;
use crate::engine::{Attach, ContainerSpec, VolumeAt};
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::plan::model::{Component, DeployPath, Package, Plan};
use crate::report::Recorder;
use crate::stage::run::{Run, out_of_order};
use crate::stage::suite::{Shown, run_these, tests_at};
use crate::stage::surrounded::Watched;
use crate::stage::{Bad, conductor, deploy, emulators, handed_over, standing};
use crate::staging::{OneShots, Staging, StagingNetwork};
use crate::state::agent;

/// The name of the component that the package's own rollback is shown as.
pub(super) const ROLLBACK: &str = "rollback";

/// Lines about failing cases that come with the path's own case.
const LINES: usize = 20;

/// A path that is being walked: a run of its own, from the snapshot.
pub(super) struct Walk {
    /// Its own network, generation and recorder; the deploy that it makes is that of its own plan.
    pub run: Run,
}

/// What the agent says of one folder.
#[derive(serde::Deserialize)]
struct Size {
    bytes: u64,
}

/// The same plan with this package. Whether the site is away too long, and a table locked, was judged of the deploy itself:
/// side by side with others everything takes longer.
fn unwatched(plan: &Plan, mut package: Package) -> Plan {
    let mut plan = plan.clone();
    plan.limits.downtime = None;
    if let Some(testplan) = &mut plan.testplan {
        testplan.availability.clear();
    }
    package.declares.max_downtime = None;
    package.declares.max_lock = None;
    plan.package = Some(package);
    plan
}

/// The names of what a path makes; the second is for a path that needs another branch.
pub(super) fn parts(number: usize) -> [String; 2] {
    [format!("p{number}"), format!("p{number}b")]
}

/// True for the name of a part that a path makes.
pub(super) fn is_part(name: &str) -> bool {
    name.strip_prefix('p')
        .map(|rest| rest.strip_suffix('b').unwrap_or(rest))
        .is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        })
}

/// Removes all that one part of a path made.
pub(super) async fn clear(main: &Run, part: &str) -> Result<(), Bad> {
    let ground = main.ground()?;
    let engine = &ground.engine;
    // What was broken off may have asked for something that the engine is still making.
    engine.all_made().await;
    let made = engine.resources_of_part(ground.labels.run(), part).await?;
    Ok(engine.remove_resources(made).await?)
}

impl Walk {
    /// Opens a network, and starts the services on branches of the snapshot. What is deployed there is `package`.
    pub(super) async fn open(
        main: &Run,
        part: &str,
        path: &DeployPath,
        package: Package,
    ) -> Result<Self, Wrong> {
        let snapshot = main.snapshot.as_ref().ok_or_else(out_of_order)?;
        let staging = main.staging()?;
        let plan = Arc::new(unwatched(&main.order.plan, package));
        let recorder = Arc::new(Recorder::on_path(&main.recorder, &path.name));
        let mut ground = staging
            .ground
            .path(part, Arc::clone(&plan), Arc::clone(&recorder));
        if let Some(judged) = &main.order.plan.package
            && deploy::needs_bastion(judged)
        {
            ground.filled = Some(staging.ground.package_volume());
        }
        let network =
            StagingNetwork::open(&ground, &staging.agent_image, main.order.without_isolation)
                .await?;
        let mut run = Run::new(main.order.on_path(plan), recorder);
        run.on_path = true;
        run.habits = main.habits.clone().with(&main.recorder.events());
        run.ground = Some(ground.clone());
        run.baseline_seen.clone_from(&main.baseline_seen);
        run.snapshot = Some(Arc::clone(snapshot));
        run.staging = Some(Staging {
            state: staging.state.part(ground.labels.clone()),
            network: Arc::new(network),
            ground,
            ..staging.clone()
        });
        // The same services on the same snapshot were ready before the deploy: that they are not is no fault of the
        // package.
        let own = run.staging()?;
        let prepared = own
            .prepare(
                part,
                snapshot.blueprints.clone(),
                &snapshot.frozen,
                OneShots::Done,
            )
            .await;
        let generation =
            prepared.map_err(|(_, error)| Wrong::Unseen(Bad::start(&error, Owner::Staging)))?;
        // The bastion is found again when the deploy asks for it.
        let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
        let (started, bastion) =
            tokio::join!(own.start(&generation), deploy::early_bastion(&run, package));
        started.map_err(|error| Wrong::Unseen(Bad::start(&error, Owner::Staging)))?;
        bastion?;
        run.generation = Some(generation);
        Ok(Self { run })
    }

    /// The package that is deployed here.
    pub(super) fn package(&self) -> Result<Package, Bad> {
        self.run.order.plan.package.clone().ok_or_else(out_of_order)
    }

    /// Says at what the path is: background tasks name it in their events.
    pub(super) fn at(&self, stage: Stage) {
        if let Some(ground) = &self.run.ground {
            *ground.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        }
    }

    /// The whole deploy, unassisted, inside its limit.
    pub(super) async fn deploy(&mut self) -> Result<(), Wrong> {
        self.at(Stage::Deploy);
        let before = self.run.recorder.events().len();
        // Its steps are held to their limit there.
        let limit = self.run.order.plan.limits.deploy + conductor::SLACK;
        let ended = tokio::time::timeout(limit, deploy::run(&mut self.run)).await;
        deploy::end(&mut self.run).await?;
        match ended {
            Err(_) => Err(Wrong::Unseen(Bad::new(
                Owner::Engine,
                format!(
                    "the deploy did not come to its end within {} s",
                    limit.as_secs()
                ),
            ))),
            Ok(Err(bad)) => {
                let component = self.last_component();
                Err(match Wrong::from(bad) {
                    Wrong::Failed(failed) => Wrong::Failed(Failed {
                        output: self.not_passed_since(before),
                        component,
                        ..failed
                    }),
                    unseen @ Wrong::Unseen(_) => unseen,
                })
            }
            Ok(Ok(())) => self.no_case_failed_since(before),
        }
    }

    fn last_component(&self) -> Option<String> {
        let events = self.run.recorder.events();
        events.into_iter().rev().find_map(|event| match event.kind {
            EventKind::StepStarted { component, .. } => Some(component),
            _ => None,
        })
    }

    /// What else the deploy stage judges, besides its steps.
    fn no_case_failed_since(&self, before: usize) -> Result<(), Wrong> {
        let events = self.run.recorder.events();
        let with = |status: CaseStatus| {
            events
                .iter()
                .skip(before)
                .find_map(|event| match &event.kind {
                    EventKind::CaseFinished { case, .. } if case.status == status => Some(format!(
                        "`{}` ({}): {}",
                        case.name,
                        case.suite,
                        case.message.as_deref().unwrap_or_default()
                    )),
                    _ => None,
                })
        };
        if let Some(said) = with(CaseStatus::Error) {
            return Err(Wrong::Unseen(Bad::new(
                Owner::Engine,
                format!("it could not be determined: {said}"),
            )));
        }
        match with(CaseStatus::Failed) {
            Some(said) => Err(Wrong::failed(said)),
            None => Ok(()),
        }
    }

    /// Every case that did not pass since then, a line each.
    pub(super) fn not_passed_since(&self, before: usize) -> Option<String> {
        let events = self.run.recorder.events();
        let lines: Vec<String> = events
            .iter()
            .skip(before)
            .filter_map(|event| match &event.kind {
                EventKind::CaseFinished { case, .. } => {
                    let word = match case.status {
                        CaseStatus::Failed => "failed",
                        CaseStatus::Error => "could not be determined",
                        CaseStatus::Passed | CaseStatus::Skipped | CaseStatus::Warned => {
                            return None;
                        }
                    };
                    let why = case.message.as_deref().unwrap_or_default();
                    Some(format!("{}: {} {word}: {why}", case.suite, case.name))
                }
                _ => None,
            })
            .take(LINES)
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// The tests after the deploy, and every service as it stands.
    pub(super) async fn verify(&self) -> Result<(), Wrong> {
        self.tests(Stage::Verify, |when| when.contains(&When::Verify))
            .await
    }

    /// The tests of the site as it was before the deploy.
    pub(super) async fn as_before(&self) -> Result<(), Wrong> {
        self.tests(Stage::Rollback, |when| when.contains(&When::Rollback))
            .await
    }

    /// The tests that hold before the deploy and after it, and so in between.
    pub(super) async fn in_between(&self) -> Result<(), Wrong> {
        self.tests(Stage::Verify, |when| {
            when.contains(&When::Verify) && when.contains(&When::Rollback)
        })
        .await
    }

    async fn tests(&self, stage: Stage, wanted: impl Fn(&[When]) -> bool) -> Result<(), Wrong> {
        self.at(stage);
        let before = self.run.recorder.events().len();
        let mut tests = tests_at(&self.run, When::Verify);
        for test in tests_at(&self.run, When::Rollback) {
            if !tests.iter().any(|known| known.name == test.name) {
                tests.push(test);
            }
        }
        tests.retain(|test| wanted(&test.when));
        let limit = self.run.order.plan.limits.start + conductor::tests_limit(&self.run);
        let ran = tokio::time::timeout(limit, run_these(&self.run, stage, &tests)).await;
        let shown: Shown = ran.map_err(|_| {
            Wrong::Unseen(Bad::new(
                Owner::Testplan,
                format!("the tests did not end within {} s", limit.as_secs()),
            ))
        })??;
        let down = standing::first_down(&self.run, stage).await?;
        if stage == Stage::Verify
            && let Some(bad) = emulators::judge(&self.run, stage).await?
        {
            return Err(bad.into());
        }
        let output = || self.not_passed_since(before);
        match (shown.sentence(tests.len()), down) {
            (None, None) => Ok(()),
            (Some(sentence), _) if !shown.failed.is_empty() => Err(Wrong::failed(sentence)),
            (_, Some(down)) => Err(Wrong::failed(down)),
            (Some(sentence), None) => Err(Wrong::Unseen(Bad::new(Owner::Testplan, sentence))),
        }
        .map_err(|wrong: Wrong| wrong.with_output(output()))
    }

    /// The package's own way back, until the services are healthy again. Returns what it took.
    pub(super) async fn own_rollback(&mut self) -> Result<Duration, Wrong> {
        let package = self.package()?;
        self.at(Stage::Deploy);
        deploy::end(&mut self.run).await?;
        let component = Component {
            name: ROLLBACK.to_owned(),
            after: Vec::new(),
            steps: package.rollback.clone(),
        };
        let bastion = deploy::open_bastion(&mut self.run, &package, component.steps.iter()).await?;
        let limit = self.run.order.plan.limits.deploy;
        let before = self.run.recorder.events().len();
        self.run.watched = Watched::new();
        let begun = Instant::now();
        let steps = deploy::steps(&mut self.run, &component, bastion.as_ref());
        let ended = tokio::time::timeout(limit, steps).await;
        if ended.is_err() {
            deploy::end(&mut self.run).await?;
            return Err(Wrong::failed(format!(
                "the package's own rollback did not end within {} s (limits.deploy)",
                limit.as_secs()
            )));
        }
        if let Some(bad) = ended.map_err(|_| out_of_order())?? {
            return Err(bad.into());
        }
        let staging = self.run.staging()?;
        for running in &self.run.generation()?.services {
            if !running.blueprint.service.one_shot {
                let ready = staging.await_ready(running).await;
                ready.map_err(|error| {
                    Wrong::from(error).after("after the package's own rollback ")
                })?;
            }
        }
        let took = begun.elapsed();
        deploy::end(&mut self.run).await?;
        if let Some(bad) = emulators::judge(&self.run, Stage::Deploy).await? {
            return Err(Wrong::from(bad).after("during the package's own rollback "));
        }
        handed_over::unchanged(&mut self.run, "during").await?;
        let mut events = self.run.recorder.events();
        let since = events.split_off(before);
        // What was asked for outside by then is nothing that the way back does.
        let habits = std::mem::take(&mut self.run.habits);
        self.run.habits = habits.with_all(&events);
        deploy::unassisted_suite(&self.run, &package, &since, took).await?;
        if let Some(bad) = deploy::deviation(&self.run) {
            return Err(bad.into());
        }
        self.no_case_failed_since(before)
            .map_err(|wrong| wrong.after("during the package's own rollback "))?;
        match package.declares.max_rollback {
            Some(most) if took > most => Err(Wrong::failed(format!(
                "the package's own rollback took {:.1} s, more than declares.max_rollback ({:.1} s)",
                took.as_secs_f64(),
                most.as_secs_f64()
            ))),
            Some(_) | None => Ok(took),
        }
    }

    /// What the branches of this path have written, in bytes on disk. That it could not be measured is no fault of
    /// anybody's.
    pub(super) async fn written(&self) -> Option<u64> {
        let staging = self.run.staging().ok()?;
        let generation = self.run.generation().ok()?;
        let ground = &staging.ground;
        let name = ground.names.of("size");
        let mut spec = ContainerSpec::new(name, &staging.agent_image, Attach::None);
        let mut command = agent(&["size"]);
        for (index, branch) in generation.branches.values().enumerate() {
            let target = format!("/v/{index}");
            command.push(target.clone());
            spec.volumes.push(VolumeAt {
                volume: branch.volumes().pop()?,
                target,
                read_only: true,
            });
        }
        if spec.volumes.is_empty() {
            return Some(0);
        }
        spec.command = Some(command);
        let output = ground.engine.run_once(&spec, &ground.labels).await.ok()?;
        let sizes: Vec<Size> = output
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .ok()?;
        Some(sizes.iter().map(|size| size.bytes).sum())
    }

    /// Keeps the logs of a path that did not pass.
    pub(super) async fn keep_logs(&self) {
        if let Ok(generation) = self.run.generation()
            && let Err(bad) = self.run.save_logs(generation).await
            && let Ok(ground) = self.run.ground()
        {
            ground.note(format!("a log could not be saved: {bad}"));
        }
    }

    /// The services that a kill has ended run again, as their restart policy would have it. One that does not come up is
    /// seen by whatever is done next.
    pub(super) async fn start_again(&self) -> Result<(), Wrong> {
        let staging = self.run.staging()?;
        let engine = &staging.ground.engine;
        for running in &self.run.generation()?.services {
            if running.blueprint.service.one_shot {
                continue;
            }
            match engine.container_state(&running.container).await {
                Ok(state) if state.running => {}
                Ok(_) => {
                    if engine.start_container(&running.container).await.is_ok() {
                        let _ = staging.await_ready(running).await;
                    }
                }
                // It was killed while it was made anew: the deploy has to make it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The package with these components, in this order.
pub(super) fn with_components(package: &Package, names: &[String]) -> Result<Package, Bad> {
    let by_name: BTreeMap<&str, &Component> = package
        .components
        .iter()
        .map(|component| (component.name.as_str(), component))
        .collect();
    let components = names
        .iter()
        .map(|name| {
            by_name
                .get(name.as_str())
                .map(|known| Component::clone(known))
        })
        .collect::<Option<Vec<Component>>>()
        .ok_or_else(out_of_order)?;
    Ok(Package {
        components,
        ..package.clone()
    })
}
