//! Helper containers that do one thing and go.

use super::error::EngineError;
use super::{ContainerSpec, Engine, Labels};

impl Engine {
    /// Makes and starts a container, waits for its end, reads its standard output and removes it.
    ///
    /// # Errors
    /// When it cannot be started, or ended with a code other than 0: then with its last lines.
    pub async fn run_once(
        &self,
        spec: &ContainerSpec,
        labels: &Labels,
    ) -> Result<String, EngineError> {
        self.create_container(spec, labels).await?;
        let result = self.start_and_read(&spec.name).await;
        let removed = self.remove_container(&spec.name).await;
        let output = result?;
        removed?;
        Ok(output)
    }

    async fn start_and_read(&self, name: &str) -> Result<String, EngineError> {
        self.start_container(name).await?;
        let exit_code = self.wait_container(name).await?;
        if exit_code == 0 {
            return self.container_stdout(name).await;
        }
        let said = self.container_log(name, Some(5)).await?;
        Err(EngineError::new(
            format!("run helper `{name}`"),
            format!("exit code {exit_code}: {}", said.trim()),
        ))
    }
}
