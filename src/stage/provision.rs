//! The network, the agent and the images of staging.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::isolate::{Moment, Outside};
use super::run::Run;
use super::{Bad, takeover};
use crate::backup::BackupFacts;
use crate::engine::{EngineError, ImageFacts, Obtained, Purpose};
use crate::event::{EventKind, Output, Owner, Stage};
use crate::plan::model::{Emulates, Image, Target};
use crate::restore::rootfs::Imported;
use crate::restore::tool_image;
use crate::staging::{Ground, Staging, StagingNetwork};
use crate::state::{BaseStore, Branching, StateStore};

/// Volumes that nothing restored begin as branches of this one, which is always empty.
const EMPTY_VOLUME: &str = "rehearse-empty";

/// Is there once an overlay volume was mounted on this engine; trying again in each run would tell nothing new.
const OVERLAY_WORKS: &str = "rehearse-overlay-works";

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let ground = run.ground()?.clone();
    let agent_image = run
        .order
        .agent
        .ensure_image(&ground.engine, &ground.facts.architecture)
        .await?;
    for emulator in &ground.plan.emulators {
        if let Emulates::Image(of) = &emulator.does {
            image(&ground, &format!("emulator `{}`", emulator.name), &of.image).await?;
        }
    }
    let ready = run.taken.as_mut().and_then(|taken| taken.network.take());
    // In a place that was ready, what stands outside is the next stage's, which has the services to start meanwhile.
    let opens_outside = ready.is_none();
    let network = async {
        match ready {
            Some(network) => Ok(network),
            None => StagingNetwork::open(&ground, &agent_image, run.order.without_isolation).await,
        }
    };
    let branching = match &run.order.takeover {
        Some(takeover) => Some(takeover.kept.branching),
        None => run.order.branching,
    };
    let state = probe(&ground, &agent_image, branching);
    let images = async {
        match &run.order.takeover {
            Some(takeover) => Ok(takeover::images(takeover)),
            None => images(&ground, &run.backups).await,
        }
    };
    let outside = async {
        match opens_outside {
            true => Outside::open(&ground, &agent_image, Moment::Before)
                .await
                .map(Some),
            false => Ok(None),
        }
    };
    let (network, state, images, outside) = tokio::join!(network, state, images, outside);
    let (network, state, (images, imported)) = (network?, state?, images?);
    run.imported = imported;
    if run.order.takeover.is_none() {
        run.tools = tools(&ground, &images).await?;
    }
    run.outside = outside?;
    ground.recorder.emit(EventKind::EngineFound {
        version: ground.facts.version.clone(),
        api: ground.facts.api.clone(),
        storage: ground.facts.storage.clone(),
        branches: state.branching.name().to_owned(),
    });
    run.staging = Some(Staging {
        bases: BaseStore::new(
            ground.engine.clone(),
            ground.labels.clone(),
            agent_image.clone(),
        ),
        state: state.named(ground.names.stem()),
        ground,
        agent_image,
        network: Arc::new(network),
        images,
    });
    Ok(())
}

async fn probe(
    ground: &Ground,
    agent_image: &str,
    mut wanted: Option<Branching>,
) -> Result<StateStore, EngineError> {
    let shared = |name| {
        let engine = &ground.engine;
        engine.create_volume(name, &ground.labels, Purpose::Shared, Default::default())
    };
    let empty = shared(EMPTY_VOLUME).await?;
    if wanted.is_none() && ground.engine.volume(OVERLAY_WORKS).await?.is_some() {
        wanted = Some(Branching::Overlay);
    }
    let store = StateStore::probe(
        ground.engine.clone(),
        ground.labels.clone(),
        agent_image.to_owned(),
        &empty,
        wanted,
    )
    .await?;
    if wanted.is_none() && store.branching == Branching::Overlay {
        shared(OVERLAY_WORKS).await?;
    }
    Ok(store)
}

/// The frozen content of a volume that nothing restored.
pub(super) async fn empty_volume(ground: &Ground) -> Result<crate::state::Frozen, EngineError> {
    let empty = ground
        .engine
        .create_volume(
            EMPTY_VOLUME,
            &ground.labels,
            Purpose::Shared,
            Default::default(),
        )
        .await?;
    Ok(crate::state::Frozen::of(&empty))
}

/// The services' images, and how those came to be there that backups make, by the restore's index.
pub(super) type Images = (BTreeMap<String, ImageFacts>, BTreeMap<usize, Imported>);

/// One image after the other: builds share layers, and the second finds what the first has made.
/// A service that a root filesystem is restored into has the image that the backup makes.
async fn images(ground: &Ground, backups: &[BackupFacts]) -> Result<Images, Bad> {
    let mut images = BTreeMap::new();
    let mut imported = BTreeMap::new();
    for service in &ground.plan.stack.services {
        let into = Target::Image(service.name.clone());
        let mut restores = ground.plan.restores.iter().zip(backups).enumerate();
        let rootfs = restores.find(|(_, (restore, _))| restore.into == into);
        if let Some((member, (restore, facts))) = rootfs {
            let (image, how) = crate::restore::rootfs::import(ground, restore, facts).await?;
            images.insert(service.name.clone(), image);
            imported.insert(member, how);
            continue;
        }
        let facts = image(
            ground,
            &format!("service `{}`", service.name),
            &service.image,
        )
        .await?;
        images.insert(service.name.clone(), facts);
    }
    if let (Some(bastion), Some(_)) = (&ground.plan.bastion, &ground.plan.package) {
        image(ground, "the bastion", &bastion.image).await?;
    }
    Ok((images, imported))
}

/// The ids of the images whose tools restore, by the restore's index: they are part of what a base is called, so they have
/// to be known before it is looked for.
async fn tools(
    ground: &Ground,
    images: &BTreeMap<String, ImageFacts>,
) -> Result<BTreeMap<usize, String>, Bad> {
    let mut tools = BTreeMap::new();
    for (member, restore) in ground.plan.restores.iter().enumerate() {
        let service = restore.service().and_then(|service| images.get(service));
        if let Some(id) = tool_image::of(ground, restore, service).await? {
            tools.insert(member, id);
        }
    }
    Ok(tools)
}

/// Makes sure that one image is present; what a pull or a build says goes to the reader as it comes.
pub(super) async fn image(ground: &Ground, whose: &str, image: &Image) -> Result<ImageFacts, Bad> {
    let source = format!("image {}", image.reference);
    let got = ground
        .engine
        .ensure_image(image, |line| {
            ground.recorder.emit(EventKind::OutputLine {
                stage: Stage::Provision,
                source: source.clone(),
                output: Output::Stdout,
                line,
            });
        })
        .await;
    match got {
        Ok((facts, Obtained::Present)) => Ok(facts),
        Ok((facts, Obtained::Pulled)) => {
            ground.note(format!("pulled {}", image.reference));
            Ok(facts)
        }
        Ok((facts, Obtained::Built)) => {
            ground.note(format!("built {}", image.reference));
            Ok(facts)
        }
        // The engine answered: what it could not do is what the stack asked for.
        Err(error) => {
            let mut bad = Bad::from(&error);
            bad.owner = Owner::Stack;
            bad.reason = format!("the image of {whose} is not to be had: {error}");
            Err(bad)
        }
    }
}
