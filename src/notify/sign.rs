//! Signatures as the Standard Webhooks specification has them (standardwebhooks.com, version 1, symmetric).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What the receiver knows too. It has no `Debug` and no `Display`: nothing can print it by accident.
#[derive(Clone)]
pub struct Secret {
    key: Vec<u8>,
}

/// Why a text is no secret. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// It begins with `whsec_`, but no base64 follows.
    #[error("the secret begins with `whsec_`, but what follows is not base64")]
    NotBase64,
}

impl Secret {
    /// `whsec_` and base64, as the specification writes secrets; any other text is taken byte for byte. A line's end
    /// behind it, as files have one, does not belong to it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let key = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| SecretError::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { key })
    }

    /// The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`; the time is
    /// in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return String::new();
        };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}
