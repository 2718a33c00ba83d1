//! Makes the place ready.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{LOOK, Next, TICKET, members, of_stem};
use crate::engine::Purpose;
use crate::event::{EventKind, Owner, Stage};
use crate::report::Recorder;
use crate::stage::isolate::{self, Moment, Outside};
use crate::stage::run::Run;
use crate::stage::takeover::{GENERATION, KeptStaging, blueprints};
use crate::stage::{Bad, fingerprint, provision};
use crate::staging::{Bastion, Generation, Ground, OneShots, Staging, StagingNetwork};
use crate::state::Branching;

/// A place that takes longer than this to make ready saves nobody's time.
const MAKING: Duration = Duration::from_secs(120);

/// Makes the place of the next try and writes it down, for whoever has the right to work in the staging. That it cannot be
/// made costs the next try a moment, and is said.
pub(in crate::stage::takeover) async fn make(
    run: &Run,
    ground: &Ground,
    cancel: &CancellationToken,
) {
    let (Ok(kept), Some(staging)) = (
        KeptStaging::read(&run.order.dir, ground.names.run()),
        &run.staging,
    ) else {
        return;
    };
    // A copy of the data for a try that may never come would cost what the data weighs. Emulators answer with
    // certificates of their run.
    let lacks = kept.branching == Branching::Copy || !ground.plan.emulators.is_empty();
    if lacks || cancel.is_cancelled() || run.order.without_isolation {
        return;
    }
    ground.note("makes ready the place of the next try (Ctrl-C leaves it out)".to_owned());
    let begun = Instant::now();
    let stem = ground.names.next();
    let making = made(run, staging, &kept, &stem);
    let broken_off = |why: String| Err(Bad::new(Owner::Engine, why));
    let made = tokio::select! {
        biased;
        made = tokio::time::timeout(MAKING, making) => {
            made.unwrap_or_else(|_| broken_off(format!("it took longer than {} s", MAKING.as_secs())))
        }
        () = cancel.cancelled() => broken_off("interrupted".to_owned()),
    };
    let written = match made {
        Ok(next) => KeptStaging {
            next: Some(next),
            ..kept
        }
        .write(&run.order.dir)
        .map_err(|error| Bad::new(Owner::Engine, error.to_string())),
        Err(bad) => Err(bad),
    };
    if let Err(bad) = written {
        ground.note(format!("the next try is not made ready: {bad}"));
        ground.engine.all_made().await;
        let removed = match of_stem(ground, &stem).await {
            Ok(left) => ground.engine.remove_resources(left).await,
            Err(error) => Err(error),
        };
        // The next try, or the sweep, removes what stays of it.
        if let Err(error) = removed {
            ground.note(error.to_string());
        }
        return;
    }
    run.recorder.emit(EventKind::Measured {
        what: "ready for the next try".to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
}

async fn made(run: &Run, staging: &Staging, kept: &KeptStaging, stem: &str) -> Result<Next, Bad> {
    let plan = &run.order.plan;
    let recorder = Arc::new(Recorder::new(Vec::new()));
    let ground = Ground {
        names: staging.ground.names.clone().on(stem),
        recorder: Arc::clone(&recorder),
        stage: Arc::new(Mutex::new(Stage::Provision)),
        addresses: Arc::default(),
        refused: watch::Sender::new(Vec::new()),
        killed: Arc::default(),
        ..staging.ground.clone()
    };
    let state = staging.state.clone().named(stem);
    let (network, branches, look) = tokio::join!(
        StagingNetwork::open(&ground, &staging.agent_image, false),
        state.branch(&kept.frozen, GENERATION),
        state.branch(&kept.frozen, LOOK)
    );
    let (network, branches, look) = (Arc::new(network?), branches?, look?);
    let staging = Staging {
        ground: ground.clone(),
        network: Arc::clone(&network),
        state,
        ..staging.clone()
    };
    let services = blueprints(kept, plan)?;
    let bastion = async {
        let Some(of) = &plan.bastion else {
            return Ok(None);
        };
        let image = provision::image(&ground, "the bastion", &of.image).await?;
        Bastion::waiting(&ground, &network, &image.id).await?;
        Ok::<_, Bad>(Some(image.id))
    };
    let (prepared, bastion, outside) = tokio::join!(
        staging.prepare_on(GENERATION, services.clone(), Ok(branches), OneShots::Done),
        bastion,
        Outside::open(&ground, &staging.agent_image, Moment::Before)
    );
    let generation = prepared.map_err(|(_, error)| Bad::start(&error, Owner::Engine))?;
    // Its cases are nobody's: the run that made the place has its verdict, and the one that takes it makes the proof anew.
    let mut prover = Run::new(run.order.on_path(Arc::clone(plan)), recorder);
    prover.ground = Some(ground.clone());
    prover.staging = Some(staging);
    isolate::run(&prover, &outside?).await?;
    let staging = prover.staging()?;
    let look_at = Generation::made(&ground.names, LOOK, services, look.clone());
    let prints = fingerprint::of_volumes(&prover, staging, &look_at).await?;
    let deploys = fingerprint::of_volumes(&prover, staging, &generation).await?;
    let mut frozen = kept.fingerprints.clone();
    frozen.retain(|part, _| fingerprint::is_of_files(part));
    if frozen != deploys {
        return Err(Bad::new(
            Owner::Engine,
            "its files are not as they were at the snapshot",
        ));
    }
    // The stack's files were given to the services' containers just now.
    let changed = kept.changed(plan, &run.order.files);
    let changed = changed.map_err(|error| Bad::new(Owner::Engine, error.to_string()))?;
    if let Some(what) = changed.into_iter().next() {
        return Err(Bad::new(
            Owner::Engine,
            format!("{what} since the snapshot"),
        ));
    }
    let ticket = ground.names.of(TICKET);
    ground
        .engine
        .create_volume(&ticket, &ground.labels, Purpose::Run, Default::default())
        .await?;
    let resources = of_stem(&ground, stem).await?;
    Ok(Next {
        stem: stem.to_owned(),
        branches: generation.branches,
        look,
        prints,
        agent: staging.agent_image.clone(),
        bastion: bastion?,
        members: members(&ground.engine, &resources).await?,
        resources: resources.iter().map(ToString::to_string).collect(),
    })
}
