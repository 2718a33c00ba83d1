//! A secret in Base64 (plain and URL-safe), Base32 (RFC 4648, both alphabets) and hexadecimal without blanks, wherever it
//! begins in a longer text.
//!
//! Six bytes of it in a row are found, in Base32 seven, however the encoded text was wrapped.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// The alphabets of Base32, in the order of RFC 4648.
const BASE32: [&[u8; 32]; 2] = [
    b"abcdefghijklmnopqrstuvwxyz234567",
    b"0123456789abcdefghijklmnopqrstuv",
];

/// Adds the pieces of the forms in which the case of a letter counts: eight characters hold six bytes.
pub(super) fn add_base64(forms: &mut BTreeSet<String>, secret: &[u8]) {
    for alphabet in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let encoded = alphabet.encode(shifted(secret, before));
            add_pieces(forms, middle(&encoded, secret.len(), before, 6), 1, 8);
        }
    }
}

/// Adds all of it in Base64 and hexadecimal.
pub(super) fn add_whole(forms: &mut BTreeSet<String>, secret: &[u8]) {
    for alphabet in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let encoded = alphabet.encode(shifted(secret, before));
            forms.insert(middle(&encoded, secret.len(), before, 6).to_owned());
        }
    }
    let hex = crate::digest::hex(secret);
    forms.insert(hex.to_uppercase());
    forms.insert(hex);
}

/// Adds those in which it does not. Six bytes are twelve digits, and ten characters of Base32 hold 50 bits.
pub(super) fn add_in_any_case(forms: &mut BTreeSet<String>, secret: &[u8]) {
    add_pieces(forms, &crate::digest::hex(secret), 2, 6);
    for alphabet in BASE32 {
        for before in 0..5 {
            let encoded = base32(&shifted(secret, before), alphabet);
            // By pairs: half the pieces, for one character more that has to be there.
            add_pieces(forms, middle(&encoded, secret.len(), before, 5), 2, 5);
        }
    }
}

/// Adds every piece of so many units, each of so many characters, of which more than half are different; and all of it
/// where they do not make it up.
fn add_pieces(forms: &mut BTreeSet<String>, encoded: &str, unit: usize, piece: usize) {
    let units: Vec<&[u8]> = encoded.as_bytes().chunks(unit).collect();
    let mut covered = 0;
    for (start, window) in units.windows(piece).enumerate() {
        let different: BTreeSet<&&[u8]> = window.iter().collect();
        if different.len() * 2 <= piece {
            continue;
        }
        let end = encoded.len().min((start + piece) * unit);
        forms.extend(encoded.get(start * unit..end).map(str::to_owned));
        if start <= covered {
            covered = start + piece;
        }
    }
    if covered < units.len() {
        forms.insert(encoded.to_owned());
    }
}

fn shifted(bytes: &[u8], before: usize) -> Vec<u8> {
    let mut shifted = vec![0; before];
    shifted.extend_from_slice(bytes);
    shifted
}

/// The characters of an encoded text that depend on the secret alone, whatever stands before and behind it.
fn middle(encoded: &str, length: usize, before: usize, bits: usize) -> &str {
    let first = (before * 8).div_ceil(bits);
    let last = (before + length) * 8 / bits;
    encoded.get(first..last).unwrap_or_default()
}

/// Without padding: the characters of it do not depend on the secret alone.
fn base32(bytes: &[u8], alphabet: &[u8; 32]) -> String {
    let bit = |at: usize| {
        bytes
            .get(at / 8)
            .is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
    };
    (0..(bytes.len() * 8).div_ceil(5))
        .map(|at| (0..5).fold(0, |value, of| value * 2 + usize::from(bit(at * 5 + of))))
        .map(|value| char::from(alphabet[value]))
        .collect()
}
