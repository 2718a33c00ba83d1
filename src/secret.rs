//! Secrets that the rehearsal names and never holds. Nothing that prints can print one.

use std::collections::BTreeMap;

use crate::plan::model::Secret;

/// The values of a rehearsal's secrets.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<Secret, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Remembers a value.
    pub fn insert(&mut self, secret: Secret, value: String) {
        self.0.insert(secret, value);
    }

    /// The value of a secret that the plan names.
    pub fn get(&self, secret: &Secret) -> Option<&str> {
        self.0.get(secret).map(String::as_str)
    }

    /// Every value, for whoever has to hide them.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let mut secrets = Secrets::default();
        let name = Secret::Environment("PASSWORD".to_owned());
        secrets.insert(name.clone(), "hunter2".to_owned());
        assert_eq!(secrets.get(&name), Some("hunter2"));
        assert_eq!(format!("{secrets:?}"), "1 secrets");
    }
}
