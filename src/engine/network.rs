//! The isolated network.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::NetworkCreateRequest;

use super::error::{Doing, EngineError};
use super::{Engine, EngineFacts, Labels, Purpose};

/// A network as the engine sees it.
#[derive(Clone, Debug)]
pub struct NetworkFacts {
    /// The gateway addresses that the engine reserved, whether or not the host answers there.
    pub gateways: Vec<IpAddr>,
    /// From address to container name.
    pub members: HashMap<IpAddr, String>,
}

impl Engine {
    /// Makes an internal bridge network on which the host itself has no address. With `host_reachable` that last
    /// part is left out: only the test of the isolate stage wants it.
    ///
    /// # Errors
    /// When the engine has no free address range.
    pub async fn create_isolated_network(
        &self,
        name: &str,
        labels: &Labels,
        facts: &EngineFacts,
        host_reachable: bool,
    ) -> Result<(), EngineError> {
        let mut options = HashMap::new();
        if !host_reachable {
            // `internal` alone drops only what is forwarded: the host's own listeners answer on the gateway's
            // address (moby #47481). Engine 28 has a mode for it; older ones keep the bridge without an address.
            let (key, value) = if facts.has_isolated_gateway_mode() {
                ("com.docker.network.bridge.gateway_mode_ipv4", "isolated")
            } else {
                ("com.docker.network.bridge.inhibit_ipv4", "true")
            };
            options.insert(key.to_owned(), value.to_owned());
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            enable_ipv6: Some(false),
            options: Some(options),
            labels: Some(labels.of(Purpose::Run)),
            ..NetworkCreateRequest::default()
        };
        let docker = self.docker.clone();
        self.make(async move { docker.create_network(request).await }, || {
            format!("create network `{name}`")
        })
        .await?;
        Ok(())
    }

    /// A network's gateways and members.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn network(&self, name: &str) -> Result<NetworkFacts, EngineError> {
        let seen = self
            .docker
            .inspect_network(name, None)
            .await
            .doing(|| format!("inspect network `{name}`"))?;
        let gateways = seen
            .ipam
            .and_then(|ipam| ipam.config)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|range| range.gateway?.parse().ok())
            .collect();
        let members = seen
            .containers
            .unwrap_or_default()
            .into_values()
            .filter_map(|member| {
                let address = member.ipv4_address?;
                let address = address.split('/').next()?.parse().ok()?;
                Some((address, member.name?))
            })
            .collect();
        Ok(NetworkFacts { gateways, members })
    }

    /// Removes a network. One that is gone is fine.
    ///
    /// # Errors
    /// When a container is still attached.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let removed = self
            .docker
            .remove_network(name)
            .await
            .doing(|| format!("remove network `{name}`"));
        match removed {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}
