//! How an emulator's container is made, and what is put into it.

use crate::agent::protocol::Emulation;
use crate::engine::{Attach, ContainerSpec};
use crate::plan::model::{Emulates, Emulator, ImageEmulator, Route, RouteBody};
use crate::staging::Ground;

/// Where its configuration lies in its container.
pub(super) const CONFIG: &str = "/emulate.json";

/// The container of an image that is somebody else's.
pub(super) fn of_image(
    ground: &Ground,
    container: &str,
    image: &ImageEmulator,
    attach: Attach,
) -> ContainerSpec {
    let mut spec = ContainerSpec::new(container, &image.image.reference, attach);
    spec.command = image.command.clone();
    spec.environment = image.environment.clone();
    spec.memory = ground.facts.most_memory();
    spec
}

/// The files of an emulator's container.
pub(super) fn configured(
    ground: &Ground,
    emulator: &Emulator,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = Vec::new();
    let emulation = match &emulator.does {
        Emulates::Http(http) => {
            let identity = match (&ground.authority, http.tls.is_empty()) {
                (_, true) => None,
                (Some(authority), false) => Some(authority.vouch(&emulator.hosts)?),
                (None, false) => return Err("the run has no authority for certificates".to_owned()),
            };
            let mut routes = Vec::new();
            for route in &http.routes {
                let mut route: Route = route.clone();
                if let RouteBody::File(path) = &route.body {
                    let content = std::fs::read(path)
                        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
                    let inside = format!("/answers/{}", files.len());
                    files.push((inside.clone(), content));
                    route.body = RouteBody::File(inside.into());
                }
                routes.push(route);
            }
            Emulation::Http {
                ports: http.ports.clone(),
                tls: http.tls.clone(),
                identity,
                routes,
            }
        }
        Emulates::Smtp(smtp) => Emulation::Smtp {
            ports: smtp.ports.clone(),
            host: emulator.hosts.first().cloned().unwrap_or_default(),
            accept: smtp.accept.clone(),
        },
        Emulates::Blackhole { ports } => Emulation::Blackhole {
            ports: ports.clone(),
        },
        Emulates::Image(_) => return Err("it is an image of its own".to_owned()),
    };
    let config = serde_json::to_vec(&emulation).map_err(|error| error.to_string())?;
    files.push((CONFIG.to_owned(), config));
    Ok(files)
}
